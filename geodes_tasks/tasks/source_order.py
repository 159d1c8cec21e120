"""The order in which sources are tried, and their outages: S3 first, what is out of reach last.

S3 costs no quota. One worker finds out that a source or a host is out of reach, and the fleet
leaves it alone: a download that another source can serve uses that one, what needs the source waits
in the ledger (reason ``outage``). One process reads the ledger on behalf of all its downloads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from geodes_tasks.errors import (
    AccountError,
    AccountPausedError,
    FetchError,
    KeyMissingError,
    QuotaError,
    SourcePausedError,
    SourceUnavailableError,
    SourceUnreachableError,
    UnreachableError,
)
from geodes_tasks.ledger import Ledger, News, SourceState
from geodes_tasks.tasks.leased_attempt import REDIS_AWAY
from geodes_tasks.tasks.stop_signal import STOP, StopSignal
from geodes_tasks.transfer.retry import OUTAGE_S
from geodes_tasks.transports import Transport

logger = logging.getLogger(__name__)

EXCHANGE_SECONDS = 5.0
"""Time in seconds between two exchanges with the ledger, and the greatest age of what is known."""
FAILURES_IN_A_ROW = 3
"""Number of failures to connect to a host after which all that needs it waits."""


class SourceOrder:
    """The state of each source, as this process and the fleet know it. Safe in many threads."""

    def __init__(
        self, ledger: Ledger, avoid_s: float, probe_s: float = OUTAGE_S, stop: StopSignal = STOP
    ) -> None:
        """Begin with nothing known.

        Args:
            ledger: Where the fleet's knowledge is.
            avoid_s: Seconds for which a source that is out of reach is tried last.
            probe_s: Seconds between two downloads that try it, of those that need it.
            stop: Of the worker.
        """
        self._ledger, self._avoid_s, self._probe_s = ledger, avoid_s, probe_s
        self._stop = stop
        self._failures: Counter[str] = Counter()
        """Failures in a row to connect to a source."""
        self._in_a_row = 0
        """Failures in a row to connect to any host, while no source answered this process."""
        self._out: set[str] = set()
        """Sources that this process has reported."""
        self._lock, self._exchange_lock = threading.Lock(), threading.Lock()
        self._news: dict[str, News] = defaultdict(News)
        self._known: Mapping[str, SourceState] = {}
        self._exchanged_at = float("-inf")

    def ordered(self, transports: Mapping[str, Transport]) -> Mapping[str, Transport]:
        """Return the transports, the preferred one first, with those out of reach last."""
        if len(transports) < 2:
            return transports
        # The first downloads of a worker begin together: each waits for the one answer.
        with self._exchange_lock:
            if time.monotonic() - self._exchanged_at >= EXCHANGE_SECONDS:
                self._exchange()
        # sorted is stable: among sources of one kind the preferred one stays first.
        return {name: transports[name] for name in sorted(transports, key=self._is_out)}

    def _is_out(self, source: str) -> bool:
        """Return whether a source was out of reach at the last exchange with the fleet."""
        state = self._known.get(source)
        return state is not None and state.shunned_s > 0

    def failed(self, source: str, error: Exception, *, is_probe: bool = False) -> None:
        """Report to the fleet a source that is out of reach, or one that answered after an outage.

        Args:
            source: ``geodes``, ``s3``, or the name of another host.
            error: Why it gave no file. One missing object or one broken connection says that the
                source is in reach.
            is_probe: Whether the attempt tried if the source is back.
        """
        if isinstance(error, UnreachableError | SourceUnreachableError):
            with self._lock:
                self._failures[source] += 1
                self._in_a_row += 1
                alone = self._in_a_row >= FAILURES_IN_A_ROW
                if self._failures[source] < FAILURES_IN_A_ROW:
                    return
            # A compute node without a way out fails at every host: the ledger ignores it as long
            # as the host gives files to other workers. S3 is out of reach for some sites for good,
            # and a worker that waits for it has the portal too.
            self._report(source, error.problem, fleet=isinstance(error, UnreachableError))
            if alone and not self._is_out(source):
                # Ignored, and nothing else works here: it would only spoil what others can have.
                self._stop.rest(self._probe_s)
        elif isinstance(error, SourceUnavailableError) and error.whole:
            self._report(source, error.problem)
        elif isinstance(error, FetchError | AccountError) and not _is_before_request(error):
            self.works(source, is_probe=is_probe)

    def _report(self, source: str, problem: str, *, fleet: bool = False) -> None:
        with self._lock:
            news = self._news[source]
            news.shun, news.why, news.fleet = self._probe_s, problem, fleet
            news.avoid = self._avoid_s
            is_new = source not in self._out
            self._out.add(source)
        if is_new:
            logger.warning(
                "%s cannot be used (%s): downloads that need it wait, and one tries it every %g s",
                source, problem, self._probe_s,
            )  # fmt: skip
        with self._exchange_lock:
            self._exchange()

    def works(self, source: str, *, is_probe: bool = False) -> None:
        """Report to the fleet that a source answers, where it was out of reach."""
        with self._lock:
            known = self._known.get(source)
            is_out = source in self._out or (known is not None and bool(known.why))
            self._failures.pop(source, None)
            self._in_a_row = 0
            if not (is_out or is_probe):
                return
            self._out.discard(source)
            self._news[source].shun = 0.0
        if is_out:
            logger.info("%s can be reached again", source)
        with self._exchange_lock:
            self._exchange()

    def offer(self, sources: Iterable[str]) -> None:
        """Report to the fleet which sources this worker can use."""
        with self._lock:
            for source in sources:
                self._news[source].offered = True
        with self._exchange_lock:
            self._exchange()

    def _exchange(self) -> None:
        with self._lock:
            news, self._news = self._news, defaultdict(News)
            self._exchanged_at = time.monotonic()
        # News that are lost with Redis come again: with the next refusal, with the next offer.
        with contextlib.suppress(*REDIS_AWAY):
            self._known = self._ledger.sources.exchange(news)


def _is_before_request(error: Exception) -> bool:
    """Return whether no request was sent, so that the error does not say if the source works."""
    if isinstance(error, QuotaError):
        return error.own
    return isinstance(error, AccountPausedError | KeyMissingError | SourcePausedError)
