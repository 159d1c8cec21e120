"""Polls the portal for files on tape, in bulk: those that came online continue at once."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from geodes_tasks.ledger import TapeAnswer
from geodes_tasks.model.asset import GEODES, Asset
from geodes_tasks.transports.http.availability import (
    MOST,
    Availability,
    FileAvailability,
    RouteFailedError,
    RouteMissingError,
)
from worker.poller import REQUEST_S, Poller

logger = logging.getLogger(__name__)

FIRST, LONGEST = 0.25, 2.0
"""Fractions of OFFLINE_POLL_SECONDS: the shortest and the longest time between two polls."""
SLOW = 4.0
"""Factor of OFFLINE_POLL_SECONDS: the wait of a file whose availability is not published."""
FEW = 100
"""Number of single requests in a round, at most, where the portal has no bulk route."""
PAUSE_S = 0.2
"""Time in seconds between two requests."""
MISSES = 3
"""Number of files in a row that the portal does not know: it has no such route."""
PATIENCE = 3
"""Number of failed rounds after which each file is requested again by itself."""


class OfflinePoller(Poller):
    """Polls the availability of all files on tape of an account in one round."""

    def __init__(self, *args: Any) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(*args)
        self._failed_rounds = Counter[str]()
        """In a row, by account: of one the key may be refused, or its route fail."""

    def poll(self, account: str) -> int:
        """Poll for all files on tape, when it is time; return how many came online."""
        ids = self.ledger.offline.begin(account, self.worker)
        if not ids:
            return 0
        every_s = self.settings.offline_poll_seconds
        round_ = OfflineRound(self.portal(account), self._failed_rounds[account] < PATIENCE)
        online = 0
        for start in range(0, len(ids), MOST):
            block = ids[start : start + MOST]
            assets = self.ledger.reading.assets(block)
            answer = round_.poll(assets)
            # A record that cannot be parsed: its next claim ends the download with an error.
            answer.unknown += [one for one in block if one not in assets]
            released = self.ledger.offline.answer(account, self.worker, answer, every_s * SLOW)
            # Negative: another worker took the turn, because this one was too slow.
            if released < 0 or self.ended.wait(PAUSE_S if start + MOST < len(ids) else 0):
                return online
            online += released
        failed = self._failed_rounds[account] + 1 if round_.has_failed else 0
        self._failed_rounds[account] = failed
        self.ledger.offline.end(account, self.worker, every_s * FIRST, every_s * LONGEST, online)
        logger.info("%d files are on tape, %d of them came online", len(ids), online)
        return online


@dataclass(slots=True)
class OfflineRound:
    """One round of polls for all files on tape, and which routes the portal turned out to have."""

    portal: Availability
    is_patient: bool
    """Whether files keep waiting while the portal fails to answer."""
    most: int = MOST
    """Files in one request; halved when the portal refuses a request for its length."""
    singles: int = FEW
    """Single requests left in this round."""
    is_bulk_missing: bool = False
    misses: int = 0
    """Files in a row that the route for a single file did not know."""
    has_failed: bool = False
    until: float = 0.0
    """Time of ``time.monotonic`` at which the last request for a block begins."""

    @property
    def is_single_missing(self) -> bool:
        """Return whether the portal has no route for a single file either, as far as known."""
        return self.is_bulk_missing and self.misses >= MISSES

    @property
    def _is_over(self) -> bool:
        """Return whether another request for this block has no use, or comes too late."""
        is_late = time.monotonic() > self.until
        return is_late or self.has_failed or self.is_single_missing

    def poll(self, assets: dict[str, Asset]) -> TapeAnswer:
        """Return which files are online, offline, or unknown to the portal.

        All are polled in bulk first, those without an answer one by one, up to ``singles``, while
        there is time.
        """
        self.until = time.monotonic() + REQUEST_S
        words: dict[str, FileAvailability | None] = {}
        polled = [one for one, asset in assets.items() if GEODES in asset.hrefs]
        for start in range(0, len(polled), self.most):
            some = polled[start : start + self.most]
            words.update(zip(some, self._bulk([assets[one] for one in some]), strict=True))
        left = [one for one in polled if words.get(one) is None]
        random.shuffle(left)  # so that the same few files do not use up every round
        while left and self.singles > 0 and not self._is_over:
            one = left.pop()
            self.singles -= 1
            words[one] = self._single(assets[one])
        # Files for which there was no request or no time left wait for the next round.
        if not (self.has_failed or self.is_single_missing):
            assets = {one: asset for one, asset in assets.items() if one not in left}
        return self._sorted(assets, words)

    def _bulk(self, assets: list[Asset]) -> list[FileAvailability | None]:
        if self.is_bulk_missing or self._is_over:
            return [None] * len(assets)
        try:
            return self.portal.bulk(assets)
        except RouteFailedError as error:
            logger.info("%s", error)
            self.has_failed = True
        except RouteMissingError as error:
            # The portal documents no limit; a 400 may mean only that the list was too long.
            if error.too_many and len(assets) > 1:
                self.most = half = len(assets) // 2
                return self._bulk(assets[:half]) + self._bulk(assets[half:])
            logger.info("files on tape cannot be polled in bulk (%s)", error)
            self.is_bulk_missing = True
        return [None] * len(assets)

    def _single(self, asset: Asset) -> FileAvailability | None:
        try:
            word = self.portal.one(asset)
        except RouteFailedError as error:
            logger.info("%s", error)
            self.has_failed = True
            return None
        except RouteMissingError as error:
            # A product that the portal does not know and a portal without the route both give 404.
            logger.debug("%s", error)
            self.misses += 1
            return None
        self.misses = 0
        time.sleep(PAUSE_S)
        return word

    def _sorted(
        self, assets: dict[str, Asset], words: dict[str, FileAvailability | None]
    ) -> TapeAnswer:
        answer = TapeAnswer()
        found = [(one, words.get(one)) for one in assets]
        # Those that leave the disk cache first start first; "~" sorts after every date.
        online = [(word.expires or "~", one) for one, word in found if word and word.online]
        answer.online = [one for _, one in sorted(online)]
        answer.offline = [one for one, word in found if word and not word.online]
        if not (self.has_failed and self.is_patient):
            answer.unknown = [one for one, word in found if word is None]
        return answer
