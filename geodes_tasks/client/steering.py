"""Steer batches: pause, resume, retry, cancel, forget, repair. Every verb is idempotent."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from geodes_tasks import errors
from geodes_tasks.client.planning import Planned
from geodes_tasks.errors import (
    ConfigError,
    UnknownAccountError,
    UnknownNameError,
    UnknownSourceError,
)
from geodes_tasks.ledger import Ledger, Request, Withdrawn
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.formatting import nearest
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.settings.account_keys import spellings
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import Sender
from geodes_tasks.transfer.audit import Expected

SOURCES = (GEODES, S3)
BLOCK = 50
"""The most downloads in one run of a script; Redis answers no other client while it runs."""
BY_HAND = "by hand"
"""Recorded reason of a pause that a user asked for, not a worker."""


class Steering:
    """The verbs that change downloads, in the words of the command line.

    Every method names what it acts on. An unknown name is an error, never a new one.
    """

    def __init__(self, settings: Config) -> None:
        """Prepare; opens no connection."""
        self.ledger = Ledger.of(settings)
        self._account = settings.account
        self._sender = Sender(settings)

    # --- names -----------------------------------------------------------------------------------

    def accounts(self) -> list[str]:
        """Return the known accounts: configured here, of the ledger, of the keys of workers."""
        ledger = self.ledger
        return sorted(
            {self._account, *ledger.dispatch.accounts(), *ledger.dispatch.published("accounts")}
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
        """Return the kinds of a name: ``source``, ``account``, ``batch``, in this order.

        Raises:
            UnknownNameError: none of them.
        """
        accounts, paused = self.accounts(), self.ledger.control.pauses()
        known = {
            "source": name in SOURCES,
            "account": bool(spellings(name, accounts)),
            "batch": name in self.ledger.reading.batches(),
        }
        kinds = [kind for kind, is_known in known.items() if is_known or (kind, name) in paused]
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

    def _spellings(self, account: str) -> list[str]:
        """Return the known accounts with the key of this one, in every spelling.

        Raises:
            UnknownAccountError: there is none.
        """
        known = self.accounts()
        if not (found := spellings(account, known)):
            raise UnknownAccountError(account, nearest(account, known))
        # Workers publish the lower case of their variables: one more spelling is no more account.
        in_ledger = self.ledger.dispatch.accounts()
        return [one for one in found if one in in_ledger] or found[:1]

    def _check_kinds(self, batch: str, kinds: Sequence[str]) -> None:
        """Raise the error of a class of errors that neither exists nor is in the batch.

        Raises:
            ConfigError: it names the classes of the batch that are most like it.
        """
        for kind in kinds:
            if errors.is_class(kind):
                continue
            there = {one.type for one in self.ledger.reading.failures(batch)}
            if kind not in there:
                known = sorted(there) or [*filter(errors.is_class, errors.__all__)]
                like = nearest(kind, known) or ", ".join(known[:4])
                raise ConfigError("--class", f"no error has the class {kind!r}", f"Try: {like}.")

    # --- pause and resume ------------------------------------------------------------------------

    def pause(self, kind: str, name: str) -> bool:
        """Pause an ``account``, a ``batch`` or a ``source``. Return whether it was running.

        Running downloads end, no new ones start.

        Raises:
            UnknownAccountError, UnknownBatchError, UnknownSourceError: there is none of this name;
                nothing was paused.
            LedgerUnavailableError: Redis does not answer.
        """
        control = self.ledger.control
        if kind == "account":
            paused = [control.pause_account(one, BY_HAND) for one in self._spellings(name)]
            return any(paused)
        self._check(kind, name)
        return control.pause(kind, name, BY_HAND)

    def resume(self, kind: str, name: str) -> bool:
        """Resume what was paused. Return whether it was paused. Raises as ``pause``."""
        control = self.ledger.control
        if kind == "account":
            resumed = [control.resume_account(one) for one in self._spellings(name)]
            was = any(resumed)
        else:
            # A name that an older version paused unchecked can be resumed.
            if (kind, name) not in control.pauses():
                self._check(kind, name)
            was = control.resume(kind, name)
        self._sender.wake(self.ledger)
        return was

    def limit(self, account: str, number: int | None) -> int:
        """Set the concurrency limit of an account by hand; return the limit in force.

        Args:
            account: Its name.
            number: Transfers at once over all workers; None gives the limit back to the reaction
                to HTTP 429.

        Raises:
            UnknownAccountError: there is none of this name; nothing was changed.
            ConfigError: less than 1, or more than the settings allow.
            LedgerUnavailableError: Redis does not answer.
        """
        accounts = self._spellings(account)
        most = self.ledger.connection.limits.concurrent
        if number is not None and not 1 <= number <= most:
            hint = "GEODES_TASKS_MAX_CONCURRENT of all workers sets the highest limit."
            raise ConfigError("N", f"{number} is not between 1 and {most}", hint)
        for one in accounts:
            self.ledger.account.set_limit(one, number)
        # A higher limit starts downloads now.
        self._sender.wake(self.ledger)
        return number or most

    # --- retry, cancel, forget -------------------------------------------------------------------

    def retry(self, batch: str, kinds: Sequence[str] = (), names: Sequence[str] = ()) -> int:
        """Retry what failed or, by name, what failed, was cancelled or waits.

        Args:
            batch: Name of the batch.
            kinds: Classes of errors; none is any.
            names: Items, file names or ids; in place of all that failed.

        Returns:
            The number of downloads that start again.

        Raises:
            ConfigError: both kinds and names are given, or a class that does not exist.
            UnknownBatchError, UnknownDownloadError: no such batch, or it has none of that name;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.
        """
        if kinds and names:
            raise ConfigError("items", "name items or classes of errors, not both")
        self._check("batch", batch)
        self._check_kinds(batch, kinds)
        reading = self.ledger.reading
        while self.ledger.control.end_left_overs():
            # A batch of an earlier one-machine run must have ended before it begins again.
            pass
        wanted = reading.named(batch, names) if names else reading.failed(batch, kinds)
        begun = sum(self.ledger.control.retry(block) for block in _blocks(wanted))
        self._sender.wake(self.ledger)
        return begun

    def cancel(self, batch: str, names: Sequence[str] = (), kinds: Sequence[str] = ()) -> Withdrawn:
        """Cancel the unfinished downloads of a batch, but those that another batch also has.

        Args:
            batch: Name of the batch.
            names: Items, file names or ids; in place of all that are unfinished.
            kinds: Classes of errors: only what waits after one of these.

        Raises:
            UnknownBatchError, UnknownDownloadError: no such batch, or it has none of that name;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.
        """
        reading = self.ledger.reading
        self._check_kinds(batch, kinds)
        if names:
            return self._withdraw(batch, reading.named(batch, names))
        if kinds:
            return self._withdraw(batch, reading.failed(batch, kinds, state=State.RETRY))
        return self._withdraw(batch, reading.downloads(batch))

    def _withdraw(self, batch: str, wanted: Iterable[str]) -> Withdrawn:
        blocks = _blocks(wanted)
        return sum((self.ledger.control.withdraw(batch, block) for block in blocks), Withdrawn())

    def forget(self, batch: str, *, unfinished: bool = False) -> None:
        """Remove a batch from the ledger, and the records that no other batch has.

        Files stay; a file that is enqueued again is hashed once. Records of running downloads
        and of part files are removed later, by workers.

        Args:
            batch: Its name.
            unfinished: Cancel unfinished downloads first; without it the batch is refused.

        Raises:
            UnknownBatchError: there is none of this name.
            BatchUnfinishedError: it has unfinished downloads; nothing was changed.
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        if unfinished:
            self._withdraw(batch, self.ledger.reading.downloads(batch))
        self.ledger.retention.forget(batch, unfinished=unfinished)
        self.ledger.retention.sweep()
        if not self.ledger.reading.batches():
            # With its last batch a private ledger is empty: it keeps no stats of files either.
            self.ledger.retention.forget_stats()
        self._sender.wake(self.ledger)


def _blocks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield pieces of at most ``BLOCK`` downloads."""
    # Redis runs one script at a time (redis.io, "Scripting with Lua": blocking semantics); a piece
    # blocks it for some milliseconds.
    left = iter(ids)
    while block := list(itertools.islice(left, BLOCK)):
        yield block


def repair_requests(ledger: Ledger, wrong: Sequence[Expected]) -> list[Planned]:
    """Return requests that fetch wrong files again; right files of the batch are left alone.

    Args:
        ledger: Where the downloads are recorded; their proofs are discarded.
        wrong: Files that an audit found changed or missing.

    Raises:
        LedgerUnavailableError: Redis does not answer; call it again.
    """
    planned = []
    for one in wrong:
        # A flipped bit changes neither size nor time: with its proof kept, one stat would find
        # such a file unchanged.
        ledger.retention.discard_proof(one.download_id)
        for asset in ledger.reading.assets([one.download_id]).values():
            planned.append(Planned(requests=[Request(asset, one.path)]))
    return planned
