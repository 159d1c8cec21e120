"""A snapshot in which something of each kind is to be seen."""

from __future__ import annotations

from dataclasses import replace

from geodes_tasks.ledger import (
    AccountState,
    FailureGroup,
    Limits,
    Running,
    Wait,
    WorkerState,
)
from geodes_tasks.model.results import BatchStatus, ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.expected_end import expected_end
from geodes_tasks.monitoring.snapshot import Pause, Snapshot, silent_workers

NOW = 1_700_000_000.0
"""Seconds since 1970 of the snapshot."""
LIMITS = Limits(concurrent=6, quota_count=24, quota_seconds=120.0)
ACCOUNT = AccountState("default", None, None, 6, 6, 24, 120.0, 0, NOW + 54, 6, "")


def batch_of(name: str, waiting: dict[str, int] | None = None, **fields: float) -> BatchStatus:
    """Return the counts of a batch; lower-case names of states are numbers of downloads."""
    states = {str(state): int(fields.pop(state.name.lower(), 0)) for state in State}
    return BatchStatus(
        batch=name, owner="u@h", account="default", total=sum(states.values()), states=states,
        outcomes={"DOWNLOADED": states["SUCCESS"]}, waiting=waiting or {},
        **fields,  # type: ignore[arg-type]  # whole numbers of bytes
    )  # fmt: skip


def failure_of(kind: str, count: int, message: str, hint: str = "") -> FailureGroup:
    """Return a class of failures."""
    error = ErrorInfo(kind, message, hint)
    return FailureGroup(State.FAILURE, kind, count, error, "URN:a")


def running(number: int, title: str, worker: str, lease_s: float = 59.0) -> Running:
    """Return a running download of 41.9 MB."""
    return Running(
        f"id-{number}", "URN:a", title, 41_900_000, 12_000_000, worker, "geodes", NOW - 60,
        NOW + lease_s, 505e3,
    )  # fmt: skip


def busy_snapshot() -> Snapshot:
    """Return two batches with running, waiting, paused and failed downloads, and a dead worker."""
    urgent = batch_of(
        "urgent", {"quota": 1, "offline": 1}, success=2, started=2, retry=2,
        bytes_total=83_900_000, bytes_done=32_500_000, bytes_per_second=1.8e6,
    )  # fmt: skip
    april = batch_of(
        "pyrenees-april", {"quota": 2, "offline": 2}, success=4, started=1, pending=17, retry=4,
        failure=4, bytes_total=251_700_000, bytes_done=46_100_000,
    )  # fmt: skip
    names = [f"S2A_MSIL1C_20250402T105021_N0511_R051_{t}_20250402T143000.zip" for t in
             ("T31TCJ", "T31TDJ")]  # fmt: skip
    snapshot = Snapshot(
        at=NOW,
        batches=[urgent, april],
        running=[
            running(1, names[0], "celery@node1"),
            running(2, names[1], "celery@node1"),
            running(3, "SENTINEL2A_20250402-105021-123_L2A_T31TCJ_C_V3-0.zip", "celery@node2", 18),
        ],
        waits=[Wait("quota", 3, NOW + 54, NOW - 30), Wait("offline", 3, NOW + 112, NOW - 3000)],
        failures={
            "pyrenees-april": [
                failure_of("NotFoundError", 3, "https://p/x: no such file (HTTP 404)",
                           "Search for the item again: a newer version may have replaced it."),
                failure_of("ServerError", 1, "https://p/x: HTTP 503", "It is retried by itself."),
            ]
        },
        accounts=[ACCOUNT],
        workers=[
            WorkerState("celery@node1", 3, NOW - 1, "0.2.0", LIMITS, None),
            WorkerState("celery@node2", 3, NOW - 42, "0.2.0", LIMITS, None),
        ],
        pauses=[Pause("batch", "pyrenees-april", "by hand")],
    )  # fmt: skip
    ends = {one.batch: expected_end(one, ACCOUNT, at=NOW) for one in snapshot.batches}
    return replace(snapshot, silent=silent_workers(snapshot), ends=ends)
