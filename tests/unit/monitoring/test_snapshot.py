"""The snapshot: speeds between two readings, and running downloads in groups."""

from __future__ import annotations

from geodes_tasks.ledger import Running
from geodes_tasks.monitoring.snapshot import Snapshot, Speed


def running(name: str, worker: str, source: str) -> Running:
    """Return a running download of 10 bytes, 5 done."""
    return Running(f"id-{name}", "URN:a", name, 10, 5, worker, source)


def test_speed_is_that_of_the_last_seconds() -> None:
    """An hour of waiting does not make the last ten seconds slow."""
    speed = Speed()
    speeds = [speed.update(done, now) for now, done in [(0, 0), (1, 100), (3600, 100), (3601, 300)]]

    assert speeds[0] == 0.0
    assert speeds[1] == 100.0
    assert speeds[3] == 200.0


def test_speed_is_never_negative() -> None:
    """A restart from byte 0 is not a transfer backwards."""
    speed = Speed()
    speed.update(100, 0.0)

    assert speed.update(0, 1.0) == 0.0


def test_running_downloads_are_grouped_by_worker_and_source() -> None:
    """Downloads of one worker from one source are together, whatever their order in the ledger."""
    rows = [
        running("a", "w2", "s3"),
        running("b", "w1", "geodes"),
        running("c", "w2", "s3"),
        running("d", "w2", "geodes"),
    ]
    snapshot = Snapshot(
        at=0.0, batches=[], batch_speeds=[], running=rows, speeds=[1.0, 2.0, 3.0, 4.0],
        waits=[], failures=[], accounts=[], workers=2,
    )  # fmt: skip

    groups = [
        (worker, source, [(one.title, speed) for one, speed in members])
        for worker, source, members in snapshot.running_groups()
    ]

    assert groups == [
        ("w1", "geodes", [("b", 2.0)]),
        ("w2", "geodes", [("d", 4.0)]),
        ("w2", "s3", [("a", 1.0), ("c", 3.0)]),
    ]
