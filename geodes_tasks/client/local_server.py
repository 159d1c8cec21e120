"""One-machine mode: a private Redis-protocol server and one worker, as long as a run lasts.

The server's data stays in a state folder of its own for each download folder; the same command
again continues where the last one stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from geodes_tasks.client.earlier_runs import EarlierRuns
from geodes_tasks.client.private_server import OnLoad, PrivateServer, end, tail
from geodes_tasks.errors import ConfigError, FolderBusyError, PrivateProcessError
from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Settings
from geodes_tasks.tasks.app import BROKER_KEYS, PARENT_VARIABLE

GRACE_S = 1.0
"""Seconds for running downloads to end after Ctrl-C; a user at a terminal waits for them."""
WORKER_PATIENCE_S = 15.0
"""Seconds in which the worker has to end before it is killed."""


class OneMachine:
    """A private server and a worker for one download folder. A context manager."""

    def __init__(self, settings: Settings, folder: Path, on_load: OnLoad | None = None) -> None:
        """Prepare; nothing is started yet."""
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        self.folder = folder
        self.state = settings.state_dir.expanduser() / digest
        own = settings.model_copy(update={"download_dir": folder})
        self.server = PrivateServer(own, self.state, on_load)
        self.settings = self.server.settings
        self._stack = contextlib.ExitStack()
        self.worker: subprocess.Popen[bytes] | None = None
        self._is_dismissed = False

    def __enter__(self) -> Self:
        """Start the server, wait until it answers, and begin a new run in its ledger.

        Raises:
            FolderBusyError: another run has the folder.
            PrivateProcessError: the server does not start.
            PrivateServerError: it started, and takes no commands.
            ConfigError: no server to be found, or the state folder cannot be used.
        """
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._locked())
                self.server.serve(stack)
                ledger = Ledger.of(self.settings)
                if ledger.control.abandon(BROKER_KEYS):
                    earlier = EarlierRuns(ledger)
                    earlier.start()
                    stack.callback(earlier.stop)
                self._stack = stack.pop_all()
        except OSError as error:
            raise ConfigError("GEODES_TASKS_STATE_DIR", str(error)) from error
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

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the state folder for this run."""
        # The folder is on a local file system: flock(2) of an NFS mount may be local to its host.
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.state / "lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                raise FolderBusyError(str(self.folder), stream.read().strip()) from error
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield

    @property
    def worker_log(self) -> Path:
        """Return the path of the worker's log."""
        return self.state / "worker.log"

    def start_worker(self) -> None:
        """Start the worker, once; a run whose files are all present needs none."""
        if self.worker is None:
            self.worker = self._worker_process()
            self._stack.callback(self.stop_worker)

    def dismiss_worker(self) -> None:
        """Send the worker SIGTERM at the end of a run, and do not wait for its end."""
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            self._is_dismissed = True

    def stop_worker(self) -> None:
        """Stop the worker; running downloads are released and keep their part files."""
        if self.worker is not None:
            # A second SIGTERM would end at once what the first one lets finish.
            end(self.worker, None if self._is_dismissed else signal.SIGTERM, WORKER_PATIENCE_S)

    def _worker_process(self) -> subprocess.Popen[bytes]:
        name = f"one-machine-{os.getpid()}@{socket.gethostname()}"
        command = [
            sys.executable,
            "-m",
            "worker.one_machine",
            name,
            str(self.settings.max_concurrent),
        ]
        settings = self.settings.model_copy(update={"grace_seconds": GRACE_S})
        variables = config.environment(settings) | {PARENT_VARIABLE: str(os.getpid())}
        with self.worker_log.open("wb") as output:
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
        """Raise an error when the worker has ended by itself.

        Raises:
            PrivateProcessError: it ended by itself.
        """
        if self.worker is not None and self.worker.poll() is not None:
            raise PrivateProcessError("worker", str(self.worker_log), tail(self.worker_log))
