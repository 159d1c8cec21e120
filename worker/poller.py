"""The thread that both pollers of the portal are: survives every error, releases what can start."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from kombu.exceptions import OperationalError

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.offline import ASK_SECONDS
from geodes_tasks.settings.account_keys import of_account
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import Sender
from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.transports.http.availability import Availability

logger = logging.getLogger(__name__)

REQUEST_S = ASK_SECONDS / 2
"""Seconds until a response at most: the right to poll lasts longer, and other accounts wait."""


class Poller(threading.Thread, ABC):
    """Polls the portal for each account, when it is this worker's turn.

    Every worker has these threads; the ledger lets one worker of the fleet poll at a time. A poll
    costs no quota and no slot.
    """

    def __init__(self, settings: Config, ledger: Ledger, sender: Sender, worker: str) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name=type(self).__name__, daemon=True)
        self.settings, self.ledger, self.sender, self.worker = settings, ledger, sender, worker
        shortest_s = min(settings.offline_poll_seconds, settings.probe_seconds)
        self.period_s = min(max(shortest_s / 8, 0.2), 2.0)
        self.ended = threading.Event()
        self._portals: dict[str, Availability] = {}
        self._guard = LoopGuard(logger, f"{self.name} of the portal", expected=(OperationalError,))

    @abstractmethod
    def poll(self, account: str) -> int:
        """Poll for an account if it is time; return how many downloads or accounts can continue.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """

    def run(self) -> None:
        """Poll every few seconds until stopped."""
        while not self.ended.wait(self.period_s):
            with self._guard:
                self.poll_all()

    def poll_all(self) -> None:
        """Poll for all accounts; one that fails does not keep the others from their turn.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        for account in self.ledger.dispatch.accounts():
            with self._guard:
                if self.poll(account):
                    self.sender.send(self.ledger.dispatch.release(account))

    def stop(self) -> None:
        """End the thread after the request under way."""
        self.ended.set()

    def portal(self, account: str) -> Availability:
        """Return the portal's free routes, used with the key of an account.

        Raises:
            ConfigError: this worker has no usable key of the account.
        """
        if account not in self._portals:
            settings = of_account(self.settings, account)
            limit_s = min(settings.first_byte_seconds, REQUEST_S)
            self._portals[account] = Availability(settings.replace(first_byte_seconds=limit_s))
        return self._portals[account]
