"""The state of the ledger at one moment, for every view; speeds come from successive snapshots."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from geodes_tasks.ledger import AccountState, FailureGroup, Ledger, Running, Wait
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State

SPEED_S = 1.2
"""Seconds between two snapshots that measure speeds: workers report progress once a second."""
SPEED_WINDOW_S = 10.0
"""Seconds over which a speed is the mean: an hour of waiting does not slow the present."""


@dataclass(slots=True)
class Speed:
    """Bytes a second over the last few seconds."""

    seen: list[tuple[float, int]] = field(default_factory=list)
    """Monotonic seconds with the bytes done by then, oldest first."""

    def update(self, done_bytes: int, now: float) -> float:
        """Record the bytes done at ``now`` (monotonic seconds). Return bytes a second."""
        self.seen.append((now, done_bytes))
        while len(self.seen) > 2 and self.seen[0][0] < now - SPEED_WINDOW_S:
            self.seen.pop(0)
        (then, before) = self.seen[0]
        # A restart from byte 0 makes the count fall; no transfer goes backwards.
        return max(done_bytes - before, 0) / (now - then) if now > then else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Batches, running downloads, waits, errors and accounts at one moment."""

    at: float
    """Seconds since 1970 on the server's clock, as all times in here."""
    batches: Sequence[BatchStatus]
    batch_speeds: Sequence[float]
    """Bytes a second, in the order of ``batches``."""
    running: Sequence[Running]
    speeds: Sequence[float]
    """Bytes a second, in the order of ``running``."""
    waits: Sequence[Wait]
    failures: Sequence[FailureGroup]
    accounts: Sequence[AccountState]
    workers: int
    """Number of workers alive."""
    paused: frozenset[str] = frozenset()
    """Names of the batches that are paused by hand."""

    @property
    def over(self) -> bool:
        """Return whether every batch is finished."""
        return not any(status.unfinished for status in self.batches)

    def running_groups(self) -> Iterator[tuple[str, str, list[tuple[Running, float]]]]:
        """Yield worker, source, and their running downloads with bytes a second, sorted."""

        def owner(row: tuple[Running, float]) -> tuple[str, str]:
            return row[0].worker, row[0].source

        rows = sorted(zip(self.running, self.speeds, strict=True), key=owner)
        for (worker, source), group in groupby(rows, key=owner):
            yield worker, source, list(group)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``watch --json``."""
        batches = [
            status.to_dict() | {"bytes_per_s": round(speed)}
            for status, speed in zip(self.batches, self.batch_speeds, strict=True)
        ]
        running = [
            asdict(one) | {"bytes_per_s": round(speed)}
            for one, speed in zip(self.running, self.speeds, strict=True)
        ]
        return {
            "at": self.at,
            "batches": batches,
            "running": running,
            "waiting": [asdict(one) for one in self.waits],
            "failures": [asdict(one) for one in self.failures],
            "accounts": [asdict(one) for one in self.accounts],
            "workers": self.workers,
        }


@dataclass(slots=True)
class SnapshotReader:
    """Reads snapshots of some batches, and keeps what speeds need from the former ones."""

    ledger: Ledger
    batches: Sequence[str]
    """Names of the batches."""
    _speeds: dict[str, Speed] = field(default_factory=dict)

    def read(self) -> Snapshot:
        """Read the ledger once.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        ledger, now = self.ledger, time.monotonic()
        statuses = [ledger.reading.status(name) for name in self.batches]
        running = ledger.reading.running()
        known = [*self.batches, *(one.download_id for one in running)]
        # Only what is known now: a batch of a million files must not leave a million speeds.
        self._speeds = {name: self._speeds.get(name, Speed()) for name in known}
        return Snapshot(
            # Due times and leases are in the server's time; clocks of hosts may differ.
            at=ledger.connection.server_time(),
            batches=statuses,
            batch_speeds=[self._speeds[s.batch].update(s.bytes_done, now) for s in statuses],
            running=running,
            speeds=[self._speeds[r.download_id].update(r.done_bytes, now) for r in running],
            waits=ledger.reading.waits(self.batches),
            failures=[
                group
                for status in statuses
                if status.states[State.FAILURE] or status.states[State.RETRY]
                for group in ledger.reading.failures(status.batch)
            ],
            accounts=ledger.account.states(),
            workers=len(ledger.dispatch.workers()),
            paused=frozenset(name for kind, name in ledger.control.pauses() if kind == "batch"),
        )

    def read_with_speeds(self) -> Snapshot:
        """Read the ledger, twice if anything runs: a first snapshot knows no speed.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        snapshot = self.read()
        if not snapshot.running:
            return snapshot
        time.sleep(SPEED_S)
        return self.read()
