"""Steer what is under way: pause, resume, retry, cancel, forget. Each is safe to say twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geodes_tasks.app import Sender
from geodes_tasks.asset import GEODES, S3
from geodes_tasks.ledger import Ledger, Withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geodes_tasks.config import Settings
    from geodes_tasks.ledger import Forgotten

BLOCK = 1000
"""Downloads in one run of a script."""
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
        return self.ledger.pause(account, BY_HAND)

    def resume(self, account: str) -> bool:
        """Let an account go on. Tells whether it was paused. Raises as ``pause``."""
        was = self.ledger.resume(account)
        self._sender.send(self.ledger.release())
        return was

    def hold(self, kind: str, name: str) -> bool:
        """Hold a ``batch`` or a ``source`` as ``pause`` does. Tells whether it was not held."""
        return self.ledger.hold(kind, name, BY_HAND)

    def let_go(self, kind: str, name: str) -> bool:
        """Let a batch or a source go on. Tells whether it was held. Raises as ``pause``."""
        was = self.ledger.let_go(kind, name)
        self._sender.send(self.ledger.release())
        return was

    def kind_of(self, name: str) -> str:
        """Tell what a name names: a ``source``, a ``batch`` or else an ``account``."""
        if name in {GEODES, S3}:
            return "source"
        accounts = self.ledger.accounts()
        return "batch" if name not in accounts and name in self.ledger.batches() else "account"

    def retry(self, batch: str, kinds: Sequence[str] = (), names: Sequence[str] = ()) -> int:
        """Ask again for what failed or, by name, for what failed, was cancelled or waits.

        Args:
            batch: Name of the batch.
            kinds: Classes of errors; none is any.
            names: Items, file names or ids; in place of all that failed.

        Returns:
            How many begin anew.

        Raises:
            UnknownDownloadError: the batch has none of that name; nothing was asked for.
            LedgerUnavailableError: Redis does not answer.
        """
        wanted = self.ledger.named(batch, names) if names else self.ledger.failed(batch, kinds)
        begun = sum(self.ledger.again(batch, block) for block in _blocks(wanted))
        self._sender.send(self.ledger.release())
        return begun

    def cancel(self, batch: str, names: Sequence[str] = ()) -> Withdrawn:
        """Cancel what is not over in a batch, or some of it, unless another batch asks for it.

        Raises:
            UnknownBatchError, UnknownDownloadError: no such batch, or it has none of that name.
            LedgerUnavailableError: Redis does not answer.
        """
        wanted = self.ledger.downloads(batch)
        if names:
            wanted = self.ledger.named(batch, names)
        return self._withdraw(batch, wanted)

    def _withdraw(self, batch: str, wanted: Sequence[str]) -> Withdrawn:
        blocks = _blocks(wanted)
        return sum((self.ledger.withdraw(batch, block) for block in blocks), Withdrawn())

    def forget(self, batch: str, *, unfinished: bool = False) -> Forgotten:
        """Remove a batch from the ledger, and the records that no other batch has.

        Files stay; should one be asked for again, it is read once to prove it. Workers remove
        later what is running now, or has part files to be swept.

        Args:
            batch: Its name.
            unfinished: Also when it is not over: what no other batch has is cancelled.

        Raises:
            UnknownBatchError: there is none of this name.
            BatchUnfinishedError: it is not over; nothing was changed.
            LedgerUnavailableError: Redis does not answer; say it again.
        """
        if unfinished:
            self._withdraw(batch, self.ledger.downloads(batch))
        self.ledger.forget(batch, unfinished=unfinished)
        swept = self.ledger.sweep()
        self._sender.send(self.ledger.release())
        return swept


def _blocks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut into pieces that hold Redis up for some milliseconds each."""
    return (ids[first : first + BLOCK] for first in range(0, len(ids), BLOCK))
