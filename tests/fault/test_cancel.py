"""Cancelled is cancelled: nothing starts any more, what runs stops, nothing is left."""

from __future__ import annotations

import time

import pytest

from geodes_tasks.model.states import State
from tests.fault.scene import MiB, Scene, elapsed_since

STOPPED_S = 2.0


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster whose timeouts are too long to help."""
    scene.change(lease_seconds=60, stall_seconds=60, first_byte_seconds=60)
    return scene


def test_cancelled_batch_stops_within_two_seconds(cluster: Scene) -> None:
    """What has not started never starts, what runs stops, and no part is left."""
    items = cluster.items(6, 8 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    cluster.worker("first", concurrency=2)
    batch = cluster.enqueue(*items)
    cluster.until(lambda: len(cluster.parts()) == 2, 10, "two downloads under way")
    began = time.monotonic()

    cancelled = cluster.ledger.control.cancel(list(cluster.ledger.reading.downloads(batch.id)))

    cluster.settled(batch, 10)
    assert elapsed_since(began) <= STOPPED_S, cluster.logs
    assert cancelled == 6
    assert batch.status().states[State.REVOKED] == 6
    assert cluster.leftovers() == []
    assert not [path for path in cluster.folder.rglob("*") if path.is_file()]
    # The slots are free and the worker takes work again: not that of the cancelled batch.
    (later,) = cluster.items(1, MiB)
    cluster.settled(cluster.enqueue(later), 30)
    assert len(cluster.standin.downloads()) == 3, "a cancelled download has started"


@pytest.mark.parametrize("mode", ["stall", "slow_headers"])
def test_cancelled_download_does_not_wait_for_a_silent_portal(cluster: Scene, mode: str) -> None:
    """A transfer that hangs stops within two seconds too."""
    (item,) = cluster.items(1, 2 * MiB)
    cluster.standin.fault(item, mode, **({"after": MiB} if mode == "stall" else {"seconds": 60}))
    cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.until(lambda: cluster.downloads(item) == 1, 10, "a request")
    time.sleep(0.5)
    began = time.monotonic()

    cluster.ledger.control.cancel(list(cluster.ledger.reading.downloads(batch.id)))

    (record,) = cluster.settled(batch, 10)
    assert elapsed_since(began) <= STOPPED_S, cluster.logs
    assert record.state is State.REVOKED
    assert cluster.leftovers() == []


def test_cancelled_download_of_a_dead_worker_leaves_nothing(cluster: Scene) -> None:
    """Cancelled while its worker is dead: it ends with the lease, and its part is swept up."""
    cluster.change(lease_seconds=2)
    (item,) = cluster.items(1, 8 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)
    first.kill()

    cluster.ledger.control.cancel(list(cluster.ledger.reading.downloads(batch.id)))
    cluster.worker("second")

    (record,) = cluster.settled(batch, 10)
    assert record.state is State.REVOKED, cluster.logs
    cluster.until(lambda: cluster.leftovers() == [], 5, "the part file is swept up")
    assert cluster.downloads(item) == 1


def test_cancelled_download_that_waits_leaves_nothing(cluster: Scene) -> None:
    """Cancelled while it waits after an error: its part is swept up."""
    cluster.change(backoff_seconds=60)
    (item,) = cluster.items(1, 2 * MiB)
    cluster.standin.fault(item, "truncate", after=MiB)
    cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.until(lambda: batch.status().states[State.RETRY] == 1, 10, "a failed attempt")
    assert cluster.leftovers() != []

    cluster.ledger.control.cancel(list(cluster.ledger.reading.downloads(batch.id)))

    assert batch.status().states[State.REVOKED] == 1
    cluster.until(lambda: cluster.leftovers() == [], 5, "the part file is swept up")


@pytest.mark.parametrize("wait_s", [0.0, 1.2])
def test_what_is_enqueued_right_after_its_cancel_is_downloaded(
    cluster: Scene, wait_s: float
) -> None:
    """Whether its worker has been told meanwhile or not: the request that came last counts."""
    (item,) = cluster.items(1, 4 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    cluster.worker("first")
    former = cluster.enqueue(item)
    cluster.until(cluster.parts, 10, "a download under way")

    former.cancel()
    time.sleep(wait_s)
    batch = cluster.enqueue(item)

    (record,) = cluster.settled(batch, 30)
    assert record.state is State.SUCCESS, cluster.logs
    assert cluster.leftovers() == []
