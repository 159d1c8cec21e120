"""What every transport promises, over every entry of the table, on real sockets."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from geodes_tasks.errors import (
    AuthError,
    GeodesTasksError,
    NotFoundError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.settings.config import Config, load
from geodes_tasks.transports import TRANSPORTS, Transport, create
from tests.integration.s3_server import BUCKET, S3Server
from tests.standin import GeneratedBody, RangeBehaviour, StandIn, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

SIZE = 1_000_003
OLD = GeneratedBody("old", SIZE)
CONTENT = read(OLD)


def unused_port() -> int:
    """Give a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Errors(NamedTuple):
    """Which error a source has for what befalls it."""

    missing: type[GeodesTasksError]
    forbidden: type[GeodesTasksError]
    unreachable: type[GeodesTasksError]


class Rig(Protocol):
    """A source with one object of ``CONTENT``, and the ways to spoil it."""

    href: str
    missing_href: str
    settings: Config
    errors: Errors

    def change(self) -> bytes:
        """Replace the object by another of the same size, and give its bytes."""

    def refuse_ranges(self) -> None:
        """Give the whole object to whoever asks for a part."""

    def truncate(self, after: int) -> None:
        """Close connections in good order after so many bytes."""

    def forbid(self) -> None:
        """Answer 403."""

    def throttle(self, seconds: int) -> None:
        """Ask for patience."""

    def elsewhere(self, port: int) -> tuple[Config, str]:
        """Give settings and href of a server that is not there."""


class PortalRig:
    """The portal, as the stand-in plays it."""

    errors = Errors(NotFoundError, AuthError, TransferError)

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        standin.settings.range = RangeBehaviour.GOOD
        self._item = standin.add_item(body=OLD)
        self.href = standin.url + standin.path_of(self._item)
        self.missing_href = self.href[:-8] + "00000000"
        self.settings = load(portal_url=standin.url, api_key="standin-key", stall_seconds=5)

    def change(self) -> bytes:
        """Have ranges answered from another version."""
        self._standin.fault(None, "range", behaviour="changed", times=1)
        return CONTENT

    def refuse_ranges(self) -> None:
        """Ignore ``Range``."""
        self._standin.settings.range = RangeBehaviour.IGNORE

    def truncate(self, after: int) -> None:
        """Cut every body."""
        self._standin.fault(None, "truncate", after=after)

    def forbid(self) -> None:
        """Refuse the key."""
        self._standin.fault(None, "bad_key", answer="403")

    def throttle(self, seconds: int) -> None:
        """Answer 429."""
        self._standin.fault(None, "429", retry_after="seconds", seconds=seconds)

    def elsewhere(self, port: int) -> tuple[Config, str]:
        """Point to a port where nobody listens."""
        url = f"http://127.0.0.1:{port}"
        settings = self.settings.replace(portal_url=url)
        return settings, f"{url}/api/download/urn/files/{'0' * 32}"


class DatalakeRig:
    """The datalake, as moto plays it."""

    errors = Errors(*[SourceUnavailableError] * 3)

    def __init__(self, server: S3Server) -> None:
        self._server = server
        server.put("14/U/a file.zip", CONTENT)
        self.href = f"{server.url}/{BUCKET}/14/U/a%20file.zip"
        self.missing_href = f"{server.url}/{BUCKET}/nothing.zip"
        self.settings = load(
            s3_endpoint_url=server.url,
            aws_access_key_id="key-id",
            aws_secret_access_key="secret",
            stall_seconds=5,
        )

    def change(self) -> bytes:
        """Store other bytes under the same key."""
        content = read(GeneratedBody("new", SIZE))
        self._server.put("14/U/a file.zip", content)
        return content

    def refuse_ranges(self) -> None:
        """Ignore ``Range``."""
        self._server.go_wrong(ignore_range=True)

    def truncate(self, after: int) -> None:
        """Cut every body."""
        self._server.go_wrong(cut=after)

    def forbid(self) -> None:
        """Deny access."""
        self._server.go_wrong(status=403, code="AccessDenied")

    def throttle(self, seconds: int) -> None:
        """Say SlowDown."""
        self._server.go_wrong(status=503, code="SlowDown", headers={"Retry-After": str(seconds)})

    def elsewhere(self, port: int) -> tuple[Config, str]:
        """Point to a port where nobody listens."""
        url = f"http://127.0.0.1:{port}"
        settings = self.settings.replace(s3_endpoint_url=url)
        return settings, f"{url}/{BUCKET}/key.zip"


@contextmanager
def portal_rig() -> Iterator[Rig]:
    """Start a stand-in for the portal."""
    with StandIn(api_key="standin-key") as standin:
        yield PortalRig(standin)


@contextmanager
def datalake_rig() -> Iterator[Rig]:
    """Start a stand-in for the datalake."""
    with S3Server() as server:
        yield DatalakeRig(server)


RIGS: dict[str, Callable[[], AbstractContextManager[Rig]]] = {
    "geodes": portal_rig,
    "s3": datalake_rig,
}


@pytest.fixture(params=list(TRANSPORTS))
def source(request: pytest.FixtureRequest) -> str:
    """Name one source after the other."""
    return str(request.param)


@pytest.fixture
def rig(source: str) -> Iterator[Rig]:
    """Set up the source; one without a rig here fails, so that no transport goes untested."""
    with RIGS[source]() as rig:
        yield rig


@pytest.fixture
def transport(source: str, rig: Rig) -> Transport:
    """Make the transport under test."""
    return create(source, rig.settings)


def fetch(
    transport: Transport, href: str, *, offset: int = 0, etag: str | None = None
) -> tuple[int, bytes]:
    """Open an object, read it to its end, and give where it started and what came."""
    with transport.open(href, offset=offset, etag=etag) as body:
        return body.offset, b"".join(body.chunks)


def test_whole_file(transport: Transport, rig: Rig) -> None:
    """Every byte comes once and in order, with the total and a validator known beforehand."""
    with transport.open(rig.href) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content) == (0, SIZE, CONTENT)
    assert body.etag is not None


def test_resume_goes_on_at_the_offset(transport: Transport, rig: Rig) -> None:
    """With the validator of the beginning, only the rest comes; the total stays the whole."""
    with transport.open(rig.href) as body:
        etag = body.etag
    with transport.open(rig.href, offset=400_000, etag=etag) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes) == (400_000, SIZE)
    assert content == CONTENT[400_000:]


def test_resume_without_a_validator(transport: Transport, rig: Rig) -> None:
    """A caller that knows no validator may resume too; the checksum judges in the end."""
    assert fetch(transport, rig.href, offset=400_000) == (400_000, CONTENT[400_000:])


def test_refused_resume_starts_from_zero(transport: Transport, rig: Rig) -> None:
    """A server that ignores ranges is no error: the whole object comes, and says so."""
    rig.refuse_ranges()

    assert fetch(transport, rig.href, offset=400_000) == (0, CONTENT)


def test_offset_at_the_end_starts_from_zero(transport: Transport, rig: Rig) -> None:
    """Nothing can start where the object ends, so all of it comes again."""
    assert fetch(transport, rig.href, offset=SIZE) == (0, CONTENT)


def test_changed_object_starts_from_zero(transport: Transport, rig: Rig) -> None:
    """When the object changed since the beginning was fetched, no byte is spliced."""
    with transport.open(rig.href) as body:
        etag = body.etag
    new = rig.change()

    assert fetch(transport, rig.href, offset=400_000, etag=etag) == (0, new)


def test_truncated_body_is_told_with_both_sizes(transport: Transport, rig: Rig) -> None:
    """What came is handed over first; then the error names what is missing."""
    rig.truncate(700_000)
    received = bytearray()

    with (
        transport.open(rig.href) as body,
        pytest.raises(TruncatedBodyError, match=f"{SIZE} bytes announced, 700000 received"),
    ):
        drain(body.chunks, received)

    assert bytes(received) == CONTENT[:700_000]


def drain(chunks: Iterator[bytes], received: bytearray) -> None:
    """Keep each piece at once, so that an error loses none."""
    for chunk in chunks:
        received.extend(chunk)


def test_missing_object(transport: Transport, rig: Rig) -> None:
    """An object that is not there has its own error."""
    with pytest.raises(rig.errors.missing, match="no such"):
        fetch(transport, rig.missing_href)


def test_forbidden(transport: Transport, rig: Rig) -> None:
    """A refusal of the credentials has its own error."""
    rig.forbid()

    with pytest.raises(rig.errors.forbidden, match=r"refused|denied"):
        fetch(transport, rig.href)


def test_throttled(transport: Transport, rig: Rig) -> None:
    """A server that asks for patience is heard, with the wait that it names."""
    rig.throttle(1)

    with pytest.raises(ThrottledError, match="wait 1 s"):
        fetch(transport, rig.href)


def test_unreachable(source: str, rig: Rig) -> None:
    """A server that is not there is an error of this package, and soon."""
    settings, href = rig.elsewhere(unused_port())
    transport = create(source, settings)

    with pytest.raises(rig.errors.unreachable, match=r"reached|connection failed"):
        fetch(transport, href)


def test_leaving_early_frees_the_connection(transport: Transport, rig: Rig) -> None:
    """A caller may stop in the middle, and the next download is not disturbed by the rest."""
    with transport.open(rig.href) as body:
        next(body.chunks)

    assert fetch(transport, rig.href) == (0, CONTENT)
