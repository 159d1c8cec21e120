"""The state of some batches at one moment, read from the ledger alone: what every view shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from geodes_tasks.errors import UnknownBatchError, in_folder
from geodes_tasks.ledger import (
    AccountState,
    FailureGroup,
    Ledger,
    Limits,
    Running,
    Turn,
    Wait,
    WorkerState,
    turns_of,
)
from geodes_tasks.model.formatting import instant
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.expected_end import End, expected_end

SILENT_PERIODS = 3
"""Periods of registering after which a worker that says nothing is shown as silent."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A batch, a source or an account that takes no work now."""

    kind: str
    name: str
    reason: str
    until: float | None = None
    """When it ends, in seconds of the server's clock; None: when a user resumes it."""


@dataclass(frozen=True, slots=True)
class SilentWorker:
    """A worker that has not renewed its registration and its leases for a while."""

    name: str
    since: float
    """The last sign of it, in seconds of the server's clock."""
    downloads: int
    taken_over_at: float | None
    """When other workers take its downloads over; None without downloads or other workers."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Batches, running downloads, waits, errors, workers and accounts at one moment."""

    at: float
    """Seconds since 1970 on the server's clock, as all times in here."""
    batches: Sequence[BatchStatus]
    ends: Mapping[str, End] = field(default_factory=dict)
    """The end expected, by batch."""
    running: Sequence[Running] = ()
    waits: Sequence[Wait] = ()
    failures: Mapping[str, Sequence[FailureGroup]] = field(default_factory=dict)
    """Errors by class, by batch."""
    accounts: Sequence[AccountState] = ()
    workers: Sequence[WorkerState] | None = None
    """Those that registered lately, the silent ones included; None where there are none to see."""
    silent: Sequence[SilentWorker] = ()
    pauses: Sequence[Pause] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    """Number of downloads that silent workers have, by batch."""
    is_idle: bool = False
    """Whether a private server has no run: nothing happens before the next one."""
    folder: Path | None = None
    """The download folder of a private ledger, which the commands name; None for a cluster's."""

    @property
    def standstill(self) -> str:
        """Return why nothing can run; empty when something can."""
        if self.is_idle:
            return "no run is under way"
        return "" if self.workers is None or self.alive else "no worker is alive"

    @property
    def over(self) -> bool:
        """Return whether every batch is finished."""
        return not any(status.unfinished for status in self.batches)

    @property
    def alive(self) -> list[WorkerState]:
        """Return the workers that are not silent."""
        gone = {one.name for one in self.silent}
        return [worker for worker in self.workers or () if worker.name not in gone]

    def account_of(self, status: BatchStatus) -> AccountState | None:
        """Return the account of a batch; None when it is unknown."""
        return next((one for one in self.accounts if one.name == status.account), None)

    def pauses_of(self, status: BatchStatus) -> list[Pause]:
        """Return the pauses that concern a batch: its own, those of sources and of its account."""
        mine = {("batch", status.batch), ("account", status.account)}
        return [one for one in self.pauses if one.kind == "source" or (one.kind, one.name) in mine]

    def is_held(self, status: BatchStatus) -> bool:
        """Return whether a user must resume the batch or its account before it continues."""
        return any(one.until is None and one.kind != "source" for one in self.pauses_of(status))

    def status_object(self, status: BatchStatus) -> dict[str, Any]:
        """Return the JSON form of ``status --json`` for one batch of the snapshot."""
        # Below a fraction of a byte the mean says nothing, and of a finished batch it is the past.
        name, end = status.batch, self.ends.get(status.batch)
        form = status.to_dict()
        del form["account"]
        form["bytes_per_second"] = round(status.bytes_per_second) if status.unfinished else 0
        return form | {
            "expected_end": moment(end.at) if end else None,
            "paused": [asdict(p) | {"until": moment(p.until)} for p in self.pauses_of(status)],
            "failures": [
                {
                    "class": group.type,
                    "count": group.count,
                    "example": f"{group.item_id}: {group.example.message}",
                    "command": retry_command(name, group, self.folder),
                }
                for group in self.failures.get(name, ())
                if group.state is State.FAILURE
            ],
            "workers": {
                "alive": len(self.alive),
                "silent": [
                    {
                        "name": one.name,
                        "since": moment(one.since),
                        "taken_over_at": moment(one.taken_over_at),
                    }
                    for one in self.silent
                ],
            },
            "accounts": [
                {
                    "name": one.name,
                    "quota": one.quota,
                    "quota_left": one.quota_left if one.quota_count else None,
                    "portal_quota_left": one.portal_quota_left,
                    "limit": one.concurrent or None,
                    "running": one.running,
                }
                for one in self.accounts
                if one.name == status.account
            ],
        }

    def status_objects(self) -> list[dict[str, Any]]:
        """Return the JSON form of each batch, as ``batches --json`` lists them."""
        return [self.status_object(status) for status in self.batches]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``watch --json``."""
        return {
            "at": moment(self.at),
            "batches": self.status_objects(),
            "running": [
                asdict(one) | {"started": moment(one.started), "lease_end": moment(one.lease_end)}
                for one in self.running
            ],
            "waiting": [
                {
                    "reason": one.reason,
                    "count": one.count,
                    "next_due": moment(one.next_due),
                    "since": moment(one.since),
                }
                for one in self.waits
            ],
        }


def retry_command(batch: str, group: FailureGroup, folder: Path | None) -> str | None:
    """Return the command that retries a class of failures; None where a retry cannot help."""
    # Quoted: names come from other users of Redis, and the command is to be pasted into a shell.
    words = "geodes-tasks", "retry", batch, "--class", group.type
    return None if group.is_refused else in_folder(shlex.join(words), folder)


def moment(seconds: float | None) -> str | None:
    """Return a time of the server as ISO 8601 with its offset; None for none."""
    if seconds is None:
        return None
    return instant(seconds).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class SnapshotReader:
    """Reads snapshots of some batches."""

    ledger: Ledger
    batches: Sequence[str]
    """Names of the batches."""
    is_brief: bool = False
    """Whether the errors are left out: only they need records."""
    folder: Path | None = None
    """The download folder of a private ledger; None for that of a cluster."""

    def read(self) -> Snapshot:
        """Read the ledger once, without the batches that were forgotten meanwhile.

        Raises:
            UnknownBatchError, LedgerUnavailableError: none of the batches is there, or no Redis.
        """
        ledger, statuses = self.ledger, self._statuses()
        names = [status.batch for status in statuses]
        # Two round trips for all workers, whatever their number.
        fleet = ledger.dispatch.fleet()
        snapshot = Snapshot(
            # Due times and leases are in the server's time; clocks of hosts may differ.
            at=ledger.connection.server_time(),
            batches=statuses,
            running=ledger.reading.running(names[0] if len(names) == 1 else ""),
            waits=ledger.reading.waits(names),
            failures={
                status.batch: ledger.reading.failures(status.batch)
                for status in statuses
                if not self.is_brief
                and (status.states[State.FAILURE] or status.states[State.RETRY])
            },
            accounts=ledger.account.states(),
            # The worker of a one-machine run starts when there is something to do, and ends with
            # it: that there is none yet is nothing to see to.
            workers=fleet or (None if ledger.connection.url.startswith("redis+socket") else []),
            is_idle=ledger.connection.is_run_over(),
            folder=self.folder,
        )
        snapshot = replace(snapshot, silent=silent_workers(snapshot), pauses=self._pauses(snapshot))
        snapshot = replace(snapshot, lost=self._lost(snapshot))
        statuses = [replace(one, bytes_per_second=speed_now(snapshot, one)) for one in statuses]
        used = {status.account for status in statuses}
        turns = {
            one.name: turns_of(ledger.connection, one.name)
            for one in snapshot.accounts
            if one.quota_count and one.name in used
        }
        ends = {
            one.batch: self._end(snapshot, one, turns.get(one.account or "", ()))
            for one in statuses
        }
        return replace(snapshot, batches=statuses, ends=ends)

    def _statuses(self) -> list[BatchStatus]:
        # A batch that is forgotten while others are watched must not end the view.
        found, unknown = [], []
        for name in self.batches:
            try:
                found.append(self.ledger.reading.status(name))
            except UnknownBatchError as error:
                unknown.append(error)
        if unknown and not found:
            raise unknown[0]
        return found

    def _lost(self, snapshot: Snapshot) -> dict[str, int]:
        names = {worker.name for worker in snapshot.silent if worker.downloads}
        # Only a lost worker costs these round trips: a running download does not name its batches.
        running = {
            one.batch: self.ledger.reading.running(one.batch)
            for one in snapshot.batches
            if names and one.states[State.STARTED]
        }
        return {
            batch: sum(one.worker in names for one in found) for batch, found in running.items()
        }

    def _pauses(self, snapshot: Snapshot) -> list[Pause]:
        by_hand = [
            Pause(kind, name, reason)
            for (kind, name), reason in sorted(self.ledger.control.pauses().items())
        ]
        accounts = [
            Pause("account", one.name, one.paused, one.paused_until)
            for one in snapshot.accounts
            if one.paused is not None
        ]
        outages = [
            Pause("source", name, Reason.OUTAGE, until)
            for name, until in self.ledger.sources.outages().items()
        ]
        return by_hand + accounts + outages

    def _end(self, snapshot: Snapshot, status: BatchStatus, turns: Sequence[Turn]) -> End:
        name, account = status.batch, snapshot.account_of(status)
        limited = account is not None and (account.quota_count > 0 or account.paused_until)
        # Of this batch alone: another one may wait for much longer. The next poll of the tape ends
        # no wait.
        dues = [
            one.last_due.get(name, 0.0) for one in snapshot.waits if one.reason != Reason.OFFLINE
        ]
        return expected_end(
            status,
            account,
            at=snapshot.at,
            is_paused=snapshot.is_held(status),
            standstill=snapshot.standstill,
            next_due=max(dues, default=0.0),
            on_s3=self.ledger.sources.ready_on_s3(name, status.account or "") if limited else 0,
            turns=turns,
        )


def speed_now(snapshot: Snapshot, status: BatchStatus) -> float:
    """Return the mean speed of a batch; 0 where nothing of it can move: the mean is of the past."""
    account = snapshot.account_of(status)
    is_running = status.states[State.STARTED] > snapshot.lost.get(status.batch, 0)
    # A queued download starts within a second, unless its batch or its account waits.
    is_held = any(one.kind != "source" for one in snapshot.pauses_of(status))
    is_used_up = account is not None and account.quota_count and not account.quota_left
    is_next = status.states[State.PENDING] and not is_held and not is_used_up
    can_move = not snapshot.standstill and (is_running or is_next)
    return status.bytes_per_second if can_move else 0.0


def silent_workers(snapshot: Snapshot) -> list[SilentWorker]:
    """Return the workers whose registration and leases are older than they should be."""
    limits = next((one.limits for one in snapshot.workers or () if one.limits), Limits())
    # A worker that registers no more may still renew its leases, and the other way round: each of
    # them is a sign of life.
    lease_ends: dict[str, list[float]] = {}
    for row in snapshot.running:
        lease_ends.setdefault(row.worker, []).append(row.lease_end)
    seen = {worker.name: worker.seen for worker in snapshot.workers or ()}
    silent = []
    for name in sorted({*seen, *lease_ends}):
        ends = lease_ends.get(name, [])
        since = max([seen.get(name, 0.0), *(end - limits.lease_seconds for end in ends)])
        if snapshot.at - since > SILENT_PERIODS * limits.register_seconds:
            silent.append((name, since, ends))
    # None is left that could take a download over.
    is_last = {name for name, _, _ in silent}.issuperset(seen)
    return [
        # Recovery takes a turn each few seconds: a lease that has just ended is taken over now.
        SilentWorker(
            name, since, len(ends), None if is_last or not ends else max(*ends, snapshot.at)
        )
        for name, since, ends in silent
    ]
