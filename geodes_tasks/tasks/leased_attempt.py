"""One attempt at a download under its lease: the callbacks that the transfer calls."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from geodes_tasks.errors import (
    AccountPausedError,
    AttemptEndedError,
    DownloadCancelledError,
    GeodesTasksError,
    KeyMissingError,
    LeaseLostError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    RedirectUnreachableError,
    UnreachableError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Progress, Renewal, clock
from geodes_tasks.model.asset import GEODES, PREVIEW_ROUTE, REDIRECT
from geodes_tasks.tasks.stop_signal import StopSignal
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.retry import until_available

Answer = TypeVar("Answer")

RETRY_S = 0.25
"""Time in seconds between two tries of a command while Redis does not answer."""
FRESH_S = 1.0
"""Age in seconds up to which a granted or renewed lease needs no renewal before publishing."""
NEVER_SENT = (KeyMissingError, UnreachableError)
"""Errors after which the request is returned to the window: the portal cannot have counted it, or
it redirected to a host that is down, and then the portal itself says when its quota is used up."""
REDIS_AWAY = (LedgerUnavailableError, LedgerForbiddenError)
"""Errors of Redis that pass: a server that restarts, and a Redis user whose rights come back."""


class LeasedAttempt(Callbacks):
    """One attempt under a lease; implements the callbacks of the transfer.

    The attempt's thread only writes numbers and reads a flag here. The lease keeper's thread renews
    the lease and sets the flag.
    """

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        stop: StopSignal,
        on_progress: Callable[[LeasedAttempt], None] | None = None,
    ) -> None:
        """Begin now, in the calling thread."""
        self.claim, self.ledger, self.stop = claim, ledger, stop
        self.directories = ledger.directories
        self.thread = threading.get_ident()
        """Id of the thread that downloads, whose connection can be aborted."""
        self.on_progress = on_progress
        self.started = self.active_at = time.monotonic()
        self.done_bytes = -1
        self.received_bytes = 0
        self.received: Counter[str] = Counter()
        """Bytes that came over the network, by source."""
        self.refusals: dict[str, GeodesTasksError] = {}
        """Errors of the sources that did not give the file, where another source continued."""
        self.on_refusal: Callable[[LeasedAttempt, str, GeodesTasksError], None] | None = None
        """Called with each of these errors."""
        self.on_answer: Callable[[LeasedAttempt], None] | None = None
        """Called when a source sends its first byte."""
        self.check_open: Callable[[int], None] = lambda _: None
        """Called with the open folder of the file; raises where it is elsewhere by now."""
        self.source = ""
        self.renewed_at = claim.sent_at
        """Time of the last request that granted or renewed the lease, by the ledger's clock."""
        self._is_probe = claim.probes
        """Whether other downloads wait until the portal gives this one its first byte."""
        self._request = ""
        """Id of the last request that was spent from the quota."""
        self.ended: AttemptEndedError | None = None
        """Why the attempt must end; set by the lease keeper."""

    # --- the callbacks, in the order in which a transfer calls them -------------------------------

    def check_folder(self, descriptor: int) -> None:
        """Check that the worker may write to an open folder.

        Raises:
            OutsideRootsError: it may not; a name on the path became a link since the path was read.
        """
        self.check_open(descriptor)

    def before_open(self, source: str) -> None:
        """Spend one request of the account's own window; only the portal counts requests.

        Raises:
            AttemptEndedError: as ``progress``.
            AccountPausedError: the account was claimed for S3 alone, and the portal is paused.
            QuotaError: the window is used up; no request was sent to the portal.
        """
        self.source = source
        self.progress(self.done_bytes)
        if self.server != GEODES:
            return
        account = self.ledger.account
        if self.claim.portal_pause:
            why = self._wait_for_redis(lambda: account.portal_pause(self.claim.account))
            if why:
                raise AccountPausedError(self.claim.asset.hrefs[GEODES], why)
        limits = self.ledger.connection.limits
        if not limits.quota_count or PREVIEW_ROUTE in self.claim.asset.hrefs[source]:
            return
        spent = self._wait_for_redis(lambda: account.spend(self.claim.account))
        if spent.wait_s:
            raise limits.used_up(self.claim.asset.hrefs[source], spent.wait_s)
        self._request = spent.request

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Record how many bytes are on disk, and how many of them just arrived.

        Raises:
            AttemptEndedError: the lease is lost, the download is cancelled, or the worker stops.
        """
        self.done_bytes = done_bytes
        if received_bytes:
            if not self.received[self.source]:
                # The first byte ends a probe: others need not wait for the whole file.
                if self._is_probe and self.server == GEODES:
                    with contextlib.suppress(*REDIS_AWAY):
                        self.ledger.account.end_probe(self.claim)
                if self.on_answer is not None:
                    self.on_answer(self)
            self.received_bytes += received_bytes
            self.received[self.source] += received_bytes
        self.active_at = time.monotonic()
        if reason := self.end_reason:
            raise reason

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Record why a source did not give the file; the download continues from another one."""
        self.refusals[source] = error
        if self.on_refusal is not None:
            self.on_refusal(self, source, error)

    def confirm(self) -> None:
        """Check that the lease is still ours, waiting for Redis as long as it takes.

        Raises:
            AttemptEndedError: the lease is lost, or the worker must end before Redis is back.
        """
        # A lease renewed within FRESH_S cannot have expired, so a small file costs no round trip.
        fresh_s = min(FRESH_S, self.ledger.connection.limits.lease_seconds / 4)
        if clock() - self.renewed_at > fresh_s:
            sent_at = clock()
            (renewal,) = self._wait_for_redis(lambda: self.ledger.leases.renew([self.snapshot()]))
            self.apply(renewal, sent_at)
        self.progress(self.done_bytes)

    # --- for the lease keeper and the outcome -----------------------------------------------------

    @property
    def end_reason(self) -> AttemptEndedError | None:
        """Return why the attempt must end now, or None; other errors do not matter then."""
        if self.ended is None and self.stop.expired:
            return WorkerStoppingError(self.claim.download_id)
        return self.ended

    @property
    def bytes_per_second(self) -> float:
        """Return the mean speed of this attempt; resumed bytes do not count."""
        return self.received_bytes / max(self.seconds, 0.001)

    @property
    def seconds(self) -> float:
        """Return how long this attempt has run."""
        return time.monotonic() - self.started

    @property
    def server(self) -> str:
        """Return the source in use, or the host where the asset is on one that is no source."""
        return self.server_of(self.source)

    def server_of(self, source: str, error: Exception | None = None) -> str:
        """Return the source, or the host in place of the portal: that which an error is about."""
        if isinstance(error, RedirectUnreachableError):
            return REDIRECT + error.host
        return self.claim.host if source == GEODES and self.claim.host else source

    def snapshot(self) -> Progress:
        """Return what a renewal sends: the lease's token, the source, the bytes so far."""
        return Progress(
            self.claim.download_id,
            self.claim.token,
            max(self.done_bytes, -1),
            self.source,
            self.received_bytes,
            self.claim.asset.collection,
        )

    def apply(self, renewal: Renewal, sent_at: float = 0.0) -> None:
        """Apply the answer to a renewal that was sent at a time of the ledger's clock."""
        if renewal is Renewal.OK:
            # From when it was sent: Redis may have granted it long before a slow answer arrives.
            self.renewed_at = max(self.renewed_at, sent_at)
        if renewal is Renewal.LOST:
            self.ended = LeaseLostError(self.claim.download_id)
        elif renewal is Renewal.CANCELLED:
            self.ended = DownloadCancelledError(self.claim.download_id)

    def return_quota(self, error: BaseException) -> None:
        """Return the last request to the window if it ended before the portal could count it."""
        if self._request and isinstance(error, NEVER_SENT):
            # Without Redis it stays spent: one download fewer in this window, none too many.
            with contextlib.suppress(*REDIS_AWAY):
                self.ledger.account.refund(self.claim.account, self._request)
            self._request = ""

    def source_of(self, error: Exception) -> str:
        """Return the source that raised an error; the portal where no source was opened."""
        named = [name for name, refusal in self.refusals.items() if refusal is error]
        return named[0] if named else self.source or GEODES

    def history_entry(self, worker: str, error: Exception) -> dict[str, Any]:
        """Return the entry of this failed attempt in the record of its download."""
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "worker": worker,
            "source": self.source,
            "bytes": max(self.done_bytes, 0),
            "transferred": self.received_bytes,
            "sources": dict(self.received),
            "error": f"{type(error).__name__}: {error}",
        }
        others = {name: str(why) for name, why in self.refusals.items() if why is not error}
        return entry | ({"refused": others} if others else {})

    def _wait_for_redis(self, call: Callable[[], Answer]) -> Answer:
        """Repeat a call until Redis answers, or the attempt must end."""
        return until_available(call, wait_s=RETRY_S, stop=lambda _: self.progress(self.done_bytes))
