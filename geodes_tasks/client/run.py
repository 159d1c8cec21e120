"""A run: items admitted and watched to their end, on this machine or by a cluster."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from geodes_tasks.client import enqueue_admission, planning
from geodes_tasks.client.batch import Batch
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.private_server import OnLoad, runtime_folder
from geodes_tasks.errors import (
    ConfigError,
    LedgerSchemaError,
    LedgerUnavailableError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.tasks.app import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from geodes_tasks.client.enqueue_admission import Rank, Receipt
    from geodes_tasks.client.planning import Planned
    from geodes_tasks.model.results import BatchStatus, ErrorInfo
    from geodes_tasks.monitoring.terminal import View
    from geodes_tasks.settings.config import Settings

POLL_S = 0.25
"""Seconds between two reads of the status."""
LAST_POLL_S = 0.03
"""Seconds between two reads while the last few downloads move: the caller waits for them."""
LAST = 16
"""Number of unfinished downloads that count as the last few."""


def has_cluster(settings: Settings) -> bool:
    """Return whether the settings name a Redis: its workers download then."""
    return "redis_url" in settings.model_fields_set


def require_cluster(settings: Settings, command: str) -> None:
    """Check that the settings name a Redis, for a command that needs workers elsewhere.

    Raises:
        ConfigError: they do not.
    """
    if not has_cluster(settings):
        raise ConfigError(
            "GEODES_TASKS_REDIS_URL",
            f"`{command}` needs the Redis of a cluster, and none is configured",
            "Type: export GEODES_TASKS_REDIS_URL=redis://HOST:6379/0. On one machine "
            "`geodes-tasks download` needs none.",
        )


def folder_of(settings: Settings, given: str | Path | None = None) -> Path:
    """Return the download folder in the one spelling that names its ledger.

    On one machine links are followed: one folder has one ledger, whatever it is called. In a
    cluster they stay, for a worker may see them elsewhere.
    """
    folder = planning.folder(given or settings.download_dir)
    return folder if has_cluster(settings) else folder.resolve()


@dataclass(frozen=True, slots=True)
class Run:
    """A batch that was admitted, and what works on it."""

    batch: Batch
    receipt: Receipt
    ledger: Ledger
    machine: OneMachine | None = None
    """The server and worker of one-machine mode; None for a cluster."""

    def watch(
        self,
        picture: View,
        *,
        tell: Callable[[str], None] | None = None,
        max_wait_s: float | None = None,
    ) -> BatchStatus:
        """Show progress until the batch is over, or nothing can continue without a user.

        Args:
            picture: Where it is shown; entered here.
            tell: Called once for each reason to wait, where the picture does not show them.
            max_wait_s: How long to wait when all that is left is on tape. None: for ever where a
                cluster works, not at all on one machine.

        Raises:
            PrivateProcessError: the private worker ended by itself.
            LedgerUnavailableError: Redis does not answer any more.
        """
        if self.machine is not None and self.status().unfinished:
            self.machine.start_worker()
        told, reader = set[str](), SnapshotReader(self.ledger, [self.batch.id])
        before: BatchStatus | None = None
        alone = self.machine is not None
        patience = Patience(max_wait_s if max_wait_s is not None else 0.0 if alone else math.inf)
        with picture:
            while True:
                status = self.status()
                if tell is not None and not picture.shows_waits:
                    for line in self._new_waits(status, told):
                        tell(line)
                picture.show(status, reader.read)
                if self.machine is not None and not status.unfinished:
                    self.machine.dismiss_worker()
                if not status.unfinished or is_stuck(status, patience):
                    return status
                if self.machine is not None:
                    self.machine.check()
                time.sleep(LAST_POLL_S if is_ending(status, before) else POLL_S)
                before = status

    def _new_waits(self, status: BatchStatus, told: set[str]) -> Iterator[str]:
        """Yield one line for each new reason of a wait, with its first error and hint."""
        for reason in sorted(set(status.waiting) - told):
            told.add(reason)
            first = self.ledger.reading.first_waiting(self.batch.id, reason)
            record = self.ledger.reading.record(first[0]) if first else None
            if record is not None and record.error is not None:
                yield in_words(f"waits ({reason})", record.error)

    def status(self) -> BatchStatus:
        """Count how the batch stands."""
        return self.batch.status()

    def left(self) -> str:
        """Return one line about the rest of an interrupted batch."""
        status = self.status()
        size = human_bytes(max(status.bytes_total - status.bytes_done, 0))
        return f"{status.unfinished} of {status.total} downloads ({size}) are left"

    def stop(self) -> None:
        """Stop the private worker, if there is one: it gives its downloads back."""
        if self.machine is not None:
            self.machine.stop_worker()

    def failures(self, most: int = 20, *, refused: bool = True) -> Iterator[str]:
        """Yield a line for each class of error: how many failed or wait, an example, what to do.

        Args:
            most: Number of lines at most.
            refused: Whether to name those that were refused when they were enqueued.
        """
        groups = self.ledger.reading.failures(self.batch.id)
        groups = [group for group in groups if refused or not group.is_refused]
        for group in groups[:most]:
            word = "failed" if group.state is State.FAILURE else "waits"
            if group.count > 1:
                word = f"{group.count} {word.removesuffix('s')}, for example"
            yield in_words(word, group.example)
        if len(groups) > most:
            yield f"and {len(groups) - most} more kinds of errors"


def in_words(word: str, error: ErrorInfo) -> str:
    """Return one line with an error and its remedy."""
    return f"{word}: {error.message.rstrip('.')}. {error.hint}".rstrip()


@dataclass(slots=True)
class Patience:
    """How long files on tape are waited for when nothing else is left."""

    seconds: float
    _since: float | None = None

    def ended(self, *, only_tape: bool) -> bool:
        """Look at how things stand now, and tell whether it has been so for too long."""
        if not only_tape:
            self._since = None
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since >= self.seconds


def is_stuck(status: BatchStatus, patience: Patience) -> bool:
    """Return whether all that is left waits for a new key, or for the tape for too long."""
    if status.waiting.get(Reason.AUTH, 0) and not status.states[State.STARTED]:
        return True
    left = status.unfinished
    return patience.ended(only_tape=0 < left == status.waiting.get(Reason.OFFLINE, 0))


def is_ending(status: BatchStatus, before: BatchStatus | None) -> bool:
    """Return whether only the last few downloads are left, and they move."""
    if before is None or status == before:
        return False
    return status.unfinished <= max(LAST, before.unfinished - status.unfinished)


@contextlib.contextmanager
def begun(
    planned: Iterable[Planned],
    folder: Path,
    settings: Settings,
    name: str | None = None,
    on_load: OnLoad | None = None,
) -> Iterator[Run]:
    """Admit downloads where the settings say: to a cluster's Redis, else to this machine.

    Raises:
        FolderBusyError, PrivateProcessError, ConfigError, LedgerUnavailableError: it cannot begin.
    """
    if has_cluster(settings):
        yield admitted(planned, settings, name)
        return
    with on_this_machine(planned, folder, settings, name, on_load) as run:
        yield run


@contextlib.contextmanager
def on_this_machine(
    planned: Iterable[Planned],
    folder: Path,
    settings: Settings,
    name: str | None = None,
    on_load: OnLoad | None = None,
) -> Iterator[Run]:
    """Start the private server, admit; the worker starts when there is something to do.

    Args:
        planned: What to download.
        folder: The download folder.
        settings: The user's settings.
        name: Name of the batch; None makes one.
        on_load: Receives the progress of the server while it loads what earlier runs recorded.
    """
    with OneMachine(settings, folder, on_load) as machine:
        yield admitted(planned, machine.settings, name, machine)


def admitted(
    planned: Iterable[Planned],
    settings: Settings,
    name: str | None = None,
    machine: OneMachine | None = None,
    rank: Rank | None = None,
) -> Run:
    """Admit downloads to the Redis of the settings.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    ledger = Ledger.of(settings)
    ledger.connection.ping()
    name = name or enqueue_admission.new_batch_name()
    begin = machine.start_worker if machine is not None else None
    receipt = enqueue_admission.admit(
        planned, name, settings.account, ledger, Sender(settings), rank, begin
    )
    return Run(Batch(name, ledger, settings), receipt, ledger, machine)


# --- ledgers, to read only -----------------------------------------------------------------------


@contextlib.contextmanager
def ledger_of(
    settings: Settings, folder: Path, on_load: OnLoad | None = None
) -> Iterator[Ledger | None]:
    """Yield the ledger of a folder: the cluster's, the running or the last private one.

    None where nothing was ever downloaded to the folder in one-machine mode.
    """
    if has_cluster(settings):
        yield Ledger.of(settings)
        return
    with OneMachine(settings, folder, on_load).opened() as ledger:
        yield ledger


def private_ledgers(settings: Settings) -> Iterator[Ledger]:
    """Yield the ledgers of all one-machine runs of this user that are under way."""
    for socket in sorted(runtime_folder().glob("*.sock")):
        url = SecretStr(f"redis+socket://{socket}")
        ledger = Ledger.of(settings.model_copy(update={"redis_url": url}))
        with contextlib.suppress(LedgerUnavailableError, LedgerSchemaError):
            ledger.connection.ping()
            yield ledger
