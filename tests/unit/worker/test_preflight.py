"""The checks of a worker at its start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import ImproperlyConfigured

from geodes_tasks.tasks.app import QUEUE
from worker import preflight


def worker_with(pool: str, queues: tuple[str, ...] = (QUEUE,), autoscale: object = None) -> Any:
    """Give what a worker looks like to the check."""
    pools = type("Pool", (), {"__module__": f"celery.concurrency.{pool}"})
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from=dict.fromkeys(queues)))
    return SimpleNamespace(pool=pools(), autoscale=autoscale, app=SimpleNamespace(amqp=amqp))


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_loses_downloads_is_refused(pool: str) -> None:
    """What to use instead is in the message."""
    with pytest.raises(ImproperlyConfigured, match="use threads or prefork"):
        preflight.refuse_options(worker_with(pool))


@pytest.mark.parametrize("pool", ["thread", "prefork", "solo"])
def test_other_pools_are_taken(pool: str) -> None:
    """Threads, processes and the pool of one."""
    preflight.refuse_options(worker_with(pool, ("other", QUEUE)))
