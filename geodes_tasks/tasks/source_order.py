"""Which source is tried first: S3, as it costs no quota. One process asks for all its downloads.

A source that is out of reach as a whole goes last, for the whole fleet and for a while.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from geodes_tasks.errors import (
    LedgerForbiddenError,
    LedgerUnavailableError,
    SourceUnavailableError,
)
from geodes_tasks.ledger import News, SourceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.transports import Transport

logger = logging.getLogger(__name__)

TELL_SECONDS = 5.0
"""How often news go to the ledger, and how old its answer may be."""


class Ways:
    """What this process and the fleet know of the sources. Safe to use from many threads."""

    def __init__(self, ledger: Ledger, shun_s: float) -> None:
        """Know nothing yet.

        Args:
            ledger: Where the fleet's knowledge is.
            shun_s: How long a source that is out as a whole is not tried first.
        """
        self._ledger, self._shun_s = ledger, shun_s
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._news: dict[str, News] = defaultdict(News)
        self._known: Mapping[str, SourceState] = {}
        self._told_at = float("-inf")

    def ordered(self, transports: Mapping[str, Transport]) -> Mapping[str, Transport]:
        """Return the transports, the preferred one first, with those out of reach last."""
        if len(transports) < 2:
            return transports
        known = self._view()

        def is_out(name: str) -> bool:
            state = known.get(name)
            return state is not None and state.shunned_s > 0

        return {name: transports[name] for name in sorted(transports, key=is_out)}

    def refused(self, source: str, error: Exception) -> None:
        """Hear why a source did not give a file; when all of it is out, so does the fleet."""
        if not isinstance(error, SourceUnavailableError) or not error.whole:
            return
        with self._lock:
            news = self._news[source]
            news.shun, news.why = self._shun_s, error.problem
        logger.warning("%s is left alone for %g s: %s", source, self._shun_s, error.problem)
        self._tell()

    def offer(self, transports: Mapping[str, Transport]) -> None:
        """Tell the fleet which sources this worker can use."""
        with self._lock:
            for source in transports:
                self._news[source].offered = True
        self._tell()

    def _view(self) -> Mapping[str, SourceState]:
        # The first downloads of a worker begin together: each waits for the one answer, also
        # where what this worker offers is just being told.
        with self._asking:
            if time.monotonic() - self._told_at >= TELL_SECONDS:
                self._ask()
            return self._known

    def _tell(self) -> None:
        with self._asking:
            self._ask()

    def _ask(self) -> None:
        with self._lock:
            news, self._news = self._news, defaultdict(News)
            self._told_at = time.monotonic()
        # Not told is not known: the next time is soon enough.
        with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
            self._known = self._ledger.sources.exchange(news)
