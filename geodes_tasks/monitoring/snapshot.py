"""One look at the ledger after the other: what the live view shows, with speeds between looks."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from geodes_tasks.model.states import State
from geodes_tasks.monitoring.batch_text import Speed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.ledger import AccountState, FailureGroup, Ledger, Running, Wait
    from geodes_tasks.model.results import BatchStatus

FAILURES_S = 10.0
"""Errors are counted by reading the whole batch: no more often than this."""


@dataclass(frozen=True, slots=True)
class Look:
    """How everything stands at one moment."""

    at: float
    """Seconds of the server's clock, as all times in it."""
    batches: Sequence[BatchStatus]
    batch_speeds: Sequence[float]
    """Bytes a second, in the order of ``batches``."""
    moving: Sequence[Running]
    speeds: Sequence[float]
    """Bytes a second, in the order of ``moving``."""
    waits: Sequence[Wait]
    failures: Sequence[FailureGroup]
    accounts: Sequence[AccountState]
    workers: int
    paused: frozenset[str] = frozenset()
    """Names of the batches that are paused by hand."""

    @property
    def over(self) -> bool:
        """Whether no batch has anything left to do."""
        return not any(status.unfinished for status in self.batches)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        batches = [
            status.to_dict() | {"bytes_per_s": round(speed)}
            for status, speed in zip(self.batches, self.batch_speeds, strict=True)
        ]
        moving = [
            asdict(one) | {"bytes_per_s": round(speed)}
            for one, speed in zip(self.moving, self.speeds, strict=True)
        ]
        return {
            "at": self.at,
            "batches": batches,
            "running": moving,
            "waiting": [asdict(one) for one in self.waits],
            "failures": [asdict(one) for one in self.failures],
            "accounts": [asdict(one) for one in self.accounts],
            "workers": self.workers,
        }


SPEED_S = 1.2
"""Workers tell of their progress once a second."""


@dataclass(slots=True)
class Watcher:
    """Looks, and remembers enough of former looks to tell speeds."""

    ledger: Ledger
    batches: Sequence[str]
    """Names of those to watch."""
    _speeds: dict[str, Speed] = field(default_factory=dict)
    _failures: list[FailureGroup] = field(default_factory=list)
    _failed_counts: tuple[int, ...] = ()
    _read_at: float = float("-inf")

    def look(self) -> Look:
        """Look once.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        ledger, now = self.ledger, time.monotonic()
        statuses = [ledger.reading.status(name) for name in self.batches]
        moving = ledger.reading.running()
        known = [*self.batches, *(one.download_id for one in moving)]
        self._speeds = {name: self._speeds.get(name, Speed()) for name in known}
        return Look(
            at=ledger.connection.server_time(),
            batches=statuses,
            batch_speeds=[self._speeds[s.batch].update(s.bytes_done, now) for s in statuses],
            moving=moving,
            speeds=[self._speeds[m.download_id].update(m.done_bytes, now) for m in moving],
            waits=self._waits(),
            failures=self._errors(statuses, now),
            accounts=ledger.account.states(),
            workers=len(ledger.dispatch.workers()),
            paused=frozenset(name for kind, name in ledger.control.pauses() if kind == "batch"),
        )

    def look_twice(self) -> Look:
        """Look, and once more when anything moves: a first look knows no speed. Raises so too."""
        look = self.look()
        if not look.moving:
            return look
        time.sleep(SPEED_S)
        return self.look()

    def _waits(self) -> list[Wait]:
        """Ask what waits, and since when."""
        found = []
        for wait in self.ledger.reading.waits(self.batches):
            times = (self.ledger.reading.waits_since(name, wait.reason) for name in self.batches)
            known = [time for time in times if time is not None]
            found.append(replace(wait, since=min(known, default=None)))
        return found

    def _errors(self, statuses: Sequence[BatchStatus], now: float) -> list[FailureGroup]:
        """Read the errors again when their number changed, or when they may have grown old."""
        counts = tuple(s.states[state] for s in statuses for state in (State.FAILURE, State.RETRY))
        fresh = counts == self._failed_counts or now - self._read_at < FAILURES_S
        if fresh and self._read_at > float("-inf"):
            return self._failures
        self._failed_counts, self._read_at = counts, now
        self._failures = [
            group
            for status in statuses
            if status.states[State.FAILURE] or status.states[State.RETRY]
            for group in self.ledger.reading.failures(status.batch)
        ]
        return self._failures
