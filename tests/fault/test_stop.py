"""SIGTERM: what ends within the grace time ends, the rest is given back with its bytes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.model.states import Outcome, Reason, State
from tests.fault.scene import MiB, Scene, elapsed_since, wrong

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch

GRACE_S = 1
STOPPED_S = GRACE_S + 5
"""Two slow processors, and Celery's own shutdown."""
POOLS = ("threads", "prefork")


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster with a short grace time, and a lease too long to help."""
    scene.change(grace_seconds=GRACE_S, lease_seconds=60, stall_seconds=60)
    scene.standin.settings.change(range="good")
    return scene


def given_back(scene: Scene, batch: Batch) -> None:
    """Check that every download is back in the queue as if it had not been tried."""
    for record in batch.results():
        assert (record.state, record.reason) == (State.RETRY, Reason.WORKER_STOPPED), scene.logs
        assert record.attempts == 0, scene.logs
    assert scene.ledger.reading.running() == []


@pytest.mark.parametrize("pool", POOLS)
def test_stopped_worker_gives_its_downloads_back(cluster: Scene, pool: str) -> None:
    """SIGTERM under slow downloads: the worker ends soon, another goes on with its bytes."""
    items = cluster.items(2, 8 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first", pool=pool)
    batch = cluster.enqueue(*items)
    for item in items:
        cluster.fetched(item, MiB)
    began = time.monotonic()

    first.term()
    first.wait(20)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)
    assert all(cluster.parts(item) for item in items), "the bytes are gone"
    cluster.standin.settings.rate = None
    cluster.worker("second")
    records = cluster.settled(batch, 15)
    assert wrong(records) == [], cluster.logs
    assert {one.outcome for one in records} == {Outcome.RESUMED}, cluster.logs


@pytest.mark.parametrize("pool", POOLS)
def test_stopped_worker_does_not_wait_for_a_silent_portal(cluster: Scene, pool: str) -> None:
    """SIGTERM while the portal says nothing any more: the same, as soon."""
    (item,) = cluster.items(1, 2 * MiB)
    cluster.standin.fault(item, "stall", after=MiB, times=1)
    first = cluster.worker("first", pool=pool)
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)
    began = time.monotonic()

    first.term()
    first.wait(30)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)
    assert cluster.parts(item), "the bytes are gone"


def test_stopped_worker_does_not_wait_for_a_first_byte(cluster: Scene) -> None:
    """SIGTERM while the portal has not answered yet: the same, as soon."""
    cluster.change(first_byte_seconds=60)
    (item,) = cluster.items(1)
    cluster.standin.fault(item, "slow_headers", seconds=60, times=1)
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.until(lambda: cluster.downloads(item) == 1, 10, "a request")
    began = time.monotonic()

    first.term()
    first.wait(30)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)


def test_what_ends_within_the_grace_time_ends(cluster: Scene) -> None:
    """A download that needs one second more gets it; no new one is begun."""
    cluster.change(grace_seconds=10)
    items = cluster.items(2, 2 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first", concurrency=1)
    batch = cluster.enqueue(*items)
    cluster.until(cluster.parts, 10, "a download under way")

    first.term()
    first.wait(15)

    states = sorted(str(one.state) for one in batch.results())
    assert states == [State.PENDING, State.SUCCESS], cluster.logs
    assert cluster.leftovers() == []


def test_pool_that_was_asked_for(cluster: Scene) -> None:
    """``--pool prefork`` gives processes."""
    worker = cluster.worker("first", pool="prefork")

    assert "(prefork)" in worker.text, "the pool is another"


def test_second_sigterm_is_never_wrong(cluster: Scene) -> None:
    """Asked twice, the worker may be rude, but the file still comes, right and soon."""
    cluster.change(lease_seconds=3)
    (item,) = cluster.items(1, 6 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)

    first.term()
    time.sleep(0.2)
    first.term()
    first.wait(15)
    cluster.standin.settings.rate = None
    cluster.worker("second")

    assert wrong(cluster.settled(batch, 15)) == [], cluster.logs
    assert cluster.leftovers() == []
