"""A batch: downloads that were enqueued together, their states and their results."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar

from geodes_tasks.client import ledgers
from geodes_tasks.client.item_like import check_text, check_texts
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.steering import Steering
from geodes_tasks.client.waiting import Waiting
from geodes_tasks.errors import FolderBusyError, GeodesTasksError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger, Withdrawn
from geodes_tasks.ledger.reading import BLOCK
from geodes_tasks.model.results import BatchStatus, DownloadRecord
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.monitoring import dataframe, html
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.settings import config
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import Sender

Result = TypeVar("Result")


class Batch:
    """A handle on a batch; any number of processes may have one, at the same time or days later.

    ``enqueue()`` returns one, ``batch(name)`` opens one again, ``batches()`` lists them.

    Examples:
        >>> import geodes_tasks
        >>> batch = geodes_tasks.batch("april")
        >>> batch
        Batch('april', ...)
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger | None = None,
        conf: Config | None = None,
        folder: Path | None = None,
        *,
        is_empty: bool = False,
    ) -> None:
        """Store the name of a batch; opens no connection.

        Args:
            name: Name of the batch.
            ledger: The one that has it; None: the cluster's. Without a Redis the private ledgers
                of this user on this machine are searched.
            conf: The configuration; None: environment and files.
            folder: The download folder whose private ledger has it; None: a cluster's has it.
            is_empty: Nothing was enqueued: the ledger has no such batch, and it is done.
        """
        self.id, self.folder = check_text("name", name), folder
        self._conf = config.of(conf)
        self.ledger = ledger or Ledger.of(self._conf)
        self._is_empty = is_empty
        self._is_found = bool(is_empty or ledger or folder) or has_cluster(self._conf)

    def __repr__(self) -> str:
        """Name the batch, and the folder of a private ledger."""
        where = "" if self.folder is None else f", {str(self.folder)!r}"
        return f"Batch({self.id!r}{where})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the same batch, with connections of its own."""
        opened = functools.partial(Batch, is_empty=self._is_empty)
        return opened, (self.id, None, self._conf, self.folder)

    def _find(self) -> None:
        """Find the private ledger that has the batch, where neither it nor a Redis is named."""
        if not self._is_found:
            with ledgers.selected(self._conf, None, self.id, lambda _: None) as found:
                self.folder, self._is_found = found.folder, True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Ledger, Steering]]:
        """Yield the ledger and the verbs over it; a private server runs meanwhile."""
        self._find()
        if self.folder is None:
            yield self.ledger, Steering(self._conf)
            return
        with ledgers.opened(self._conf, self.folder) as found:
            yield found.ledger, Steering(found.conf)

    @property
    def owner(self) -> str | None:
        """``user@host`` that enqueued it first; None if unknown. Raises as ``status``."""
        return self.status().owner

    def status(self) -> BatchStatus:
        """Count states, outcomes and bytes.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.

        Examples:
            >>> status = batch.status()
            >>> status.states["SUCCESS"], status.total
            (3, 3)
        """
        if self._is_empty:
            states, outcomes = (dict.fromkeys(map(str, kind), 0) for kind in (State, Outcome))
            return BatchStatus(batch=self.id, total=0, states=states, outcomes=outcomes)
        with self._opened() as (ledger, _):
            return ledger.reading.status(self.id)

    def retry(self, classes: Sequence[str] = (), items: Sequence[str] = ()) -> int:
        """Retry failed downloads; by item also those that were cancelled or wait.

        Args:
            classes: Names of error classes, such as ``NotFoundError``; none is any.
            items: Items, file names or ids of downloads.

        Returns:
            The number of downloads that start again.

        Raises:
            ConfigError: both classes and items are given, or a class that does not exist.
            TypeError: one of them is no list of texts.
            UnknownBatchError, UnknownDownloadError: no such batch, or it has no such item;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.

        Examples:
            >>> batch.retry(classes=["NotFoundError"])
            0
        """
        classes, items = check_texts("classes", classes), check_texts("items", items)
        return self._steered(0, lambda steering: steering.retry(self.id, classes, items))

    def cancel(self, items: Sequence[str] = ()) -> Withdrawn:
        """Cancel unfinished downloads, but those that another batch also has.

        Args:
            items: Items, file names or ids of downloads; none is all that are unfinished.

        Returns:
            The numbers of downloads that were cancelled and that continue for another batch.

        Raises:
            UnknownBatchError, UnknownDownloadError: no such batch, or it has no such item;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.

        Examples:
            >>> batch.cancel().cancelled
            0
        """
        items = check_texts("items", items)
        return self._steered(Withdrawn(), lambda steering: steering.cancel(self.id, items))

    def pause(self) -> bool:
        """Pause the batch: running downloads finish, no new ones start.

        Returns:
            False when it was paused already.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.

        Examples:
            >>> batch.pause()
            True
        """
        return self._steered(False, lambda steering: steering.pause("batch", self.id))

    def resume(self) -> bool:
        """Resume the batch. Return False when it was not paused. Raises as ``pause``."""
        return self._steered(False, lambda steering: steering.resume("batch", self.id))

    def _steered(self, nothing: Result, verb: Callable[[Steering], Result]) -> Result:
        if self._is_empty:
            return nothing
        with self._opened() as (_, steering):
            return verb(steering)

    def results(self) -> list[DownloadRecord]:
        """Return the records in the order of enqueueing; refused or present ones may stand apart.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.

        Examples:
            >>> sorted({record.state for record in batch.results()})
            [<State.SUCCESS: 'SUCCESS'>]
        """
        return list(self.iter_results())

    def iter_results(self) -> Iterator[DownloadRecord]:
        """Yield the records one after the other, with flat memory. Raises as ``results``."""
        if not self._is_empty:
            with self._opened() as (ledger, _):
                yield from ledger.reading.records(self.id)

    def failures(self) -> list[DownloadRecord]:
        """Return the records of the failed downloads, by class of error. Raises as ``results``.

        Examples:
            >>> [(record.item_id, record.error) for record in batch.failures()]
            []
        """
        if not self.status().states[State.FAILURE]:
            return []
        found: list[DownloadRecord | None] = []
        with self._opened() as (ledger, _):
            failed = ledger.reading.failed(self.id)
            while ids := list(itertools.islice(failed, BLOCK)):
                found += ledger.reading.read(ids)
        # One may have been retried or forgotten meanwhile.
        return [one for one in found if one is not None and one.state is State.FAILURE]

    def to_dataframe(self) -> Any:
        """Return a pandas data frame with a row for each download, ordered as ``results()``.

        Raises:
            MissingPackageError: pandas is not installed.
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.

        Examples:
            >>> batch.to_dataframe()["outcome"].tolist()
            ['DOWNLOADED', 'DOWNLOADED', 'DOWNLOADED']
        """
        return dataframe.frame(self.iter_results())

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: bars, errors by class, the first downloads."""
        if self._is_empty:
            return f"<p><b>{escape(self.id)}</b>: no items</p>"
        try:
            with self._opened() as (ledger, _):
                snapshot = SnapshotReader(ledger, [self.id], folder=self.folder).read()
                rows = list(itertools.islice(ledger.reading.records(self.id), html.RECORD_ROWS))
        except GeodesTasksError as error:
            return f"<p>{escape(repr(self))}: {escape(str(error))}</p>"
        return html.picture(snapshot) + html.table(rows, snapshot.batches[0].total)

    def wait(
        self,
        timeout: float | None = None,
        *,
        until: Literal["done", "blocked"] = "done",
        quiet: bool = False,
    ) -> BatchStatus:
        """Wait until no download of the batch is queued, running or waiting any more.

        Shows the progress, and why nothing moves: a missing key, a pause, no living worker. On one
        machine without a Redis, the server and the workers run as long as this waits.

        Args:
            timeout: Seconds to wait at most; None is for ever.
            until: ``done``; or ``blocked``, which returns also when nothing can move without a
                person: the key is missing or refused, or the batch is paused by hand.
            quiet: Show nothing.

        Raises:
            TimeoutError: it took longer; the batch continues.
            ValueError: ``until`` is another word.
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.

        Examples:
            >>> batch.wait(timeout=60, quiet=True).ok
            True
        """
        if until not in ("done", "blocked"):
            raise ValueError(f"until is 'done' or 'blocked', not {until!r}")
        if self._is_empty:
            return self.status()

        began = time.monotonic()

        def waiting(
            ledger: Ledger, machine: OneMachine | None = None, other: OneMachine | None = None
        ) -> BatchStatus:
            write = html.write_line if not quiet else lambda _: None
            view, run = html.progress_view(quiet=quiet), (machine, self.folder, other, began)
            return Waiting(self.id, ledger, view, write, until, math.inf, *run).run(timeout)

        self._find()
        if self.folder is None:
            return waiting(self.ledger)
        while True:
            run = OneMachine(self._conf, self.folder, wanted=[self.id])
            try:
                # What an interrupted wait has left belongs to this run too.
                with run:
                    ledger = Ledger.of(run.settings)
                    Sender(run.settings).wake(ledger)
                    return waiting(ledger, run)
            except FolderBusyError:
                # The run of another thread or process has the folder, and works on this batch too.
                with contextlib.suppress(LedgerUnavailableError), self._opened() as (ledger, _):
                    return waiting(ledger, other=run)


def batch(name: str, *, conf: Config | None = None) -> Batch:
    """Open a batch again, in any process, as ``Batch`` does; a wrong name is an error here.

    Args:
        name: Its id, as ``enqueue()`` and ``geodes-tasks enqueue`` report it.
        conf: In place of environment and files.

    Raises:
        UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        ConfigError: nothing was downloaded here yet, or several folders have such a batch.

    Examples:
        >>> import geodes_tasks
        >>> geodes_tasks.batch("april").status().total
        3
    """
    found = Batch(name, conf=conf)
    found.status()
    return found


def batches(*, conf: Config | None = None) -> list[Batch]:
    """Return every batch of the ledger, the newest first.

    Without a Redis, those of all private ledgers of this user on this machine.

    Args:
        conf: In place of environment and files.

    Raises:
        LedgerUnavailableError: Redis does not answer.

    Examples:
        >>> import geodes_tasks
        >>> [batch.id for batch in geodes_tasks.batches()]
        ['april']
    """
    conf = config.of(conf)
    if has_cluster(conf):
        return [Batch(name, None, conf) for name in Ledger.of(conf).reading.batches()]
    private = ledgers.private_batches(conf)
    return [Batch(name, None, conf, folder) for folder, names in private for name in names]
