"""Redis as hosting companies sell it: TLS, a user with few rights, no CONFIG, a proxy in front."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodes_tasks import enqueue
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import WorkerFactory
from tests.integration.secured import SecuredServer, binary_of
from tests.standin import KiB, StandIn

IDLE_S = 1.5
"""Seconds without a byte after which the proxy closes a connection."""
HIDDEN = ("CONFIG", "ACL", "DEBUG", "SLOWLOG", "LATENCY", "MEMORY", "KEYS", "FLUSHALL", "FLUSHDB")
"""Commands that such a server does not know."""


class ManagedServer(SecuredServer):
    """A server of which the administrator's commands are hidden."""

    def _command(self) -> list[str]:
        hidden = [word for name in HIDDEN for word in ("--rename-command", name, "")]
        return [*super()._command(), *hidden]


class ImpatientProxy:
    """A TCP proxy that closes idle connections, without a word to either side."""

    def __init__(self, target: int) -> None:
        """Listen at once."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._target, self.closed = target, 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def end(self) -> None:
        """Take no more connections; those that are there end when they are idle."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(IDLE_S + 5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                thread = threading.Thread(target=self._relay, args=(near,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            while ready := select.select([near, far], [], [], IDLE_S)[0]:
                for source in ready:
                    piece = b""
                    with contextlib.suppress(OSError):
                        piece = source.recv(65536)
                        (far if source is near else near).sendall(piece)
                    if not piece:
                        return
            self.closed += 1


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ManagedServer]:
    """Start such a server of Debian's Redis."""
    is_tls = request.param == "tls"
    with ManagedServer(tmp_path / "managed", binary_of("redis"), tls=is_tls) as running:
        yield running


@pytest.fixture
def proxy(server: ManagedServer) -> Iterator[ImpatientProxy]:
    """Start the proxy in front of it."""
    running = ImpatientProxy(server.port)
    yield running
    running.end()


def through(server: ManagedServer, proxy: ImpatientProxy, user: str, base: Config) -> Config:
    """Return the settings of a user who reaches the server through the proxy."""
    settings = server.settings(user, base)
    url = str(settings.redis_url).replace(f":{server.port}/", f":{proxy.port}/")
    return settings.replace(redis_url=type(settings.redis_url)(url))


@pytest.mark.slow
def test_downloads_through_a_proxy_that_closes_idle_connections(
    server: ManagedServer,
    proxy: ImpatientProxy,
    settings: Config,
    standin: StandIn,
    worker: WorkerFactory,
) -> None:
    """Connections that were closed while nothing happened are made again, and no file is lost."""
    one = worker(settings=through(server, proxy, "worker", settings))
    client = through(server, proxy, "client", settings)
    first = enqueue([standin.add_item(64 * KiB) for _ in range(3)], conf=client)
    assert first.wait(60).states["SUCCESS"] == 3, one.text
    time.sleep(3 * IDLE_S)

    second = enqueue([standin.add_item(64 * KiB) for _ in range(3)], conf=client)

    assert second.wait(60).states["SUCCESS"] == 3, one.text
    assert proxy.closed > 0
    assert len(standin.downloads()) == 6
    assert "Traceback" not in one.text


@pytest.mark.parametrize("user", ["worker", "client", "viewer"])
def test_doctor_names_what_it_may_not_look_at(
    server: ManagedServer, settings: Config, user: str, tmp_path: Path
) -> None:
    """Hidden commands are no failure: the line says that it was not allowed to look."""
    environment = os.environ | config.environment(server.settings(user, settings))

    done = subprocess.run(
        [sys.executable, "-m", "geodes_tasks", "doctor", "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip

    checks = {one["name"]: one for one in json.loads(done.stdout)}
    assert "Traceback" not in done.stderr
    assert checks["redis"]["level"] == "ok", checks
    assert "not allowed to look" in checks["redis restart"]["text"]
