"""The ledger that is meant: that of a cluster, or the private one of a download folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geodes_tasks.client import planning
from geodes_tasks.client.local_server import OneMachine, known_folders
from geodes_tasks.errors import ConfigError, GeodesTasksError, UnknownBatchError, in_folder
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import nearest
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config

logger = logging.getLogger(__name__)


def folder_of(conf: Config, given: str | Path | None = None) -> Path:
    """Return the download folder in the one spelling that names its ledger.

    On one machine links are followed: one folder has one ledger, whatever it is called. In a
    cluster they stay, for a worker may see them elsewhere.
    """
    folder = planning.folder(given or conf.download_dir)
    return folder if has_cluster(conf) else folder.resolve()


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """A ledger that can be read and steered now."""

    conf: Config
    """The configuration with the address of its server."""
    machine: OneMachine | None = None
    """What a private ledger belongs to; None for that of a cluster."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger.of(self.conf)

    @property
    def folder(self) -> Path | None:
        """The download folder of a private ledger; None for that of a cluster."""
        return self.machine.folder if self.machine is not None else None

    @property
    def is_idle(self) -> bool:
        """Return whether no run is under way: what is steered takes effect at the next one."""
        return self.machine is not None and not self.machine.is_under_way


@contextlib.contextmanager
def opened(conf: Config, folder: Path | None, *, is_new: bool = False) -> Iterator[OpenLedger]:
    """Yield the private ledger of a folder: through the server of a run, else one for the moment.

    Args:
        conf: The user's configuration.
        folder: The download folder; None for the cluster's ledger.
        is_new: Make a ledger where the folder has none.

    Raises:
        ConfigError: the folder has none, the state folder cannot be used, or no server is to be
            found.
        PrivateProcessError: the server does not start.
    """
    if folder is None:
        yield OpenLedger(conf)
        return
    machine = OneMachine(conf, folder)
    if is_new:
        machine.make_state()
    with machine.opened() as ledger:
        if ledger is None:
            raise ConfigError("-o", f"nothing was downloaded to {folder} on this machine")
        try:
            yield OpenLedger(machine.settings, machine)
        except GeodesTasksError as error:
            error.remedy = in_folder(error.remedy, folder)
            raise


@contextlib.contextmanager
def selected(
    conf: Config,
    output_dir: Path | None,
    batch: str | None,
    write: Callable[[str], None],
) -> Iterator[OpenLedger]:
    """Yield the ledger that a command means.

    That is the private one of ``output_dir``; else the cluster's, where one is configured; else
    the private one that has the batch, or the one of the last run.

    Args:
        conf: The user's configuration.
        output_dir: The folder that the user named, if any.
        batch: The batch that the user named, if any.
        write: Receives a line that names a folder which the user did not.

    Raises:
        ConfigError: there is no such ledger, or several have a batch of this name.
        UnknownBatchError: no private ledger has this batch.
    """
    if output_dir is None and has_cluster(conf):
        yield OpenLedger(conf)
        return
    known = known_folders(conf)
    if output_dir is not None:
        folder = planning.folder(output_dir).resolve()
        if folder not in known:
            hint = f"Folders of this user: {', '.join(map(str, known[:5])) or 'none'}."
            raise ConfigError("-o", f"nothing was downloaded to {folder} on this machine", hint)
    elif not known:
        hint = "Type: export GEODES_TASKS_REDIS_URL=redis://HOST:6379/0, or name a folder with -o."
        problem = "is not set, and nothing was downloaded on this machine yet"
        raise ConfigError("GEODES_TASKS_REDIS_URL", problem, hint)
    else:
        folder = _folder_of(conf, batch) if batch else known[0]
        write(f"on this machine: {folder}")
    with opened(conf, folder) as found:
        yield found


def private_batches(conf: Config) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders of this user's private ledgers with their batches, the newest run first.

    Raises:
        GeodesTasksError: no ledger can be opened; one alone is a line of the log.
    """
    is_any, failure = False, None
    for folder in known_folders(conf):
        try:
            with opened(conf, folder) as found:
                names = found.ledger.reading.batches()
        except GeodesTasksError as error:
            logger.warning("the ledger of %s cannot be read: %s", folder, error)
            failure = error
            continue
        is_any = True
        yield folder, names
    if failure is not None and not is_any:
        raise failure


def _folder_of(conf: Config, batch: str) -> Path:
    """Return the one folder whose ledger has a batch of this name."""
    having, names = [], list[str]()
    for folder, there in private_batches(conf):
        names += there
        having += [folder] if batch in there else []
    if not having:
        raise UnknownBatchError(batch, nearest(batch, dict.fromkeys(names)))
    if len(having) > 1:
        listed = ", ".join(map(str, having))
        problem = f"several folders have a batch {batch!r}: {listed}"
        raise ConfigError("BATCH", problem, f"Name one: -o {having[0]}")
    return having[0]


@contextlib.contextmanager
def ledger_of(conf: Config, folder: Path) -> Iterator[Ledger | None]:
    """Yield the ledger of a folder: the cluster's, the running or the last private one.

    None where nothing was ever downloaded to the folder in one-machine mode.
    """
    if has_cluster(conf):
        yield Ledger.of(conf)
        return
    with OneMachine(conf, folder).opened() as ledger:
        yield ledger
