"""Servers that tests start as processes of their own: Redis and Celery workers.

Each ends what it started by its process id, and only that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from geodes_tasks.client.private_server import server_binary
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from geodes_tasks.settings.config import Config

HOST = "127.0.0.1"
POLL_S = 0.02


class ServerError(RuntimeError):
    """A server did not do in time what was waited for."""


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "") -> None:
    """Wait until something is so.

    Args:
        condition: Asked again and again.
        timeout_s: How long to ask.
        what: What is waited for, for the message.

    Raises:
        ServerError: it did not come about in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"not within {timeout_s:g} s: {what or condition}")
        time.sleep(POLL_S)


def free_port() -> int:
    """Give a TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Process:
    """A child in a session of its own, with its log in a file."""

    def __init__(self, log: Path) -> None:
        """Prepare; nothing runs yet."""
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    def spawn(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start the command; its output goes to the end of the log."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ServerError: it was never started.
        """
        if self._child is None:
            raise ServerError("this process was never started")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs, negative for a signal."""
        return self._child.poll() if self._child is not None else None

    @property
    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for(self, words: str, timeout_s: float = 30.0, *, times: int = 1) -> None:
        """Wait until its log says something.

        Raises:
            ServerError: it ended, or the time is over; the end of the log is in the message.
        """
        deadline = time.monotonic() + timeout_s
        while self.text.count(words) < times:
            if not self.alive or time.monotonic() > deadline:
                raise ServerError(
                    f"{self.log} does not say {words!r}; its end: {self.text[-3000:]}"
                )
            time.sleep(POLL_S)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        if self.alive:
            os.kill(self.pid, number)

    def term(self) -> None:
        """Ask it to end; does not wait."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its children at once with SIGKILL, as a lost machine would."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def pause(self) -> None:
        """Freeze it; the sockets stay open."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end and give its return code.

        Raises:
            subprocess.TimeoutExpired: it runs still.
            ServerError: it was never started.
        """
        if self._child is None:
            raise ServerError("this process was never started")
        return self._child.wait(timeout_s)

    def stop(self, patience_s: float = 20.0) -> None:
        """Ask it to end, and kill it when it does not."""
        self.resume()
        self.term()
        with contextlib.suppress(subprocess.TimeoutExpired, ServerError):
            self.wait(patience_s)
        self.kill()


class RedisServer(Process):
    """A Redis-protocol server with an append-only file, on a TCP port or a Unix socket."""

    def __init__(self, folder: Path, *, unix: bool = False, fsync: str = "everysec") -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: Where its data and log go; a restart finds the data again.
            unix: Whether to listen on a Unix socket instead of a port.
            fsync: ``always``, ``everysec`` or ``no``: what a kill may lose.
        """
        super().__init__(folder / "redis.log")
        self.folder, self.fsync = folder, fsync
        self.port = 0
        # Below the temporary folder: a socket's path may have 107 characters only.
        self._sockets = tempfile.TemporaryDirectory(prefix="redis-") if unix else None

    @property
    def unix_socket(self) -> Path | None:
        """The Unix socket; None when it listens on a port."""
        return Path(self._sockets.name) / "redis.sock" if self._sockets else None

    @property
    def url(self) -> str:
        """Its address as the settings take it, database 0."""
        return (
            f"redis+socket://{self.unix_socket}"
            if self.unix_socket
            else f"redis://{HOST}:{self.port}/0"
        )

    def start(self) -> Self:
        """Start it, or start it again on the same data and the same port.

        Raises:
            ServerError: it does not come up.
            ConfigError: no server is installed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        chosen = self.port
        for _ in range(5):
            # Somebody else may take a free port before the server does: then another one.
            self.port = chosen or free_port()
            self.spawn(self._command())
            if self._comes_up():
                return self
            if chosen:
                break
        raise ServerError(f"{self.log}: {self.text[-3000:]}")

    def _command(self) -> list[str]:
        listen = ["--port", "0" if self.unix_socket else str(self.port), "--bind", HOST]
        if self.unix_socket:
            listen += ["--unixsocket", str(self.unix_socket)]
        keep = ["--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        keep += ["--appendfsync", self.fsync, "--maxmemory-policy", "noeviction"]
        return [server_binary(), *listen, *keep, "--daemonize", "no"]

    def _comes_up(self) -> bool:
        with contextlib.suppress(ServerError):
            wait_until(lambda: self.answers() or not self.alive, 20.0, "a server that answers")
        return self.alive and self.answers()

    def answers(self) -> bool:
        """Tell whether it answers a PING; not while it loads its data."""
        try:
            with self._connection() as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _connection(self) -> socket.socket:
        if self.unix_socket is None:
            return socket.create_connection((HOST, self.port), timeout=1)
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(1)
        try:
            link.connect(str(self.unix_socket))
        except OSError:
            link.close()
            raise
        return link

    def restart(self, *, kill: bool = False, down_s: float = 0.0) -> None:
        """Stop or kill it, leave it down for a while, and start it on the same data and port."""
        if kill:
            self.kill()
        else:
            self.stop()
        time.sleep(down_s)
        self.start()

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        if self._sockets:
            self._sockets.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop for good."""
        self.close()


class WorkerProcess(Process):
    """A real worker: ``python -m celery -A worker worker`` with the settings of a test."""

    def __init__(
        self,
        settings: Config,
        folder: Path,
        *,
        name: str = "one",
        concurrency: int = 2,
        pool: str = "threads",
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            settings: What it reads from its environment.
            folder: Where its log goes; also the folder that it runs in.
            name: Of the node, before the ``@``.
            concurrency: Its slots.
            pool: Of Celery.
            options: More of Celery's options.
            env: More variables; they win over the settings.
        """
        super().__init__(folder / f"worker-{name}.log")
        self.settings, self.folder, self.name = settings, folder, name
        self._env = os.environ | config.environment(settings) | dict(env or {})
        self._command = [sys.executable, "-m", "celery", "-A", "worker", "worker"]
        self._command += ["--pool", pool, "--concurrency", str(concurrency)]
        self._command += ["--hostname", f"{name}@%h", "--loglevel", "INFO", *options]

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and wait until it takes messages.

        Raises:
            ServerError: it does not get ready; the end of its log is in the message.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.text.count(" ready.")
        self.spawn(self._command, env=self._env, cwd=self.folder)
        if wait:
            self.wait_for(" ready.", times=ready + 1)
        return self
