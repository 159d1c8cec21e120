"""Steer what is under way: pause, resume, retry, cancel, forget. Each is safe to say twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geodes_tasks.errors import UnknownAccountError, UnknownNameError, UnknownSourceError
from geodes_tasks.ledger import Ledger, Withdrawn
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.formatting import nearest
from geodes_tasks.model.states import State
from geodes_tasks.tasks.app import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geodes_tasks.ledger import Forgotten
    from geodes_tasks.model.results import BatchStatus
    from geodes_tasks.settings.config import Settings

SOURCES = (GEODES, S3)
BLOCK = 200
"""Downloads in one run of a script."""
BY_HAND = "by hand"
"""Why an account is paused that somebody paused."""


class Steering:
    """What a person may do about downloads, in the words of the command line.

    Every method names what it acts on. A name that is not known is an error, and never made.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare; opens no connection."""
        self.ledger = Ledger.of(settings)
        self._account = settings.account
        self._sender = Sender(settings)

    # --- names -----------------------------------------------------------------------------------

    def accounts(self) -> list[str]:
        """Return the known accounts: configured here, of the ledger, of the keys of workers."""
        ledger = self.ledger
        return sorted(
            {self._account, *ledger.dispatch.accounts(), *ledger.dispatch.published_accounts()}
        )

    def batches(self, names: Sequence[str] = ()) -> list[BatchStatus]:
        """Return the counts of these batches, or of every batch of the ledger, the newest first.

        Raises:
            UnknownBatchError: one of them is not in the ledger.
            LedgerUnavailableError: Redis does not answer.
        """
        chosen = dict.fromkeys(names) or self.ledger.reading.batches()
        return [self.ledger.reading.status(name) for name in chosen]

    def kinds_of(self, name: str) -> list[str]:
        """Return what a name names: ``source``, ``account``, ``batch``, in this order.

        Raises:
            UnknownNameError: none of them.
        """
        accounts, held = self.accounts(), self.ledger.control.pauses()
        known = {
            "source": name in SOURCES,
            "account": name in accounts,
            "batch": self.ledger.reading.account_of(name) is not None,
        }
        kinds = [kind for kind, is_known in known.items() if is_known or (kind, name) in held]
        if not kinds:
            names = [*accounts, *SOURCES, *self.ledger.reading.batches()]
            raise UnknownNameError(name, nearest(name, names))
        return kinds

    def _check(self, kind: str, name: str) -> None:
        """Raise the error of a kind for a name that is not known."""
        if kind == "batch":
            self.ledger.reading.status(name)
        elif kind == "source" and name not in SOURCES:
            raise UnknownSourceError(name, nearest(name, SOURCES))
        elif kind == "account" and name not in (known := self.accounts()):
            raise UnknownAccountError(name, nearest(name, known))

    # --- pause and resume ------------------------------------------------------------------------

    def pause(self, account: str) -> bool:
        """Pause an account: running downloads end, no new ones start. Return if it was running.

        Raises:
            UnknownAccountError: there is none of this name; nothing was paused.
            LedgerUnavailableError: Redis does not answer.
        """
        self._check("account", account)
        return self.ledger.control.pause_account(account, BY_HAND)

    def resume(self, account: str) -> bool:
        """Resume an account. Return whether it was paused. Raises as ``pause``."""
        self._check("account", account)
        was = self.ledger.control.resume_account(account)
        self._sender.send(self.ledger.dispatch.release())
        return was

    def hold(self, kind: str, name: str) -> bool:
        """Pause a ``batch`` or a ``source``. Return whether it was running.

        Raises:
            UnknownBatchError, UnknownSourceError: there is none of this name.
            LedgerUnavailableError: Redis does not answer.
        """
        self._check(kind, name)
        return self.ledger.control.pause(kind, name, BY_HAND)

    def let_go(self, kind: str, name: str) -> bool:
        """Resume a batch or a source. Return whether it was paused. Raises as ``hold``."""
        # A name that an older version paused unchecked can be resumed.
        if (kind, name) not in self.ledger.control.pauses():
            self._check(kind, name)
        was = self.ledger.control.resume(kind, name)
        self._sender.send(self.ledger.dispatch.release())
        return was

    # --- retry, cancel, forget -------------------------------------------------------------------

    def retry(self, batch: str, kinds: Sequence[str] = (), names: Sequence[str] = ()) -> int:
        """Retry what failed or, by name, what failed, was cancelled or waits.

        Args:
            batch: Name of the batch.
            kinds: Classes of errors; none is any.
            names: Items, file names or ids; in place of all that failed.

        Returns:
            The number of downloads that begin anew.

        Raises:
            UnknownBatchError, UnknownDownloadError: no such batch, or it has none of that name;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.
        """
        self._check("batch", batch)
        wanted = (
            self.ledger.reading.named(batch, names)
            if names
            else self.ledger.reading.failed(batch, kinds)
        )
        begun = sum(self.ledger.control.retry(block) for block in _blocks(wanted))
        self._sender.send(self.ledger.dispatch.release())
        return begun

    def cancel(self, batch: str, names: Sequence[str] = (), kinds: Sequence[str] = ()) -> Withdrawn:
        """Cancel what is not over in a batch, or some of it, unless another batch asks for it.

        Args:
            batch: Name of the batch.
            names: Items, file names or ids; in place of all that is not over.
            kinds: Classes of errors: only what waits after one of these.

        Raises:
            UnknownBatchError, UnknownDownloadError: no such batch, or it has none of that name;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.
        """
        wanted = self.ledger.reading.downloads(batch)
        if names:
            wanted = self.ledger.reading.named(batch, names)
        elif kinds:
            wanted = self.ledger.reading.failed(batch, kinds, state=State.RETRY)
        return self._withdraw(batch, wanted)

    def _withdraw(self, batch: str, wanted: Sequence[str]) -> Withdrawn:
        blocks = _blocks(wanted)
        return sum((self.ledger.control.withdraw(batch, block) for block in blocks), Withdrawn())

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
            self._withdraw(batch, self.ledger.reading.downloads(batch))
        self.ledger.retention.forget(batch, unfinished=unfinished)
        swept = self.ledger.retention.sweep()
        self._sender.send(self.ledger.dispatch.release())
        return swept


def _blocks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut into pieces that hold Redis up for some milliseconds each."""
    return (ids[first : first + BLOCK] for first in range(0, len(ids), BLOCK))
