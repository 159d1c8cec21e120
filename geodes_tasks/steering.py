"""Steer what is under way: pause, resume, retry, cancel. Each is safe to say twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geodes_tasks.app import Sender
from geodes_tasks.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.config import Settings

BY_HAND = "by hand"
"""Why an account is paused that somebody paused."""


class Steering:
    """What a person may do about downloads, in the words of the command line."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; opens no connection."""
        self.ledger = Ledger.of(settings)
        self._sender = Sender(settings)

    def pause(self, account: str) -> bool:
        """Hold an account: what runs ends by itself, nothing new starts. Tells if it ran before.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        key = self.ledger.key("account", account)
        with self.ledger.available():
            was = self.ledger.client.hget(key, "paused")
            if was is None:
                self.ledger.client.hset(key, mapping={"paused": BY_HAND, "paused_until": "resume"})
        return was is None

    def resume(self, account: str) -> bool:
        """Let an account go on. Tells whether it was paused. Raises as ``pause``."""
        was = self.ledger.resume(account)
        self._sender.send(self.ledger.release())
        return was

    def retry(self, batch: str, kinds: Sequence[str] = ()) -> int:
        """Ask again for what failed, of these error classes or of any. Tells how many.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        begun = self.ledger.again(batch, self.ledger.failed(batch, kinds))
        self._sender.send(self.ledger.release())
        return begun

    def cancel(self, batch: str) -> int:
        """Cancel what is not over in a batch. Tells how many downloads that were.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        return self.ledger.cancel(self.ledger.downloads(batch))
