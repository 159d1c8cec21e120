"""One download, without Redis and without Celery."""
