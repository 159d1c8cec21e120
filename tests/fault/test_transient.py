"""Errors that pass: tried again, told in the record, never taken for what they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.model.states import Outcome, State
from tests.fault.scene import KiB, MiB, Scene, errors_of, is_right, md5_of

if TYPE_CHECKING:
    from geodes_tasks.model.results import DownloadRecord

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


@pytest.mark.parametrize("answer", ["changed", "lying_content_range"])
def test_rest_that_is_not_the_rest(cluster: Scene, answer: str) -> None:
    """Asked for the rest of a file, the portal gives something else: no splice is published."""
    # Of a size from which on the validator of the bytes is kept.
    (item,) = cluster.items(1, 9 * MiB)
    cluster.standin.settings.change(range=answer)
    cluster.standin.fault(item, "truncate", times=1)
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 20)

    assert is_right(record), cluster.logs
    assert record.outcome is Outcome.DOWNLOADED, cluster.logs
    assert cluster.leftovers() == []


def test_slow_but_steady_is_never_cut(cluster: Scene) -> None:
    """A body that drips for several stall times and leases comes in one request."""
    (item,) = cluster.items(1, 400 * KiB)
    cluster.standin.fault(item, "slow_drip", rate=100 * KiB)
    cluster.worker("first")

    (record,) = cluster.settled(cluster.enqueue(item), 20)

    assert is_right(record), cluster.logs
    assert (record.attempts, cluster.downloads(item)) == (1, 1)


def test_faults_that_stay(cluster: Scene) -> None:
    """What never gets better ends as FAILURE, with the history of each attempt."""
    cluster.change(max_attempts=3)
    mistaken, damaged, broken = cluster.items(3, MiB)
    cluster.standin.fault(mistaken, "catalogue_mismatch")
    cluster.standin.fault(damaged, "corrupt")
    cluster.standin.fault(broken, "status_n_times", status=500)
    cluster.worker("first", concurrency=3)

    batch = cluster.enqueue(mistaken, damaged, broken)

    two_copies, never_twice_the_same, errors = cluster.settled(batch, 20)
    # Two whole copies agree with each other: it is the catalogue that is wrong.
    assert error_of(two_copies) == "CatalogueMismatchError", cluster.logs
    assert cluster.downloads(mistaken) == 2
    assert error_of(never_twice_the_same) == "ChecksumMismatchError", cluster.logs
    assert cluster.downloads(damaged) == 3
    assert error_of(errors) == "ServerError", cluster.logs
    assert [one.partition(":")[0] for one in errors_of(errors)] == ["ServerError"] * 3
    assert (errors.attempts, cluster.downloads(broken)) == (3, 3)
    check_quarantine(cluster, two_copies)


def error_of(record: DownloadRecord) -> str:
    """Name the error with which a download ended."""
    assert record.state is State.FAILURE, record
    assert record.error is not None
    return record.error.type


def check_quarantine(scene: Scene, record: DownloadRecord) -> None:
    """Check that of all bytes only the copy that stands against the catalogue is kept."""
    assert record.error is not None
    (kept,) = scene.parts()
    assert kept.name.endswith(".quarantine")
    assert md5_of(kept) in record.error.message
    assert str(record.checksum).removeprefix("md5:") in record.error.message
