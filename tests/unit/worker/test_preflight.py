"""The checks of a worker at its start."""

from __future__ import annotations

import pytest
from celery.exceptions import ImproperlyConfigured

from worker import preflight


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_loses_downloads_is_refused(pool: str) -> None:
    """What to use instead is in the message."""
    with pytest.raises(ImproperlyConfigured, match="use threads or prefork"):
        preflight.refuse_pool(f"celery.concurrency.{pool}")


@pytest.mark.parametrize("pool", ["thread", "prefork", "solo"])
def test_other_pools_are_taken(pool: str) -> None:
    """Threads, processes and the pool of one."""
    preflight.refuse_pool(f"celery.concurrency.{pool}")
