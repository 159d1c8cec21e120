"""Errors that pass: tried again, told in the record, never taken for what they are not."""

from __future__ import annotations

import pytest

from geodes_tasks.states import State
from tests.fault.scene import KiB, MiB, Scene, errors_of, is_right, md5_of

FAULTS: dict[str, tuple[dict[str, object], str]] = {
    "truncate": ({}, "TruncatedBodyError"),
    "reset": ({}, "TransferError"),
    "status_n_times": ({"status": 500}, "ServerError"),
    "corrupt": ({}, "ChecksumMismatchError"),
    "chunked_cut": ({}, "T"),
    "chunked_clean_short": ({}, "TruncatedBodyError"),
    "slow_headers": ({"seconds": 4.0}, "StalledError"),
    "stall": ({}, "StalledError"),
}
"""What the portal does once, its details, and how the record begins to name it."""


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster that takes silence for an error after a second."""
    scene.change(stall_seconds=1.0, first_byte_seconds=1.5, max_concurrent=8)
    return scene


def test_each_transient_fault_once(cluster: Scene) -> None:
    """Each fault that passes costs one more attempt, is in the history, and harms no byte."""
    items = {mode: cluster.standin.add_item(MiB) for mode in FAULTS}
    for mode, (details, _) in FAULTS.items():
        cluster.standin.fault(items[mode], mode, times=1, **details)
    cluster.worker("first", concurrency=8)

    batch = cluster.enqueue(*items.values())

    records = {one.item_id: one for one in cluster.settled(batch, 25)}
    for mode, item in items.items():
        record = records[item["id"]]
        assert is_right(record), f"{mode}: {record}\n{cluster.logs}"
        assert record.attempts == 2, mode
        (error,) = errors_of(record)
        assert error.startswith(FAULTS[mode][1]), mode
        entry = record.history[0]
        assert str(entry["worker"]).startswith("first@"), mode
        assert entry["source"] == "geodes", mode
        assert entry["at"] > "2025", mode
    assert cluster.leftovers() == []


def test_slow_but_steady_is_never_cut(cluster: Scene) -> None:
    """A body that drips for several stall times and leases comes in one request."""
    (item,) = cluster.items(1, 600 * KiB)
    cluster.standin.fault(item, "slow_drip", rate=100 * KiB)
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 20)

    assert is_right(record), cluster.logs
    assert (record.attempts, cluster.downloads(item)) == (1, 1)


def test_two_equal_copies_against_the_catalogue(cluster: Scene) -> None:
    """The portal sends the same other bytes twice: the catalogue is wrong, a copy is kept."""
    (item,) = cluster.items(1, MiB)
    cluster.standin.fault(item, "catalogue_mismatch")
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 15)

    assert record.state is State.FAILURE, cluster.logs
    assert record.error is not None
    assert record.error.type == "CatalogueMismatchError"
    assert cluster.downloads(item) == 2
    (kept,) = cluster.parts()
    assert kept.name.endswith(".quarantine")
    assert md5_of(kept) in record.error.message
    assert str(record.checksum).removeprefix("md5:") in record.error.message


def test_bytes_that_are_wrong_each_time(cluster: Scene) -> None:
    """Bytes damaged anew each time end as FAILURE after the last attempt, and leave nothing."""
    cluster.change(max_attempts=3)
    (item,) = cluster.items(1, MiB)
    cluster.standin.fault(item, "corrupt")
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 15)

    assert record.state is State.FAILURE, cluster.logs
    assert record.error is not None
    assert record.error.type == "ChecksumMismatchError"
    assert cluster.downloads(item) == 3
    assert cluster.leftovers() == []


def test_portal_that_fails_for_ever(cluster: Scene) -> None:
    """Nothing but 500: FAILURE after MAX_ATTEMPTS, each attempt in the history."""
    cluster.change(max_attempts=3)
    (item,) = cluster.items(1)
    cluster.standin.fault(item, "status_n_times", status=500)
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 15)

    assert record.state is State.FAILURE, cluster.logs
    assert record.attempts == 3
    assert [error.partition(":")[0] for error in errors_of(record)] == ["ServerError"] * 3
    assert cluster.downloads(item) == 3
    assert cluster.leftovers() == []
