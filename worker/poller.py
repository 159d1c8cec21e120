"""Asks the portal what it does not say by itself: files back from tape, quota left.

Every worker has such a thread; the ledger lets one of the fleet ask at a time. None of these
questions costs quota, and none holds a slot.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError

from geodes_tasks.ledger import TapeAnswer
from geodes_tasks.ledger.offline import NO_QUOTA, NOT_SAID
from geodes_tasks.model.asset import GEODES
from geodes_tasks.settings import config
from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.transports.http.availability import (
    MOST,
    Availability,
    RouteFailedError,
    RouteMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.model.asset import Asset
    from geodes_tasks.settings.config import Settings
    from geodes_tasks.tasks.app import Sender
    from geodes_tasks.transports.http.availability import Word

logger = logging.getLogger(__name__)

FIRST, LONGEST = 0.25, 2.0
"""Of the period in the settings: when files on tape are asked for again, soonest and latest."""
SLOW = 4.0
"""Of that period: after so long a file asks for itself where the portal does not say."""
FEW = 100
"""Files asked for one by one in a round at most, where the portal takes no question for many."""
PAUSE_S = 0.2
"""Between two questions."""
MISSES = 3
"""Files in a row that the portal does not know: it has no such route."""
PATIENCE = 3
"""Rounds that a portal may fail to answer before the files ask for themselves."""


class Poller(threading.Thread):
    """Asks now and then, when it is this worker's turn."""

    def __init__(self, settings: Settings, ledger: Ledger, sender: Sender, worker: str) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="poller", daemon=True)
        self.settings, self.ledger, self.sender, self.worker = settings, ledger, sender, worker
        self.period_s = min(max(settings.offline_poll_seconds / 8, 0.2), 2.0)
        self._ended = threading.Event()
        self._portals: dict[str, Availability] = {}
        self._failed_rounds = 0
        self._guard = LoopGuard(logger, "asking the portal", expected=(OperationalError,))

    def run(self) -> None:
        """Look until stopped."""
        while not self._ended.wait(self.period_s):
            with self._guard:
                self.look()

    def stop(self) -> None:
        """End."""
        self._ended.set()

    def look(self) -> None:
        """Ask whatever it is time to ask.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        for account in self.ledger.dispatch.accounts():
            went_on = self.quota(account) + self.tape(account)
            if went_on:
                self.sender.send(self.ledger.dispatch.release(account))

    def portal(self, account: str) -> Availability:
        """Give whom to ask for an account, with its key."""
        if account not in self._portals:
            self._portals[account] = Availability(config.of_account(self.settings, account))
        return self._portals[account]

    # --- quota -----------------------------------------------------------------------------------

    def quota(self, account: str) -> int:
        """Ask how much quota is left; return 1 where that ended a pause, else 0."""
        asked = self.ledger.account.begin_quota_poll(account, self.settings.probe_seconds)
        if asked is None:
            return 0
        try:
            left = self.portal(account).quota_left()
        except RouteMissingError as error:
            logger.debug("%s: the portal does not say the quota left (%s)", account, error)
            self.ledger.account.note_quota(account, NOT_SAID, asked)
            return 0
        except RouteFailedError as error:
            logger.info("%s: the quota left is not known: %s", account, error)
            return 0
        return int(
            self.ledger.account.note_quota(account, NO_QUOTA if left is None else left, asked)
        )

    # --- tape ------------------------------------------------------------------------------------

    def tape(self, account: str) -> int:
        """Ask for all files on tape, when it is time; gives how many go on."""
        ids = self.ledger.offline.begin(account, self.worker)
        if not ids:
            return 0
        every_s = self.settings.offline_poll_seconds
        round_ = Round(self.portal(account), patient=self._failed_rounds < PATIENCE)
        came = 0
        for start in range(0, len(ids), MOST):
            block = ids[start : start + MOST]
            assets = self.ledger.reading.assets(block)
            answer = round_.ask(assets)
            # Of records that cannot be read: their claim ends them.
            answer.unknown += [one for one in block if one not in assets]
            went_on = self.ledger.offline.answer(account, self.worker, answer, every_s * SLOW)
            if went_on < 0 or self._ended.wait(PAUSE_S if start + MOST < len(ids) else 0):
                return came
            came += went_on
        self._failed_rounds = self._failed_rounds + 1 if round_.failed else 0
        self.ledger.offline.end(account, self.worker, every_s * FIRST, every_s * LONGEST, came)
        logger.info("%d files are on tape, %d of them came back", len(ids), came)
        return came


@dataclass(slots=True)
class Round:
    """One round of questions for all files on tape, and what the portal turned out to answer."""

    portal: Availability
    patient: bool
    """Whether files wait on where the portal fails to answer."""
    most: int = MOST
    """Files in one question; fewer where the portal takes fewer."""
    singles: int = FEW
    bulk_missing: bool = False
    misses: int = 0
    """Files in a row that the route for one did not know."""
    failed: bool = False

    @property
    def one_missing(self) -> bool:
        """Whether there is no route for one file either, as far as that shows."""
        return self.bulk_missing and self.misses >= MISSES

    def ask(self, assets: dict[str, Asset]) -> TapeAnswer:
        """Ask for some files: in bulk, one by one those that were not named, then not at all."""
        words: dict[str, Word | None] = {}
        askable = {one: asset for one, asset in assets.items() if GEODES in asset.hrefs}
        for some in self._parts(list(askable)):
            words.update(zip(some, self._bulk([askable[one] for one in some]), strict=True))
        left = [one for one in askable if words.get(one) is None]
        for one in random.sample(left, min(self.singles, len(left))):
            self.singles -= 1
            words[one] = self._one(askable[one])
        return self._sorted(assets, words)

    def _parts(self, ids: list[str]) -> Sequence[list[str]]:
        return [ids[start : start + self.most] for start in range(0, len(ids), self.most)]

    def _bulk(self, assets: list[Asset]) -> list[Word | None]:
        if self.bulk_missing or self.failed:
            return [None] * len(assets)
        try:
            return self.portal.bulk(assets)
        except RouteFailedError as error:
            logger.info("%s", error)
            self.failed = True
        except RouteMissingError as error:
            if error.too_many and len(assets) > 1:
                self.most = len(assets) // 2
                half = self.most
                return self._bulk(assets[:half]) + self._bulk(assets[half:])
            logger.info("files on tape cannot be asked for in bulk (%s)", error)
            self.bulk_missing = True
        return [None] * len(assets)

    def _one(self, asset: Asset) -> Word | None:
        if self.one_missing or self.failed:
            return None
        try:
            word = self.portal.one(asset)
        except RouteFailedError as error:
            logger.info("%s", error)
            self.failed = True
            return None
        except RouteMissingError as error:
            # A product that it does not know, or a portal without the route: both do not tell.
            logger.debug("%s", error)
            self.misses += 1
            return None
        self.misses = 0
        time.sleep(PAUSE_S)
        return word

    def _sorted(self, assets: dict[str, Asset], words: dict[str, Word | None]) -> TapeAnswer:
        answer = TapeAnswer()
        found = [(one, words.get(one)) for one in assets]
        online = [(word.expires or "~", one) for one, word in found if word and word.online]
        answer.online = [one for _, one in sorted(online)]
        answer.offline = [one for one, word in found if word and not word.online]
        unsaid = [one for one, word in found if word is None]
        # What this round had no question left for waits for the next.
        silent = self.singles <= 0 and not self.one_missing
        if not (silent or (self.failed and self.patient)):
            answer.unknown = unsaid
        return answer
