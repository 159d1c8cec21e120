"""Large objects of the datalake: one request, of one version, from any byte on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import StalledError, TransferError, TruncatedBodyError
from geodes_tasks.settings.config import load
from geodes_tasks.transports.s3.transport import S3Transport
from tests.conftest import some_bytes
from tests.integration.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

MiB = 1 << 20
KEY = "14/U/LD/large.zip"
HREF = f"s3://{BUCKET}/{KEY}"
SIZE = 12 * MiB + 12_345
CONTENT = some_bytes(SIZE)
OTHER = some_bytes(SIZE, seed=1)


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """Start a server with one large object."""
    with S3Server() as server:
        server.put(KEY, CONTENT)
        yield server


def transport_to(server: S3Server, **settings: Any) -> S3Transport:
    """Make a transport with credentials for a server."""
    values: dict[str, Any] = {"aws_access_key_id": "key-id", "aws_secret_access_key": "secret"}
    return S3Transport(load(s3_endpoint_url=server.url, **values | settings))


def keep(chunks: Iterator[bytes], received: bytearray) -> None:
    """Keep each piece at once, so that an error loses none."""
    for chunk in chunks:
        received.extend(chunk)


def test_a_large_object_is_one_request(s3: S3Server) -> None:
    """Every byte once and in order, and nothing beside the object is requested."""
    with transport_to(s3).open(HREF) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT) == (0, SIZE, True)
    assert [head.get("Range") for head in s3.seen] == [None]
    assert s3.counted(SIZE) == SIZE


def test_small_and_empty_objects_are_one_request(s3: S3Server) -> None:
    """An object without a byte has a response too, and costs no second one."""
    s3.put("small", CONTENT[:1000])
    s3.put("empty", b"")
    transport = transport_to(s3)

    with transport.open(f"s3://{BUCKET}/small") as body:
        assert (b"".join(body.chunks), body.total_bytes) == (CONTENT[:1000], 1000)
    assert len(s3.seen) == 1
    with transport.open(f"s3://{BUCKET}/empty") as body:
        assert (b"".join(body.chunks), body.total_bytes) == (b"", 0)
    assert len(s3.seen) == 2


def test_the_rest_of_a_large_object(s3: S3Server) -> None:
    """A resume requests the rest only, on the condition that the version is the same."""
    offset = 3 * MiB + 17

    with transport_to(s3).open(HREF, offset=offset) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT[offset:]) == (offset, SIZE, True)
    assert s3.counted(SIZE - offset) == SIZE - offset


def test_a_changed_object_is_never_spliced(s3: S3Server) -> None:
    """When the object is replaced after a break, its new version comes whole, from byte 0."""
    s3.go_wrong(cut=5 * MiB)
    received = bytearray()
    transport = transport_to(s3)
    with transport.open(HREF) as body, pytest.raises(TruncatedBodyError, match="announced"):
        keep(body.chunks, received)
    s3.go_wrong()
    s3.put(KEY, OTHER)

    with transport.open(HREF, offset=len(received), etag=body.etag) as rest:
        content = b"".join(rest.chunks)

    assert received == CONTENT[: 5 * MiB]
    assert s3.seen[1]["If-Match"] == body.etag
    assert (rest.offset, content == OTHER) == (0, True)


def test_a_server_without_ranges_gives_all_in_one(s3: S3Server) -> None:
    """Where ``Range`` is ignored the whole object comes in one answer."""
    s3.go_wrong(ignore_range=True)

    with transport_to(s3).open(HREF, offset=1000) as body:
        content = b"".join(body.chunks)

    assert (body.offset, content == CONTENT, len(s3.seen)) == (0, True, 1)


@pytest.mark.parametrize("offset", [0, 3 * MiB + 17])
def test_a_range_may_have_the_status_of_the_whole(s3: S3Server, offset: int) -> None:
    """What an answer holds is what its Content-Range says, whatever its status."""
    s3.go_wrong(whole_status=True)

    with transport_to(s3).open(HREF, offset=offset) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT[offset:]) == (offset, SIZE, True)
    assert s3.counted(SIZE - offset) == SIZE - offset


def test_a_cut_body_is_reported_with_both_sizes(s3: S3Server) -> None:
    """The bytes before the cut are handed over; the error names the size of the whole object."""
    s3.go_wrong(cut=1_000_000)
    received = bytearray()

    with (
        transport_to(s3).open(HREF) as body,
        pytest.raises(TruncatedBodyError, match=f"{SIZE} bytes announced, 1000000 received"),
    ):
        keep(body.chunks, received)

    assert received == CONTENT[:1_000_000]


def test_a_reader_that_does_not_read_holds_the_server_back(s3: S3Server) -> None:
    """Memory is bounded: only the buffers of the socket are filled ahead."""
    with transport_to(s3).open(HREF) as body:
        next(body.chunks)
        time.sleep(0.5)  # as long as an unbounded reader needs for all of it
        ahead = s3.sent_bytes

    assert ahead < SIZE


@pytest.mark.parametrize("fault", [{"silent": True}, {"stall": 100_000}])
def test_every_wait_is_broken_off_from_outside(s3: S3Server, fault: dict[str, Any]) -> None:
    """Neither a response that never begins nor a body that stops delays a cancel."""
    transport = transport_to(s3, stall_seconds=30)
    with transport.open(HREF) as body:
        next(body.chunks)
    s3.go_wrong(**fault)
    began = time.monotonic()
    threading.Timer(0.3, transport.abort, [threading.get_ident()]).start()

    with pytest.raises(TransferError, match="broken off"), transport.open(HREF) as body:
        b"".join(body.chunks)

    assert time.monotonic() - began < 2.3


def test_a_silent_body_is_a_stall(s3: S3Server) -> None:
    """A body that stops is an error after the stall limit, with the byte that was reached."""
    s3.go_wrong(stall=500_000)

    with (
        transport_to(s3, stall_seconds=0.5).open(HREF) as body,
        pytest.raises(StalledError, match="silent since byte 500000"),
    ):
        b"".join(body.chunks)
