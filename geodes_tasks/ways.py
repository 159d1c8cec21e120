"""Which source is tried first: the faster one that works. One process asks for all its downloads.

S3 comes first as long as it is not clearly slower than the portal: it costs no quota. A source
that is out as a whole goes last, for the whole fleet and for a while.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from geodes_tasks.asset import GEODES, S3
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
CLEARLY_SLOWER = 0.5
"""Of the portal's speed: below this part of it S3 comes second."""
ENOUGH_BYTES = 16 * 1024 * 1024
"""Of both sources; less says nothing about their speed."""


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

    def ordered(
        self, transports: Mapping[str, Transport], *, beside: bool = False
    ) -> Mapping[str, Transport]:
        """Give the transports in the order in which to try them.

        Args:
            transports: The preferred one first.
            beside: Whether the account is paused, so that the portal is no choice.
        """
        if len(transports) < 2:
            return transports
        known = self._view()
        slow = not beside and is_clearly_slower(known.get(S3), known.get(GEODES))

        def rank(name: str) -> tuple[bool, bool]:
            state = known.get(name)
            return state is not None and state.shunned_s > 0, name == S3 and slow

        return {name: transports[name] for name in sorted(transports, key=rank)}

    def refused(self, source: str, error: Exception) -> None:
        """Hear why a source did not give a file; when all of it is out, so does the fleet."""
        if not isinstance(error, SourceUnavailableError) or not error.whole:
            return
        with self._lock:
            news = self._news[source]
            news.shun, news.why = self._shun_s, error.problem
        logger.warning("%s is left alone for %g s: %s", source, self._shun_s, error.problem)
        self._tell()

    def measured(self, received: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Note what the transfers of an attempt show of the speed of the sources."""
        with self._lock:
            for source, count in received.items():
                self._news[source].add(count, seconds.get(source, 0.0))

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
            self._known = self._ledger.sources(news)


def is_clearly_slower(one: SourceState | None, other: SourceState | None) -> bool:
    """Tell whether a source has proved to be much slower than another."""
    if one is None or other is None or min(one.bytes, other.bytes) < ENOUGH_BYTES:
        return False
    return one.rate < other.rate * CLEARLY_SLOWER
