"""Redis 8 and Valkey 8, as Debian 13 has them: users, restarts, downloads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodes_tasks import enqueue
from geodes_tasks.settings.config import Config
from tests.conftest import WorkerFactory
from tests.fault.test_redis_restart import filled, kept
from tests.integration.secured import SecuredServer
from tests.real.debian13 import PACKAGES, CannotFetchError, fetch
from tests.standin import KiB, StandIn

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fetch the servers; skip where Debian's packages cannot be had."""
    try:
        return fetch(tmp_path_factory.mktemp("debian13"))
    except CannotFetchError as error:
        pytest.skip(str(error))


@pytest.fixture(params=PACKAGES)
def server(
    request: pytest.FixtureRequest, programs: dict[str, Path], tmp_path: Path
) -> Iterator[SecuredServer]:
    """Start a server with the users of ``geodes-tasks secrets``."""
    with SecuredServer(tmp_path / "secured", str(programs[request.param])) as running:
        yield running


def test_it_is_version_8(programs: dict[str, Path]) -> None:
    """The servers are those that the documentation names."""
    for program in programs.values():
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert " v=8." in done.stdout or "v=8." in done.stdout


def test_a_restart_keeps_the_ledger(server: SecuredServer, settings: Config) -> None:
    """Killed and started again with our users: the same batches, counts, records and id."""
    filled(server, settings)
    before = kept(server, settings)

    for kill in (True, False):
        server.restart(kill=kill)

        assert kept(server, settings) == before, server.text


def test_downloads(
    server: SecuredServer, settings: Config, standin: StandIn, worker: WorkerFactory
) -> None:
    """A client enqueues, a worker downloads, both with the rights they have, over a restart."""
    one = worker(settings=server.settings("worker", settings))
    client = server.settings("client", settings)
    first = enqueue([standin.add_item(64 * KiB) for _ in range(3)], conf=client)
    assert first.wait(60).states["SUCCESS"] == 3, one.text

    server.restart(kill=True)
    second = enqueue([standin.add_item(64 * KiB) for _ in range(3)], conf=client)

    assert second.wait(60).states["SUCCESS"] == 3, one.text
    assert len(standin.downloads()) == 6
