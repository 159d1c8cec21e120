"""Celery: the app, the download task, and what a worker process shares."""
