"""The checks of a worker at its start."""

from __future__ import annotations

import pytest
from celery.exceptions import ImproperlyConfigured

from geodes_tasks.ledger import Ledger
from worker import preflight


@pytest.mark.parametrize(
    ("aof", "policy", "words"),
    [
        (1, "noeviction", []),
        (0, "noeviction", ["append-only file"]),
        (1, "allkeys-lru", ["maxmemory-policy allkeys-lru"]),
        (0, "volatile-ttl", ["append-only file", "maxmemory-policy volatile-ttl"]),
    ],
)
def test_a_redis_that_can_lose_downloads_is_warned_about(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, aof: int, policy: str, words: list[str]
) -> None:
    """What to set is in each warning."""
    info = {"persistence": {"aof_enabled": aof}, "memory": {"maxmemory_policy": policy}}
    monkeypatch.setattr(fake_ledger.connection.client, "info", lambda section: info[section])

    warnings = preflight.redis_warnings(fake_ledger)

    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))
    assert all("Set `" in warning for warning in warnings)


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_loses_downloads_is_refused(pool: str) -> None:
    """What to use instead is in the message."""
    with pytest.raises(ImproperlyConfigured, match="use threads or prefork"):
        preflight.refuse_pool(f"celery.concurrency.{pool}")


@pytest.mark.parametrize("pool", ["thread", "prefork", "solo"])
def test_other_pools_are_taken(pool: str) -> None:
    """Threads, processes and the pool of one."""
    preflight.refuse_pool(f"celery.concurrency.{pool}")
