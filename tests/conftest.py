"""What all tests share: a clean environment, servers, settings for both."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import fakeredis
import pytest
from fakeredis.commands_mixins import server_mixin
from hypothesis import settings as hypothesis_settings

from geodes_tasks.client.private_server import server_binary
from geodes_tasks.errors import ConfigError, HrefRefusedError, NoRangesError, TruncatedBodyError
from geodes_tasks.ledger import Ledger, Limits
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.settings import config
from geodes_tasks.transports import Body, Member
from tests.servers import RedisServer, WorkerProcess
from tests.standin import StandIn
from tests.tools import absent, failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.settings.config import Config

KEY = "standin-key-0123456789"
"""The one key that the stand-in lets in."""

_OURS = ("GEODES_", "AWS_", "CELERY_")
_OF_LIBRARIES = ("_PROXY", "CA_BUNDLE")

KiB = 1024

# No example has a deadline: machines are busy at times, and slow code has tests of its own.
hypothesis_settings.register_profile("usual", deadline=None)
hypothesis_settings.register_profile("long", deadline=None, max_examples=20_000)
if not os.environ.get("CI"):
    # With CI set, hypothesis takes its own profile: the same examples each time.
    hypothesis_settings.load_profile("usual")


# --- environment ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in an empty folder, without settings of whoever runs it."""
    for name in list(os.environ):
        if name.upper().startswith(_OURS) or name.upper().endswith(_OF_LIBRARIES):
            monkeypatch.delenv(name)
    # A test that imports the application of the workers makes this process one of a shell.
    monkeypatch.setattr("geodes_tasks.errors.remedies._is_at_shell", False)
    monkeypatch.setenv("GEODES_TASKS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # Nobody asks the cloud's address for credentials, and nobody reads the user's.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.chdir(tmp_path)


# --- servers -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start one real server for all tests; those that kill it make one of their own."""
    require_server()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def require_server() -> None:
    """Skip where no Redis-protocol server is installed and works; fail where CI should have one."""
    try:
        problem = failure(server_binary(), "--version")
    except ConfigError as error:
        problem = str(error)
    if problem:
        absent(problem)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Give the address of an empty database."""
    client = Ledger.of(config.load(redis_url=redis_server.url)).connection.client
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """Start a portal that knows one key."""
    with StandIn(api_key=KEY) as running:
        yield running


@pytest.fixture
def settings(standin: StandIn, redis_url: str, tmp_path: Path) -> Config:
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
def ledger(settings: Config) -> Iterator[Ledger]:
    """Give the ledger on the real server, as the settings have it."""
    ledger = Ledger.of(settings)
    yield ledger
    ledger.connection.client.close()


class WorkerFactory(Protocol):
    """Starts a worker, by default with the test's settings."""

    def __call__(
        self,
        name: str = "one",
        *,
        settings: Config | None = None,
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
            settings: Config | None = None,
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


# --- things in memory, for tests of single modules -----------------------------------------------


def publish_limits(ledger: Ledger) -> None:
    """Publish the limits of a ledger as those of its workers, and leave no worker there."""
    ledger.dispatch.publish("w", ())
    ledger.connection.client.delete(ledger.connection.key("worker", "w"))


@pytest.fixture
def fake_ledger() -> Iterator[Ledger]:
    """Give a ledger in memory that runs the same scripts."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    ledger = Ledger(client, Limits())
    publish_limits(ledger)
    yield ledger
    client.close()


@dataclass(slots=True)
class Clock:
    """The time as the ledger in memory sees it; it stands still until a test lets it pass."""

    began: float = field(default_factory=time.time)
    ahead_s: float = 0.0

    def time(self) -> float:
        """Give the time in seconds."""
        return self.began + self.ahead_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock of ``fake_ledger``, so that no test waits for a lease to run out."""
    clock = Clock()
    monkeypatch.setattr(server_mixin, "time", clock)
    return clock


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Make bytes that repeat nowhere, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def md5(content: bytes) -> Checksum:
    """Give the checksum of bytes, as GEODES publishes it."""
    return Checksum("md5", hashlib.md5(content).hexdigest())


def asset_of(content: bytes, name: str = "S2A_T31TCJ.zip", **fields: Any) -> Asset:
    """Make the asset that a right catalogue has of these bytes.

    Args:
        content: The bytes.
        name: The file's name, from which item and href are named too.
        fields: What differs from that.
    """
    known: dict[str, Any] = {
        "item_id": f"URN:FEATURE:DATA:gdh:{name}:V1",
        "collection": "PEPS_S2_L1C",
        "key": name,
        "title": name,
        "hrefs": {"geodes": f"https://portal.invalid/{name}"},
        "size_bytes": len(content),
        "checksum": md5(content),
    }
    return Asset(**known | fields)


@dataclass(slots=True)
class MemoryTransport:
    """A transport that obeys the contract, over bytes in memory."""

    content: bytes
    etag: str | None = '"v1"'
    resumes: bool = True
    """Whether the server proves ranges; if not, every body starts at 0."""
    cuts: list[int] = field(default_factory=list)
    """For the first, second, ... opening: how many bytes come before the connection breaks."""
    errors: list[Exception] = field(default_factory=list)
    """Raised by the first, second, ... opening, before any cut counts."""
    says_total: bool = True
    opened: list[tuple[int, str | None]] = field(default_factory=list)
    """Offset and validator of each request so far."""
    sent_bytes: int = 0
    chunk_bytes: int = 16 * KiB

    @contextlib.contextmanager
    def open(
        self,
        href: str,
        *,
        offset: int = 0,
        etag: str | None = None,
        asset: Asset | None = None,
    ) -> Iterator[Body]:
        """Open the bytes from ``offset`` on, if that can be."""
        self.opened.append((offset, etag))
        if self.errors:
            raise self.errors.pop(0)
        start = offset if self.resumes and etag in {None, self.etag} else 0
        total = len(self.content) if self.says_total else None
        cut = self.cuts.pop(0) if self.cuts else None
        yield Body(start, total, self.etag, self._chunks(href, start, cut))

    def serves_ranges(self, href: str) -> bool:
        """Return whether ranges are proven."""
        return self.resumes

    @contextlib.contextmanager
    def open_range(
        self, href: str, first: int, length: int, *, etag: str | None, asset: Asset
    ) -> Iterator[Body]:
        """Open a range, if that can be."""
        self.opened.append((first, etag))
        if self.errors:
            raise self.errors.pop(0)
        if not self.resumes or etag not in {None, self.etag}:
            raise NoRangesError(asset.title)
        cut = self.cuts.pop(0) if self.cuts else length
        chunks = self._chunks(href, first, min(cut, length), first + length)
        yield Body(first, len(self.content), self.etag, chunks)

    def members(self, href: str) -> list[Member]:
        """Know of no folders."""
        raise HrefRefusedError(href, "is no folder")

    def abort(self, thread: int) -> None:
        """Do nothing: nobody waits for bytes in memory."""

    def _chunks(
        self, href: str, start: int, cut: int | None, stop: int | None = None
    ) -> Iterator[bytes]:
        stop = len(self.content) if stop is None else stop
        end = stop if cut is None else min(start + cut, stop)
        for at in range(start, end, self.chunk_bytes):
            chunk = self.content[at : min(at + self.chunk_bytes, end)]
            self.sent_bytes += len(chunk)
            yield chunk
        if end < stop:
            raise TruncatedBodyError(href, len(self.content), end)
