"""The lease keeper: one thread a process that renews the leases of all its attempts.

One round trip a second renews them all and brings back which attempts must end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from geodes_tasks.errors import LeaseLostError, LedgerUnavailableError
from geodes_tasks.ledger import Claim, Ledger, Progress, clock
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.loop_guard import LoopGuard, publish_failures
from geodes_tasks.tasks.stop_signal import StopSignal

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Time in seconds between two renewals, at most."""
MARGIN_S = 30.0
"""Silence in seconds, beyond every timeout, after which a lease is no longer renewed.

The thread hangs in the file system: a stale NFS or Lustre mount blocks ``write`` without end.
"""
OVERDUE_S = 5.0
"""Time in seconds after the stop deadline at which running attempts are requeued."""
PROBE = Progress("", "", -1)
"""A renewal of no lease, which checks that Redis accepts renewals."""


class LeaseKeeper:
    """Keeps the leases of one process alive for as long as their attempts are."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        stop: StopSignal | None = None,
        silence_s: float = 180.0,
        abort: Callable[[LeasedAttempt], None] | None = None,
        requeue: Callable[[Sequence[LeasedAttempt]], None] | None = None,
    ) -> None:
        """Prepare; the thread starts with the first attempt.

        Args:
            ledger: Where leases are renewed.
            stop: Of the worker.
            silence_s: The longest time in seconds without a sign of a healthy attempt.
            abort: Closes the connection of an attempt that must end and waits for the network.
            requeue: Requeues what still runs long after the stop, and ends the process.
        """
        self.ledger, self.stop = ledger, stop or StopSignal()
        self.silence_s = silence_s + MARGIN_S
        self.abort, self.requeue = abort, requeue
        self.period_s = min(PERIOD_S, ledger.connection.limits.lease_seconds / 4)
        self._guard = LoopGuard(logger, "renewing leases")
        self._failing_since: float | None = None
        """Time of the first failure since leases were last renewed, by ``time.monotonic``."""
        self._is_cut_off = False
        self._attempts: dict[str, LeasedAttempt] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def attempts(self) -> list[LeasedAttempt]:
        """Return the attempts under way."""
        with self._lock:
            return list(self._attempts.values())

    @contextlib.contextmanager
    def keep(
        self, claim: Claim, on_progress: Callable[[LeasedAttempt], None] | None = None
    ) -> Iterator[LeasedAttempt]:
        """Keep one lease alive while the block runs.

        Args:
            claim: What was granted.
            on_progress: Called about once a second while bytes arrive, in the keeper's thread.
        """
        attempt = LeasedAttempt(claim, self.ledger, self.stop, on_progress)
        with self._lock:
            self._attempts[claim.token] = attempt
            # A forked child inherits the object, not the thread (fork(2)): it starts its own.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield attempt
        finally:
            with self._lock:
                del self._attempts[claim.token]

    def _run(self) -> None:
        while True:
            time.sleep(self.period_s)
            # Each part under a guard of its own: attempts end also while Redis does not answer.
            for part in (self._end_attempts, self._renew_or_cut_off, self._end_attempts):
                with self._guard:
                    part()

    def _renew_or_cut_off(self) -> None:
        """Renew the leases; after a lease's time of failures, take the worker out of work."""
        try:
            self.renew_all()
        except Exception as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since >= self.ledger.connection.limits.lease_seconds:
                self._cut_off(error)
            raise
        self._failing_since = None
        publish_failures(self.ledger)
        if self._is_cut_off:
            self._is_cut_off = False
            self.stop.report_cut_off(False)
            logger.warning("leases are renewed again: this worker takes new work")

    def _cut_off(self, error: Exception) -> None:
        """Take no new work; stop the attempts whose leases other workers may have by now.

        While Redis does not answer, recovery ends no lease, so downloads under way continue.
        """
        self.stop.report_cut_off(True)
        is_away = isinstance(error, LedgerUnavailableError)
        if not self._is_cut_off:
            self._is_cut_off = True
            logger.error(
                "no lease could be renewed for %g s (%s): this worker takes no new work%s until "
                "Redis accepts renewals again",
                self.ledger.connection.limits.lease_seconds,
                type(error).__name__,
                "" if is_away else " and stops its downloads",
            )
        if not is_away:
            for attempt in self.attempts:
                attempt.ended = attempt.ended or LeaseLostError(attempt.claim.download_id)

    def _end_attempts(self) -> None:
        """Abort the attempts that must end and are blocked; requeue all that outlived the stop."""
        now = time.monotonic()
        for attempt in self.attempts:
            is_blocked = now - attempt.active_at > self.period_s / 2
            if attempt.end_reason is not None and is_blocked and self.abort is not None:
                self.abort(attempt)
        is_overdue = 0.0 < self.stop.deadline <= now - OVERDUE_S
        if is_overdue and self.attempts and self.requeue is not None:
            self.requeue(self.attempts)

    def renew_all(self) -> None:
        """Renew the leases of all attempts that are alive, and apply the answers.

        Raises:
            LedgerUnavailableError: Redis does not answer; the attempts continue meanwhile.
        """
        now = time.monotonic()
        alive = [
            one
            for one in self.attempts
            if now - one.active_at <= self.silence_s and one.ended is None
        ]
        if not alive:
            if self._failing_since is not None:
                self.ledger.leases.renew([PROBE])
            return
        sent_at = clock()
        renewals = self.ledger.leases.renew([one.snapshot() for one in alive])
        for attempt, renewal in zip(alive, renewals, strict=True):
            attempt.apply(renewal, sent_at)
            if attempt.done_bytes < 0 or attempt.on_progress is None:
                continue
            try:
                attempt.on_progress(attempt)
            except Exception as error:  # noqa: BLE001 - an event must never cost a lease
                logger.debug("progress of %s was not sent: %s", attempt.claim.download_id, error)
