"""Redis dies, restarts, is away: workers keep their bytes and go on when it is back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.states import State
from tests.fault.scene import MiB, Scene, elapsed_since, errors_of, wrong

if TYPE_CHECKING:
    from tests.servers import RedisServer

LEASE_S = 2


@pytest.mark.parametrize("down_s", [0.5, LEASE_S + 2.0])
def test_redis_killed_during_downloads(
    fragile: Scene, own_redis: RedisServer, down_s: float
) -> None:
    """Killed and restarted, within a lease or beyond it: no byte is fetched twice."""
    items = fragile.items(4, 6 * MiB)
    # Under way for several leases after the restart: they must be renewed again.
    fragile.standin.settings.rate = 6 * MiB / (5 + down_s)
    fragile.worker("first")
    fragile.worker("second")
    batch = fragile.enqueue(*items)
    fragile.until(lambda: len(fragile.standin.downloads()) == 4, 10, "four downloads under way")

    own_redis.restart(kill=True, down_s=down_s)

    records = fragile.settled(batch, 30)
    assert wrong(records) == [], fragile.logs
    assert [fragile.downloads(item) for item in items] == [1, 1, 1, 1], fragile.logs
    assert [errors_of(one) for one in records] == [[], [], [], []]
    assert {one.attempts for one in records} == {1}
    assert fragile.leftovers() == []


def test_file_that_ends_while_redis_is_away(fragile: Scene, own_redis: RedisServer) -> None:
    """What came to its end without Redis is recorded when Redis is back, and not fetched again."""
    (item,) = fragile.items(1, 2 * MiB)
    fragile.standin.settings.rate = 1 * MiB
    fragile.worker("first")
    batch = fragile.enqueue(item)
    fragile.fetched(item, MiB // 2)

    own_redis.kill()
    assert fragile.standin.wait_idle(10)
    time.sleep(LEASE_S)
    own_redis.start()

    records = fragile.settled(batch, 20)
    assert wrong(records) == [], fragile.logs
    assert fragile.downloads(item) == 1, fragile.logs


def test_workers_go_on_after_redis_is_back(fragile: Scene, own_redis: RedisServer) -> None:
    """A worker that lost Redis while idle takes work again when it is back."""
    fragile.worker("first")
    own_redis.restart(kill=True, down_s=2)

    batch = fragile.enqueue(*fragile.items(4, MiB))

    assert wrong(fragile.settled(batch, 30)) == [], fragile.logs


def test_worker_started_without_redis_waits_for_it(fragile: Scene, own_redis: RedisServer) -> None:
    """A worker started before Redis says so in one line, and works as soon as it is there."""
    batch = fragile.enqueue(*fragile.items(1))
    own_redis.kill()
    worker = fragile.worker("first", wait=False)
    worker.wait_for("Redis", 20)

    own_redis.start()

    assert wrong(fragile.settled(batch, 30)) == [], fragile.logs
    assert "Traceback" not in worker.text, fragile.logs


def test_enqueue_without_redis_says_so(fragile: Scene, own_redis: RedisServer) -> None:
    """Asking while Redis is down fails within seconds, with the address and what to do."""
    (item,) = fragile.items(1)
    own_redis.kill()
    began = time.monotonic()

    with pytest.raises(LedgerUnavailableError, match=str(own_redis.port)) as caught:
        fragile.enqueue(item)

    assert elapsed_since(began) < 5
    assert "Start Redis" in caught.value.hint


def test_enqueue_broken_off_by_redis_is_completed_by_asking_again(
    fragile: Scene, own_redis: RedisServer
) -> None:
    """What was queued before Redis died is whole; the same request again completes the batch."""
    items = fragile.items(30, 1024)
    batch = fragile.enqueue(*items[:10], batch="b")
    own_redis.kill()
    with pytest.raises(LedgerUnavailableError, match=str(own_redis.port)):
        fragile.enqueue(*items, batch="b")
    own_redis.start()
    assert batch.status().states[State.PENDING] == 10

    batch = fragile.enqueue(*items, batch="b")
    fragile.worker("first")

    records = fragile.settled(batch, 20)
    assert len(records) == 30
    assert wrong(records) == [], fragile.logs
