"""Large objects of the datalake: ranges side by side, in order, all of one version."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import StalledError, TransferError, TruncatedBodyError
from geodes_tasks.settings.config import load
from geodes_tasks.transports.s3 import object
from geodes_tasks.transports.s3.ranges import RANGE_BYTES
from geodes_tasks.transports.s3.transport import S3Transport
from tests.conftest import some_bytes
from tests.integration.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "14/U/LD/large.zip"
HREF = f"s3://{BUCKET}/{KEY}"
SIZE = 6 * RANGE_BYTES + 12_345
CONTENT = some_bytes(SIZE)
OTHER = some_bytes(SIZE, seed=1)


@pytest.fixture(autouse=True)
def slow_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the connection for a slow one, however fast it is on this machine."""
    monkeypatch.setattr(object, "FAST_BYTES_PER_SECOND", float("inf"))


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


def test_a_large_object_comes_in_ranges_of_one_version(s3: S3Server) -> None:
    """Every byte once and in order; each range but the first names the version that was begun."""
    with transport_to(s3).open(HREF) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT) == (0, SIZE, True)
    assert sorted(int(head["Range"][6:].partition("-")[0]) for head in s3.seen) == list(
        range(0, SIZE, RANGE_BYTES)
    )
    assert {head.get("If-Match") for head in s3.seen} == {None, body.etag}
    assert s3.counted(SIZE) == SIZE


def test_one_fast_connection_is_enough(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first range came fast the rest comes over one connection, of the same version."""
    monkeypatch.setattr(object, "FAST_BYTES_PER_SECOND", 0.0)

    with transport_to(s3).open(HREF) as body:
        content = b"".join(body.chunks)

    assert content == CONTENT
    assert [head["Range"] for head in s3.seen] == [
        f"bytes=0-{RANGE_BYTES - 1}", f"bytes={RANGE_BYTES}-{SIZE - 1}"
    ]  # fmt: skip
    assert s3.seen[1]["If-Match"] == body.etag


def test_a_small_object_is_one_request(s3: S3Server) -> None:
    """What fits into one range costs one request, the empty object one more."""
    s3.put("small", CONTENT[:1000])
    s3.put("empty", b"")
    transport = transport_to(s3)

    with transport.open(f"s3://{BUCKET}/small") as body:
        assert (b"".join(body.chunks), body.total_bytes) == (CONTENT[:1000], 1000)
    assert len(s3.seen) == 1
    with transport.open(f"s3://{BUCKET}/empty") as body:
        assert (b"".join(body.chunks), body.total_bytes) == (b"", 0)


def test_the_rest_of_a_large_object(s3: S3Server) -> None:
    """A resume asks for the rest only, in ranges from the byte that was reached."""
    offset = RANGE_BYTES + 17

    with transport_to(s3).open(HREF, offset=offset) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT[offset:]) == (offset, SIZE, True)
    assert s3.counted(SIZE - offset) == SIZE - offset


def test_a_changed_object_is_never_spliced(s3: S3Server) -> None:
    """When the object is replaced under way, only bytes of the first version are handed over."""
    s3.go_wrong(change_after=RANGE_BYTES, change_to=OTHER)
    received = bytearray()

    with (
        transport_to(s3).open(HREF) as body,
        pytest.raises(TransferError, match="the object changed while it was fetched"),
    ):
        keep(body.chunks, received)

    assert len(received) >= RANGE_BYTES
    assert received == CONTENT[: len(received)]


def test_a_server_without_ranges_gives_all_in_one(s3: S3Server) -> None:
    """Where ``Range`` is ignored the whole object comes in one answer."""
    s3.go_wrong(ignore_range=True)

    with transport_to(s3).open(HREF, offset=1000) as body:
        content = b"".join(body.chunks)

    assert (body.offset, content == CONTENT, len(s3.seen)) == (0, True, 1)


@pytest.mark.parametrize("offset", [0, RANGE_BYTES + 17])
def test_a_range_may_have_the_status_of_the_whole(s3: S3Server, offset: int) -> None:
    """What an answer holds is what its Content-Range says, whatever its status."""
    s3.go_wrong(whole_status=True)

    with transport_to(s3).open(HREF, offset=offset) as body:
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content == CONTENT[offset:]) == (offset, SIZE, True)
    assert s3.counted(SIZE - offset) == SIZE - offset


def test_a_range_that_is_cut_is_told_with_the_sizes_of_the_object(s3: S3Server) -> None:
    """What came before the cut is handed over; the error speaks of the whole object."""
    s3.go_wrong(cut=1_000_000)
    received = bytearray()

    with (
        transport_to(s3).open(HREF) as body,
        pytest.raises(TruncatedBodyError, match=f"{SIZE} bytes announced, 1000000 received"),
    ):
        keep(body.chunks, received)

    assert received == CONTENT[:1_000_000]


def test_little_is_fetched_ahead_of_its_turn(s3: S3Server) -> None:
    """A reader that does not read holds the ranges back: memory is bounded."""
    with transport_to(s3).open(HREF) as body:
        next(body.chunks)
        time.sleep(0.5)  # as long as an unbounded reader needs for all of it
        ahead = s3.sent_bytes

    assert ahead <= 3 * RANGE_BYTES


@pytest.mark.parametrize("fault", [{"silent": True}, {"stall": 100_000}])
def test_every_wait_is_broken_off_from_outside(s3: S3Server, fault: dict[str, Any]) -> None:
    """Neither an answer that never begins nor a body that stops can hold a cancel up."""
    transport = transport_to(s3, stall_seconds=30)
    with transport.open(HREF) as body:
        next(body.chunks)
    s3.go_wrong(**fault)
    began = time.monotonic()
    threading.Timer(0.3, transport.abort, [threading.get_ident()]).start()

    with pytest.raises(TransferError, match="broken off"), transport.open(HREF) as body:
        b"".join(body.chunks)

    assert time.monotonic() - began < 2.3


def test_a_wait_for_a_later_range_is_broken_off(s3: S3Server) -> None:
    """The reader is woken while threads of its own wait for the server."""
    transport = transport_to(s3, stall_seconds=30)
    with transport.open(HREF) as body:
        received = bytearray(next(body.chunks))
        s3.go_wrong(silent=True)
        threading.Timer(0.5, transport.abort, [threading.get_ident()]).start()
        began = time.monotonic()
        with pytest.raises(TransferError, match="broken off"):
            keep(body.chunks, received)

    assert time.monotonic() - began < 2.5
    assert received == CONTENT[: len(received)]


def test_a_silent_range_is_a_stall(s3: S3Server) -> None:
    """A range that stops is told after the stall limit, at the byte that was reached."""
    s3.go_wrong(stall=500_000)

    with (
        transport_to(s3, stall_seconds=0.5).open(HREF) as body,
        pytest.raises(StalledError, match="silent since byte 500000"),
    ):
        b"".join(body.chunks)
