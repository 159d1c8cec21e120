"""Wait for a batch: its progress, why nothing moves, and when to end."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Literal

from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.steering import BY_HAND
from geodes_tasks.errors import (
    LedgerStuckError,
    PrivateServerError,
    SourceUnavailableError,
    UnknownBatchError,
    for_reader,
    in_folder,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.monitoring.terminal import View
from geodes_tasks.monitoring.wording import in_words

POLL_S = 0.25
"""Seconds between two readings of the status."""
LAST_POLL_S = 0.03
"""Seconds between two readings while the last few downloads move: the caller waits for them."""
LAST = 16
"""Number of unfinished downloads that count as the last few."""
NO_WORKER_S = 10.0
"""Seconds without a worker after which that is reported: schedulers start workers later."""
REFUSED_S = 30.0
"""Seconds after which credentials that S3 refuses end a wait: they are tried each 10 s."""
ACCOUNT_S = 2.0
"""Seconds between two readings of workers and accounts."""

Until = Literal["done", "key", "blocked"]
"""``done``: no download is unfinished. ``key``: or all that is left waits for a key, or for
other credentials of S3.
``blocked``: or it waits for a person, for a key or for the end of a pause."""


@dataclass(slots=True)
class Waiting:
    """One wait for the end of a batch."""

    batch: str
    ledger: Ledger
    view: View
    """Where the progress is shown; entered here."""
    write: Callable[[str], None] = lambda _: None
    """Receives a line for each reason why downloads do not move, once."""
    until: Until = "done"
    max_wait_s: float = math.inf
    """Seconds to wait when all that is left is on tape."""
    machine: OneMachine | None = None
    """The server and worker of one-machine mode; None for a cluster."""
    folder: Path | None = None
    """The download folder of a private ledger, which the commands name; None for a cluster's."""
    other: OneMachine | None = None
    """The run of another thread or process whose worker this wait relies on."""

    began: float = field(default_factory=time.monotonic)
    """Start of the wait, in seconds of the monotonic clock."""

    _written: set[str] = field(default_factory=set)
    _taped_since: float | None = None
    _read_at: float = -math.inf

    def run(self, timeout: float | None = None) -> BatchStatus:
        """Wait, and return the counts of the end.

        Args:
            timeout: Seconds to wait at most; None is for ever.

        Raises:
            TypeError: the timeout is no number.
            TimeoutError: it took longer; the batch continues.
            PrivateProcessError: the private worker ended by itself.
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis; the other run
                ended before the batch.
        """
        if not isinstance(timeout, Real | None):
            raise TypeError(f"timeout is a number of seconds or None, not {timeout!r}")
        reading, before = self.ledger.reading, None
        snapshots = SnapshotReader(self.ledger, [self.batch], folder=self.folder)
        deadline = math.inf if timeout is None else self.began + timeout
        if self.machine is not None and (first := reading.status(self.batch)).unfinished:
            self.machine.start_workers(first.unfinished, first.bytes_left)
        if self.until != "key" and self.folder is not None:
            # Its handle outlasts an interrupted wait, and runs of other batches.
            with contextlib.suppress(LedgerStuckError):  # `enqueue` has marked it already
                self.ledger.control.keep(self.batch)
        for other in self.machine.continued if self.machine is not None else ():
            with contextlib.suppress(UnknownBatchError):
                if other != self.batch and reading.status(other).unfinished:
                    command = f"geodes-tasks cancel {shlex.quote(other)}"
                    line = f"batch {other} of an earlier run continues too; end it: {command}."
                    self.write(for_reader(in_folder(line, self.folder)))
        with self.view:
            while True:
                status = reading.status(self.batch)
                is_over = not status.unfinished or self._is_stuck(status)
                # A command ends with the errors of what is left, and these are the same lines.
                is_named_later = is_over and self.until == "key"
                for key, line in () if is_named_later else self._problems(status):
                    if key not in self._written:
                        self._written.add(key)
                        self.write(line)
                self.view.show(status, snapshots.read)
                if self.machine is not None and not status.unfinished:
                    self.machine.dismiss_workers()
                if is_over:
                    return status
                if time.monotonic() >= deadline:
                    left = f"{status.unfinished} of {plural(status.total, 'download')} unfinished"
                    raise TimeoutError(f"batch {self.batch}: {left} after {timeout:g} s")
                if self.machine is not None:
                    self.machine.check()
                if self.other is not None and not self.other.is_under_way:
                    raise PrivateServerError(str(self.other.state), "served a run that is over")
                time.sleep(LAST_POLL_S if is_ending(status, before) else POLL_S)
                before = status

    def _problems(self, status: BatchStatus) -> Iterator[tuple[str, str]]:
        """Yield a line for each reason why downloads do not move, with a name for the reason."""
        for reason in () if self.view.shows_waits else status.waiting:
            if f"waits {reason}" in self._written:
                continue
            first = self.ledger.reading.first_waiting([self.batch], reason)
            record = self.ledger.reading.record(first[0]) if first else None
            if record is not None and record.error is not None:
                line = in_words(f"waits ({reason})", record.error)
                yield f"waits {reason}", in_folder(line, self.folder)
        now = time.monotonic()
        if not status.unfinished or now < self._read_at + ACCOUNT_S:
            return
        self._read_at = now
        paused = self._pause(status)
        # What runs meets the refusal itself, and its error says more than the pause.
        if paused and not (paused[0] == "waits auth" and status.states[State.STARTED]):
            yield paused
        waited = self.folder is None and now - self.began >= NO_WORKER_S
        if waited and not self.ledger.dispatch.workers():
            yield "worker", "no worker is alive: start one with `geodes-tasks worker`; waiting"
        if self.machine is not None:
            try:
                self.ledger.connection.check_writes()
            except LedgerStuckError as error:
                line = (
                    f"the private Redis server in {self.machine.state} takes no changes: "
                    f"{error.problem}. If its volume is full, make room: it continues by itself."
                )
                yield "writes", line

    def _pause(self, status: BatchStatus) -> tuple[str, str] | None:
        """Return the pause that only a person ends, as a name and a line; None without one."""
        pauses = self.ledger.control.pauses()
        if ("batch", self.batch) in pauses:
            command = self._resume("batch", self.batch)
            return "batch", for_reader(f"batch {self.batch} is paused; resume it: {command}.")
        name = status.account
        for account in self.ledger.account.states():
            if account.name == name and account.paused and account.paused_until is None:
                command = self._resume("account", name)
                line = f"account {name} is paused ({account.paused}); resume it: {command}."
                # Without an end only a user or a refused key pauses an account.
                reason = "account" if account.paused == BY_HAND else "waits auth"
                return reason, for_reader(line)
        if sources := sorted(source for kind, source in pauses if kind == "source"):
            waits = self.ledger.sources.ready_on(sources, self.batch, name or "")
            waits += status.waiting.get(Reason.PAUSED, 0)
            if waits >= status.unfinished and not status.states[State.STARTED]:
                command = self._resume("source", sources[0])
                return "source", for_reader(f"source {sources[0]} is paused; resume it: {command}.")
        return None

    def _resume(self, kind: str, name: str) -> str:
        command = f"geodes-tasks resume --{kind} {shlex.quote(name)}"
        return in_folder(command, self.folder)

    def _is_stuck(self, status: BatchStatus) -> bool:
        """Return whether what is left will not move, by the rules of this wait."""
        if not status.states[State.STARTED] and self.until != "done":
            if status.waiting.get(Reason.AUTH):
                return True
            if self._lacks_credentials(status) or (self.until == "blocked" and self._pause(status)):
                return True
        if status.unfinished != status.waiting.get(Reason.OFFLINE, 0):
            self._taped_since = None
            return False
        self._taped_since = self._taped_since or time.monotonic()
        return time.monotonic() - self._taped_since >= self.max_wait_s

    def _lacks_credentials(self, status: BatchStatus) -> bool:
        """Return whether S3 refuses the credentials for what is left: a person replaces them."""
        waits = status.waiting.get(Reason.OUTAGE, 0)
        if waits < max(status.unfinished, 1) or time.monotonic() - self.began < REFUSED_S:
            return False
        first = self.ledger.reading.first_waiting([self.batch], Reason.OUTAGE)
        error = record.error if first and (record := self.ledger.reading.record(first[0])) else None
        return error is not None and error.type == SourceUnavailableError.__name__


def is_ending(status: BatchStatus, before: BatchStatus | None) -> bool:
    """Return whether only the last few downloads are left, and they move."""
    if before is None or status == before:
        return False
    return status.unfinished <= max(LAST, before.unfinished - status.unfinished)
