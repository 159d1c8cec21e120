"""One-machine mode: a private Redis-protocol server and workers, as long as a run lasts.

The server's data stays in a state folder of its own for each download folder; the same command
again continues where the last one stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from geodes_tasks.client.child_process import end, tail, try_lock
from geodes_tasks.client.earlier_runs import cleaned_up
from geodes_tasks.client.private_server import PrivateServer
from geodes_tasks.errors import (
    ConfigError,
    FolderBusyError,
    LedgerUnavailableError,
    PrivateProcessError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.atomic_write import replacing
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import BROKER_KEYS, PARENT_VARIABLE
from geodes_tasks.tasks.core_binding import usable_cores
from geodes_tasks.tasks.hooks import Hooks

GRACE_S = 1.0
"""Seconds for running downloads to end after Ctrl-C; a user at a terminal waits for them."""
LOCK, FOLDER = "lock", "folder"
"""Files of a state folder: the lock and process id of its run; the name of its download folder."""
BUSY_S = 0.2
"""Seconds that a run waits for the lock: other commands try it for a moment."""
WORKER_PATIENCE_S = 15.0
"""Seconds in which a worker has to end before it is killed."""
MANY_FILES, SMALL_BYTES = 400, 2 * 1024 * 1024
"""Number of files, and their mean size in bytes, from and up to which each core has a worker:
Python uses one core a process, some 2 ms a file, and one more process takes 0.5 s to start."""


class OneMachine:
    """A private server and workers for one download folder. A context manager."""

    def __init__(
        self,
        settings: Config,
        folder: Path,
        *,
        wanted: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            settings: The user's configuration.
            folder: The download folder.
            wanted: Batches of earlier runs that this run continues.
        """
        self._wanted = wanted
        self.continued: list[str] = []
        """Batches of earlier runs that this one continues, once it has begun."""
        self.folder = folder
        self.state = settings.state_dir.expanduser() / _state_name(folder)
        own = settings.replace(download_dir=folder)
        self.server = PrivateServer(own, self.state)
        self._stack = contextlib.ExitStack()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._is_dismissed = False

    @property
    def settings(self) -> Config:
        """Return the settings of the run, with the address of its server."""
        return self.server.settings

    def __enter__(self) -> Self:
        """Start the server, wait until it answers, and begin a new run in its ledger.

        Raises:
            FolderBusyError: another run has the folder.
            PrivateProcessError: the server does not start.
            PrivateServerError: it started, and takes no commands.
            ConfigError: no server to be found, the state folder cannot be used, or a hook cannot.
        """
        with _state_errors(), contextlib.ExitStack() as stack:
            stack.enter_context(self._locked())
            self.server.use(stack)
            ledger = Ledger.of(self.settings)
            self.continued = ledger.control.begin_run(BROKER_KEYS, self._wanted)
            # A run whose files are all present has no worker that calls the hook of its batch.
            hooks = Hooks(self.settings)
            hooks.batches_done(ledger)
            stack.callback(self._end_run, hooks)
            stack.enter_context(cleaned_up(ledger, self.settings.keep_days))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop both; unfinished downloads stay in the ledger for the next run.

        Raises:
            PrivateServerError: in place of a failure of the ledger.
        """
        self._stack.__exit__(kind, error, trace)

    def _end_run(self, hooks: Hooks) -> None:
        # A server that was killed is reported by the failure that it caused.
        with contextlib.suppress(LedgerUnavailableError):
            ledger = Ledger.of(self.settings)
            hooks.batches_done(ledger)
            hooks.join()
            ledger.control.end_run()

    def make_state(self) -> None:
        """Make the state folder, and record which download folder it belongs to.

        Raises:
            ConfigError: it cannot be used.
        """
        with _state_errors():
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Never cut short, also not on a full volume: the commands find the ledger by it.
            with replacing(self.state / FOLDER, "wb") as stream:
                stream.write(os.fsencode(self.folder))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the state folder for this run."""
        self.make_state()
        with (self.state / LOCK).open("a+") as stream:
            deadline = time.monotonic() + BUSY_S
            while not try_lock(stream):
                if time.monotonic() > deadline:
                    stream.seek(0)
                    raise FolderBusyError(str(self.folder), stream.read().strip())
                time.sleep(0.02)
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            try:
                yield
            finally:
                # A process that was forked meanwhile has the same lock, and keeps it (flock(2)).
                fcntl.flock(stream, fcntl.LOCK_UN)

    @property
    def is_under_way(self) -> bool:
        """Return whether a run has the folder."""
        with contextlib.suppress(FileNotFoundError), (self.state / LOCK).open("r") as stream:
            return not try_lock(stream)
        return False

    @contextlib.contextmanager
    def opened(self) -> Iterator[Ledger | None]:
        """Yield the ledger of the folder, to read and steer it; None where there never was a run.

        A run under way shares its server; else one is started for the moment.

        Raises:
            PrivateProcessError: the server does not start.
            ConfigError: no server to be found, or the state folder cannot be used.
        """
        if not self.state.is_dir():
            yield None
            return
        with contextlib.ExitStack() as stack:
            with _state_errors():
                self.server.use(stack)
            ledger = Ledger.of(self.settings)
            if not self.is_under_way:
                # A run that was killed has not recorded its end.
                ledger.control.end_run()
            yield ledger

    @property
    def worker_log(self) -> Path:
        """Return the path of the workers' log."""
        return self.state / "worker.log"

    def start_worker(self) -> None:
        """Start a worker, once; a run whose files are all present needs none."""
        if not self.workers:
            self.worker_log.write_bytes(b"")
            self._stack.push(self._finish_workers)
            self.workers.append(self._worker_process())

    def start_workers(self, files: int, size_bytes: int) -> None:
        """Start a worker, or one a core for many small files; the concurrency limit is of all.

        Args:
            files: Number of files to download.
            size_bytes: Size of all of them.
        """
        self.start_worker()
        is_small = files >= MANY_FILES and size_bytes <= files * SMALL_BYTES
        # A limit of the bandwidth is kept within one process.
        wanted = min(cores(), self.settings.max_concurrent) if not self.settings.rate else 1
        while is_small and len(self.workers) < wanted:
            self.workers.append(self._worker_process())

    def _finish_workers(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the workers at the end of a run; without an error they finish their hooks first."""
        has_hooks = self.settings.on_file or self.settings.on_batch
        # Each call of a hook has a time limit of its own.
        self.stop_workers(math.inf if has_hooks and kind is None else WORKER_PATIENCE_S)

    def dismiss_workers(self) -> None:
        """Send the workers SIGTERM at the end of a run, once, and do not wait for their end."""
        # A second SIGTERM would end at once what the first one lets finish.
        if not self._is_dismissed:
            self._is_dismissed = True
            for worker in self.workers:
                # Without effect where it has ended (subprocess.Popen.send_signal).
                worker.send_signal(signal.SIGTERM)

    def stop_workers(self, patience_s: float = WORKER_PATIENCE_S) -> None:
        """Stop the workers; running downloads are released and keep their part files.

        Args:
            patience_s: Seconds in which each has to end before it is killed.
        """
        self.dismiss_workers()
        with contextlib.ExitStack() as stack:
            # Each of them is ended, also when a second Ctrl-C breaks off the wait for one.
            for worker in self.workers:
                stack.callback(end, worker, None, patience_s)

    def _worker_process(self) -> subprocess.Popen[bytes]:
        number = len(self.workers) + 1
        name = f"one-machine-{os.getpid()}-{number}@{socket.gethostname()}"
        command = [
            sys.executable,
            "-m",
            "worker.one_machine",
            name,
            str(self.settings.max_concurrent),
        ]
        # Only this user reaches the private server, so no path in it is a stranger's.
        folders = self.settings.download_roots or (Path("/"),)
        update = {"grace_seconds": GRACE_S, "download_roots": folders}
        settings = self.settings.replace(**update)
        variables = config.environment(settings) | {PARENT_VARIABLE: str(os.getpid())}
        with self.worker_log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | variables,
                # Not the user's folder: `python -m` puts the working directory first on sys.path,
                # and a package called `worker` there would be imported in place of ours.
                cwd=self.state,
            )

    def check(self) -> None:
        """Raise an error when a worker has ended by itself.

        Raises:
            PrivateProcessError: it ended by itself.
        """
        if any(worker.poll() is not None for worker in self.workers):
            raise PrivateProcessError("worker", str(self.worker_log), tail(self.worker_log))


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(usable_cores()) or os.cpu_count() or 1


def known_folders(settings: Config) -> list[Path]:
    """Return the download folders of this user's one-machine runs, the newest run first."""
    found = []
    for mark in settings.state_dir.expanduser().glob(f"*/{FOLDER}"):
        with contextlib.suppress(OSError, ValueError):
            folder = Path(os.fsdecode(mark.read_bytes()))
            # A damaged one names another state folder, and hides no other.
            if _state_name(folder) == mark.parent.name:
                found.append((mark.stat().st_mtime, folder))
    return [folder for _, folder in sorted(found, reverse=True)]


def _state_name(folder: Path) -> str:
    """Return the name of the state folder of a download folder."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


@contextlib.contextmanager
def _state_errors() -> Iterator[None]:
    """Replace an error of the system by one that names the setting of the state folder.

    Raises:
        ConfigError: in place of the error.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError("GEODES_TASKS_STATE_DIR", str(error)) from error
