"""A batch: downloads that were enqueued together, their states and their results."""

from __future__ import annotations

import itertools
import time
from html import escape
from typing import TYPE_CHECKING, Any

from geodes_tasks import errors
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import ConfigError, LedgerUnavailableError, Reaction, UnknownBatchError
from geodes_tasks.ledger import Ledger, Withdrawn
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring import dataframe, html
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geodes_tasks.ledger import FailureGroup
    from geodes_tasks.model.results import BatchStatus, DownloadRecord
    from geodes_tasks.settings.config import Config

POLL_S = 0.5
"""Seconds between two reads of the status while a caller waits."""

DONE, SOME_FAILED, NOTHING, TRANSIENT, OFFLINE, ACCOUNT = 0, 3, 4, 5, 6, 7
"""Exit codes for the end of a batch."""


class Batch:
    """A handle on a batch in the ledger; any number of processes may hold one."""

    def __init__(self, name: str, ledger: Ledger, settings: Config | None = None) -> None:
        """Store the name of a batch; opens no connection.

        Args:
            name: Name of the batch.
            ledger: The ledger that has it.
            settings: Those of the ledger, to steer the batch; None: environment and file.
        """
        self.id, self.ledger, self._settings = name, ledger, settings

    def __repr__(self) -> str:
        """Name the batch."""
        return f"Batch({self.id!r})"

    def status(self) -> BatchStatus:
        """Count states, outcomes and bytes; one round trip.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        return self.ledger.reading.status(self.id)

    def _steering(self) -> Steering:
        return Steering(self._settings or config.load())

    def retry(self, classes: Sequence[str] = (), items: Sequence[str] = ()) -> int:
        """Retry failed downloads; by item also those that were cancelled or wait.

        Args:
            classes: Names of error classes, such as ``NotFoundError``; none is any.
            items: Items, file names or ids of downloads.

        Returns:
            The number of downloads that start again.

        Raises:
            ConfigError: both classes and items are given.
            UnknownBatchError, UnknownDownloadError: no such batch, or it has no such item;
                nothing was changed.
            LedgerUnavailableError: Redis does not answer.
        """
        if classes and items:
            raise ConfigError("items", "name items or classes of errors, not both")
        return self._steering().retry(self.id, classes, items)

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
        """
        return self._steering().cancel(self.id, items)

    def pause(self) -> bool:
        """Pause the batch: running downloads end, no new ones start.

        Returns:
            False when it was paused already.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        return self._steering().pause_part("batch", self.id)

    def resume(self) -> bool:
        """Resume the batch. Return False when it was not paused. Raises as ``pause``."""
        return self._steering().resume_part("batch", self.id)

    def results(self) -> list[DownloadRecord]:
        """Return the record of each download, in the order of the requests.

        Raises:
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        return list(self.ledger.reading.records(self.id))

    def to_dataframe(self) -> Any:
        """Return a pandas data frame with a row for each download, in order.

        Raises:
            MissingPackageError: pandas is not installed.
            UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
        """
        return dataframe.frame(self.ledger.reading.records(self.id))

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: bars, errors by class, the first downloads."""
        try:
            snapshot = SnapshotReader(self.ledger, [self.id]).read()
            rows = list(itertools.islice(self.ledger.reading.records(self.id), html.RECORD_ROWS))
        except (UnknownBatchError, LedgerUnavailableError) as error:
            return f"<p>{escape(repr(self))}: {escape(str(error))}</p>"
        return html.picture(snapshot) + html.table(rows, snapshot.batches[0].total)

    def wait(self, timeout: float | None = None, *, quiet: bool = False) -> BatchStatus:
        """Wait until no download of the batch is queued, running or waiting any more.

        Args:
            timeout: Seconds to wait at most; None is for ever.
            quiet: Show nothing; else a notebook shows the batch meanwhile.

        Raises:
            TimeoutError: it took longer; the batch continues.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        picture = html.Html() if html.in_notebook() and not quiet else None
        while True:
            status = self.status()
            if picture is not None:
                picture.show(status, SnapshotReader(self.ledger, [self.id]).read)
            if not status.unfinished:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                left = f"{status.unfinished} of {status.total} downloads are unfinished"
                raise TimeoutError(f"batch {self.id}: {left} after {timeout} s")
            time.sleep(POLL_S)


def batch(name: str, *, conf: Config | None = None) -> Batch:
    """Open a batch again, in any process.

    Args:
        name: Its id, as ``enqueue()`` and ``geodes-tasks enqueue`` report it.
        conf: In place of environment and files.

    Raises:
        UnknownBatchError, LedgerUnavailableError: no such batch, or no Redis.
    """
    settings = conf or config.load()
    opened = Batch(name, Ledger.of(settings), settings)
    # A handle on a misspelt name would fail at its first use, far from the mistake.
    opened.status()
    return opened


def batches(*, conf: Config | None = None) -> list[Batch]:
    """Return every batch of the ledger, the newest first.

    Args:
        conf: In place of environment and files.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    settings = conf or config.load()
    ledger = Ledger.of(settings)
    return [Batch(name, ledger, settings) for name in ledger.reading.batches()]


UNKNOWN_ITEM = errors.ItemNotFoundError.__name__
"""Error of an id that the portal does not know: where there is nothing else, nothing was found."""


def exit_code(status: BatchStatus, failures: Iterable[FailureGroup]) -> int:
    """Return the exit code for the present state of a batch.

    Args:
        status: The counts.
        failures: The errors by class; read only when a download failed.
    """
    if status.total == 0:
        return NOTHING
    if status.waiting.get(Reason.AUTH) or status.waiting.get(Reason.QUOTA):
        return ACCOUNT
    if status.states[State.FAILURE]:
        kinds = [group.type for group in failures if group.state is State.FAILURE]
        if set(kinds) == {UNKNOWN_ITEM} and status.states[State.FAILURE] == status.total:
            return NOTHING
        return TRANSIENT if kinds and all(map(_is_transient, kinds)) else SOME_FAILED
    if status.waiting.get(Reason.OFFLINE):
        return OFFLINE
    return (
        TRANSIENT if status.unfinished else (SOME_FAILED if status.states[State.REVOKED] else DONE)
    )


def _is_transient(kind: str) -> bool:
    reaction = getattr(getattr(errors, kind, None), "reaction", Reaction.FINAL)
    return reaction in {Reaction.TRANSIENT, Reaction.CORRUPT}
