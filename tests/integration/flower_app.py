"""What ``celery -A`` loads for Flower in these tests: the worker, and Flower's defaults."""

from __future__ import annotations

from geodes_tasks import flowerconfig
from worker import app

__all__ = ["app"]

flowerconfig.configure()
