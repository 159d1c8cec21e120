"""The order in which sources are tried: S3 first, a source that is out of reach last.

S3 costs no quota. One worker finds out that a source is out of reach, and all workers try it last
for a while. One process reads the ledger on behalf of all its downloads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from geodes_tasks.errors import SourceUnavailableError
from geodes_tasks.ledger import Ledger, News, SourceState
from geodes_tasks.tasks.leased_attempt import REDIS_AWAY
from geodes_tasks.transports import Transport

logger = logging.getLogger(__name__)

EXCHANGE_SECONDS = 5.0
"""Time in seconds between two exchanges with the ledger, and the greatest age of what is known."""


class SourceOrder:
    """The state of each source, as this process and the fleet know it. Safe in many threads."""

    def __init__(self, ledger: Ledger, shun_s: float) -> None:
        """Begin with nothing known.

        Args:
            ledger: Where the fleet's knowledge is.
            shun_s: Seconds for which a source that is out of reach is tried last.
        """
        self._ledger, self._shun_s = ledger, shun_s
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
            known = self._known

        def is_out(name: str) -> bool:
            state = known.get(name)
            return state is not None and state.shunned_s > 0

        # sorted is stable: among sources of one kind the preferred one stays first.
        return {name: transports[name] for name in sorted(transports, key=is_out)}

    def refused(self, source: str, error: Exception) -> None:
        """Report to the fleet a source that is out of reach; one missing object is not."""
        if not isinstance(error, SourceUnavailableError) or not error.whole:
            return
        with self._lock:
            news = self._news[source]
            news.shun, news.why = self._shun_s, error.problem
        logger.warning("%s is tried last for %g s: %s", source, self._shun_s, error.problem)
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
