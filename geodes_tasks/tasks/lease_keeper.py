"""The life of one attempt: its lease kept alive by progress, its end when somebody says so.

One keeper thread a process renews all its leases in one round trip a second and brings the
answers back; the download itself only notes numbers and looks at a flag.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import struct
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from geodes_tasks.errors import (
    AccountHeldError,
    AttemptEndedError,
    CancelledError,
    KeyMissingError,
    LeaseLostError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    QuotaError,
    UnreachableError,
    UntrustedServerError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Progress, Renewal, Spent, clock
from geodes_tasks.model.asset import GEODES
from geodes_tasks.tasks.loop_guard import LoopGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from geodes_tasks.errors import GeodesTasksError
    from geodes_tasks.ledger import Claim, Ledger

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

TICK_S = 1.0
"""How often leases are renewed at least, and progress is told."""
MARGIN_S = 30.0
"""Silence beyond every timeout: the thread hangs in the file system, let its lease run out."""
FRESH_S = 1.0
"""A lease that was granted or renewed so recently need not be asked for before publishing."""
NEVER_SENT = (KeyMissingError, UnreachableError, UntrustedServerError)
"""The portal cannot have counted the request that ended so."""
OVERDUE_S = 5.0
"""So long after the stop what still runs is given back over its head."""
CUT_OFF_S = 120.0
"""Seconds after which a report that leases cannot be renewed is void: its process has died."""
PROBE = Progress("", "", -1)
"""A renewal of no lease: answered when Redis takes renewals."""


class StopSignal:
    """Tells every process of a worker until when its attempts may go on, and if it may take work.

    One shared page of memory, made before the pool forks: children see what the parent writes,
    and no lock can be left taken by a child that was killed.
    """

    def __init__(self) -> None:
        """Map the page."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, grace_s: float) -> None:
        """Let attempts go on for ``grace_s`` seconds more, then stop them; never later than set."""
        deadline = time.monotonic() + grace_s
        if not self.deadline or deadline < self.deadline:
            self._page[:8] = struct.pack("d", deadline)

    def clear(self) -> None:
        """Forget it."""
        self._page[:8] = struct.pack("d", 0.0)

    @property
    def deadline(self) -> float:
        """The time of ``time.monotonic`` at which attempts stop; 0.0 is never."""
        (deadline,) = struct.unpack("d", self._page[:8])
        return float(deadline)

    @property
    def expired(self) -> bool:
        """Whether attempts must stop now."""
        return 0.0 < self.deadline <= time.monotonic()

    def report_cut_off(self, cut_off: bool) -> None:
        """Report that a process of this worker cannot renew its leases, or can again."""
        self._page[8:16] = struct.pack("d", time.monotonic() if cut_off else 0.0)

    @property
    def is_cut_off(self) -> bool:
        """Whether leases of this worker cannot be renewed, so that it must take no new work."""
        (since,) = struct.unpack("d", self._page[8:16])
        return 0.0 < float(since) > time.monotonic() - CUT_OFF_S


class LeasedAttempt:
    """One attempt under a lease, as the engine sees it."""

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        stop: StopSignal,
        on_tick: Callable[[LeasedAttempt], None] | None = None,
    ) -> None:
        """Begin now."""
        self.claim, self.ledger, self.stop = claim, ledger, stop
        self.thread = threading.get_ident()
        """Where it runs, for those who must break off what it waits for."""
        self.on_tick = on_tick
        self.started = self.heard = time.monotonic()
        self.done_bytes = -1
        self.received_bytes = 0
        self.received: Counter[str] = Counter()
        """Bytes that came over the network, by source."""
        self.refusals: dict[str, GeodesTasksError] = {}
        """Why sources did not give the file, where another one went on."""
        self.on_refusal: Callable[[LeasedAttempt, str, GeodesTasksError], None] | None = None
        """Hears why a source did not give the file, where another one went on."""
        self.source = ""
        self.sure_at = claim.asked_at
        """When the lease was last asked for and granted, by the ledger's clock."""
        self._probes = claim.probes
        """Whether others wait for what the portal answers this one."""
        self._request = ""
        """The request that was spent last."""
        self.fate: AttemptEndedError | None = None
        """Set by the keeper: why the attempt must end."""

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Note the bytes; stop when the lease is gone, somebody cancelled, or the worker ends.

        Raises:
            AttemptEndedError: one of these.
        """
        self.done_bytes = done_bytes
        if received_bytes:
            if self._probes and self.source == GEODES:
                self._end_probe()
            self.received_bytes += received_bytes
            self.received[self.source] += received_bytes
        self.heard = time.monotonic()
        if ending := self.ending:
            raise ending

    @property
    def ending(self) -> AttemptEndedError | None:
        """Why the attempt must end now, if it must; whatever else it met is of no interest then."""
        if self.fate is None and self.stop.expired:
            return WorkerStoppingError(self.claim.download_id)
        return self.fate

    def before_open(self, source: str) -> None:
        """Spend one request of the account's own window; only the portal counts them.

        Raises:
            AccountHeldError: S3 was to serve it, and the account asks nothing of the portal.
            QuotaError: the window is used up; nothing was asked of the portal.
        """
        self.source = source
        self.heard = time.monotonic()
        if source != GEODES:
            return
        if self.claim.portal_pause:
            self._check_portal()
        limits = self.ledger.connection.limits
        if not limits.quota_count:
            return
        spent = self._patiently(self._spend)
        if spent.wait_s:
            used = f"{limits.quota_count} downloads in the last {limits.quota_seconds:g} s"
            raise QuotaError(self.claim.asset.hrefs[source], used, spent.wait_s, True)
        self._request = spent.request

    def return_quota(self, error: BaseException) -> None:
        """Return the last request to the window if it ended before the portal could count it."""
        if self._request and isinstance(error, NEVER_SENT):
            # Without Redis it stays spent: one download fewer in this window, none too many.
            with contextlib.suppress(LedgerUnavailableError):
                self.ledger.account.refund(self.claim.account, self._request)
            self._request = ""

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Note why a source did not give the file; the download goes on over another."""
        self.refusals[source] = error
        if self.on_refusal is not None:
            self.on_refusal(self, source, error)

    def _check_portal(self) -> None:
        """Raise where the account, paused when S3 was to serve this download, still is."""
        why = self._patiently(lambda: self.ledger.account.portal_pause(self.claim.account))
        if why:
            raise AccountHeldError(self.claim.asset.hrefs[GEODES], why)

    def confirm(self) -> None:
        """Make sure that the lease still holds, waiting for Redis as long as it takes.

        A small file is there so soon after its lease was granted that nobody can have it yet.

        Raises:
            AttemptEndedError: it does not, or the worker must end before Redis is back.
        """
        fresh_s = min(FRESH_S, self.ledger.connection.limits.lease_seconds / 4)
        if clock() - self.sure_at > fresh_s:
            asked_at = clock()
            self.hear(self._patiently(self._renew), asked_at)
        self.progress(self.done_bytes)

    def _renew(self) -> Renewal:
        return self.ledger.leases.renew([self.tell()])[0]

    def _spend(self) -> Spent:
        return self.ledger.account.spend(self.claim.account)

    def _end_probe(self) -> None:
        """Let those go on that wait for what this one finds; its record does so too, later."""
        self._probes = False
        with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
            self.ledger.account.end_probe(self.claim)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until Redis answers, or the attempt must end."""
        while True:
            self.progress(self.done_bytes)
            # A user of Redis who lost its rights gets them back, as a server that is away returns.
            with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
                return ask()
            time.sleep(TICK_S / 4)

    def tell(self) -> Progress:
        """Say what there is to say at a renewal."""
        return Progress(
            self.claim.download_id, self.claim.token, max(self.done_bytes, -1), self.source
        )

    def hear(self, answer: Renewal, asked_at: float = 0.0) -> None:
        """Take the answer to a renewal that was asked for at a time of the ledger's clock."""
        if answer is Renewal.OK:
            self.sure_at = max(self.sure_at, asked_at)
        if answer is Renewal.LOST:
            self.fate = LeaseLostError(self.claim.download_id)
        elif answer is Renewal.CANCELLED:
            self.fate = CancelledError(self.claim.download_id)


class LeaseKeeper:
    """Keeps the leases of one process alive for as long as their attempts are."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        stop: StopSignal | None = None,
        silence_s: float = 180.0,
        break_off: Callable[[LeasedAttempt], None] | None = None,
        give_back: Callable[[Sequence[LeasedAttempt]], None] | None = None,
    ) -> None:
        """Prepare; the thread starts with the first attempt.

        Args:
            ledger: Where leases are renewed.
            stop: Of the worker.
            silence_s: The longest time an attempt may rightly say nothing, in seconds.
            break_off: Wakes an attempt that must end and waits for the network.
            give_back: Gives back what still runs long after the stop, and ends the process.
        """
        self.ledger, self.stop = ledger, stop or StopSignal()
        self.silence_s = silence_s + MARGIN_S
        self.break_off, self.give_back = break_off, give_back
        self.period_s = min(TICK_S, ledger.connection.limits.lease_seconds / 4)
        self._guard = LoopGuard(logger, "renewing leases")
        self._failing_since: float | None = None
        """Time of the first failure since leases were last renewed, by ``time.monotonic``."""
        self._is_cut_off = False
        self._attempts: dict[str, LeasedAttempt] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def hold(
        self, claim: Claim, on_tick: Callable[[LeasedAttempt], None] | None = None
    ) -> Iterator[LeasedAttempt]:
        """Keep one lease while the block runs.

        Args:
            claim: What was granted.
            on_tick: Called about once a second while bytes come in, from the keeper's thread.
        """
        attempt = LeasedAttempt(claim, self.ledger, self.stop, on_tick)
        with self._lock:
            self._attempts[claim.token] = attempt
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
            with self._guard:
                self._end_those_that_must()
            with self._guard:
                self._renew_or_count()
            with self._guard:
                self._end_those_that_must()

    def _renew_or_count(self) -> None:
        """Renew the leases; after a lease's time of failures, take the worker out of work."""
        try:
            self.tick()
        except Exception as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since >= self.ledger.connection.limits.lease_seconds:
                self._cut_off(error)
            raise
        self._failing_since = None
        if self._is_cut_off:
            self._is_cut_off = False
            self.stop.report_cut_off(False)
            logger.warning("leases are renewed again: this worker takes new work")

    def _cut_off(self, error: Exception) -> None:
        """Close the intake; stop the attempts whose leases other workers may have by now.

        While Redis does not answer, recovery ends no lease, so downloads under way go on.
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
                attempt.fate = attempt.fate or LeaseLostError(attempt.claim.download_id)

    @property
    def attempts(self) -> list[LeasedAttempt]:
        """The attempts under way."""
        with self._lock:
            return list(self._attempts.values())

    def _end_those_that_must(self) -> None:
        now = time.monotonic()
        for attempt in self.attempts:
            stuck = attempt.ending is not None and now - attempt.heard > self.period_s / 2
            if stuck and self.break_off is not None:
                self.break_off(attempt)
        overdue = 0.0 < self.stop.deadline <= now - OVERDUE_S
        if overdue and self.attempts and self.give_back is not None:
            self.give_back(self.attempts)

    def tick(self) -> None:
        """Renew all leases whose attempts are alive, and take the answers.

        Raises:
            LedgerUnavailableError: Redis does not answer; the attempts go on meanwhile.
        """
        now = time.monotonic()
        attempts = self.attempts
        alive = [one for one in attempts if now - one.heard <= self.silence_s and one.fate is None]
        if not alive:
            if self._failing_since is not None:
                self.ledger.leases.renew([PROBE])
            return
        asked_at = clock()
        answers = self.ledger.leases.renew([one.tell() for one in alive])
        for attempt, answer in zip(alive, answers, strict=True):
            attempt.hear(answer, asked_at)
            if attempt.done_bytes >= 0:
                self._tell(attempt)

    def _tell(self, attempt: LeasedAttempt) -> None:
        if attempt.on_tick is None:
            return
        try:
            attempt.on_tick(attempt)
        except Exception as error:  # noqa: BLE001 - news must never cost a lease
            logger.debug("progress of %s was not told: %s", attempt.claim.download_id, error)
