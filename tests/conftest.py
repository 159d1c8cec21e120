"""What all tests share: a clean environment, servers, settings for both."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

import fakeredis
import pytest

from geodes_tasks import config
from geodes_tasks.embedded import server_binary
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger, Limits
from tests.servers import RedisServer, WorkerProcess
from tests.standin import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.config import Settings

KEY = "standin-key-0123456789"
"""The one key that the stand-in lets in."""

_OURS = ("GEODES_", "AWS_", "CELERY_")
_OF_LIBRARIES = ("_PROXY", "CA_BUNDLE")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in an empty folder, without settings of whoever runs it."""
    for name in list(os.environ):
        if name.upper().startswith(_OURS) or name.upper().endswith(_OF_LIBRARIES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GEODES_TASKS_STATE_DIR", str(tmp_path / "state"))
    # Nobody asks the cloud's address for credentials, and nobody reads the user's.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start one real server for all tests; those that kill it make one of their own."""
    require_server()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def require_server() -> None:
    """Skip where no Redis-protocol server is installed; fail where CI should have one."""
    try:
        server_binary()
    except ConfigError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}")
        pytest.skip(f"{error}")


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Give the address of an empty database."""
    client = Ledger.of(config.load(redis_url=redis_server.url)).client
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """Start a portal that knows one key."""
    with StandIn(api_key=KEY) as running:
        yield running


@pytest.fixture
def settings(standin: StandIn, redis_url: str, tmp_path: Path) -> Settings:
    """Give settings for the stand-in and the server, with waits that suit tests."""
    return config.load(
        api_key=KEY,
        portal_url=standin.url,
        # Nobody listens there: a test that needs S3 names its own server.
        s3_endpoint_url="http://127.0.0.1:1",
        redis_url=redis_url,
        download_dir=tmp_path / "downloads",
        quota="off",
        lease_seconds=2,
        connect_seconds=2,
        first_byte_seconds=5,
        stall_seconds=2,
        offline_poll_seconds=1,
        backoff_seconds=0.1,
        grace_seconds=2,
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """Give the ledger on the real server, as the settings have it."""
    ledger = Ledger.of(settings)
    yield ledger
    ledger.client.close()


@pytest.fixture
def fake_ledger() -> Iterator[Ledger]:
    """Give a ledger in memory that runs the same scripts."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    yield Ledger(client, Limits())
    client.close()


class WorkerFactory(Protocol):
    """Starts a worker, by default with the test's settings."""

    def __call__(
        self,
        name: str = "one",
        *,
        settings: Settings | None = None,
        concurrency: int = 2,
        pool: str = "threads",
        options: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        wait: bool = True,
    ) -> WorkerProcess:
        """Start it and wait until it takes messages."""
        ...


@pytest.fixture
def worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerFactory]:
    """Start real workers; whatever becomes of the test, they end with it."""
    # Not below tmp_path: that is where the test looks for leftovers.
    folder = tmp_path_factory.mktemp("workers")
    with contextlib.ExitStack() as stack:

        def start(
            name: str = "one",
            *,
            settings: Settings | None = None,
            concurrency: int = 2,
            pool: str = "threads",
            options: tuple[str, ...] = (),
            env: dict[str, str] | None = None,
            wait: bool = True,
        ) -> WorkerProcess:
            process = WorkerProcess(
                settings or request.getfixturevalue("settings"),
                folder,
                name=name,
                concurrency=concurrency,
                pool=pool,
                options=options,
                env=env,
            )
            stack.callback(process.stop)
            return process.start(wait=wait)

        yield start
