"""Everything that GEODES, or a server that pretends to be a file's home, may answer."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from requests.exceptions import InvalidSchema

from geodes_tasks.errors import (
    AuthError,
    GeodesTasksError,
    HrefRefusedError,
    KeyMissingError,
    LicenceError,
    NoRangesError,
    NotFoundError,
    OfflineError,
    ProxyFailedError,
    QuotaError,
    Reaction,
    RedirectUnreachableError,
    ServerError,
    SourceUnavailableError,
    StalledError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
    UnexpectedAnswerError,
    UnreachableError,
    UntrustedServerError,
)
from geodes_tasks.model.states import Outcome
from geodes_tasks.settings.config import load
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import fetch as fetching
from geodes_tasks.transports.http.addresses import AddressPolicy
from geodes_tasks.transports.http.connections import TLS_RECORD_BYTES
from geodes_tasks.transports.http.transport import HttpTransport
from tests.conftest import asset_of
from tests.integration.scripted import Scripted, answer
from tests.integration.tunnel import SocksProxy
from tests.standin import GeneratedBody, RangeBehaviour, StandIn, read
from tests.standin.bodies import MiB
from tests.standin.tls import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.standin import Item

CANARY = "canary-3f9a7c51e0"
SECRET_QUERY = "signature=hush-5d21"
SIZE = 300_007
OLD = GeneratedBody("old", SIZE)
CONTENT = read(OLD)
FILE = answer(CONTENT, "Content-Type: application/zip")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment of whoever runs the tests may add."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith("GEODES") or "CA_BUNDLE" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """Start a portal that knows one key."""
    with StandIn(api_key=CANARY) as standin:
        yield standin


@pytest.fixture
def item(standin: StandIn) -> Item:
    """Put one file on the portal."""
    return standin.add_item(body=OLD)


@pytest.fixture
def href(standin: StandIn, item: Item) -> str:
    """Give the file's address."""
    return standin.url + standin.path_of(item)


@pytest.fixture
def transport(standin: StandIn) -> HttpTransport:
    """Make a transport for the portal, with waits that suit a test."""
    return transport_for(standin.url)


def transport_for(url: str, **settings: Any) -> HttpTransport:
    """Make a transport for a portal, with waits that suit a test."""
    waits = {"connect_seconds": 2, "first_byte_seconds": 3, "stall_seconds": 0.5}
    return HttpTransport(load(**{"portal_url": url, "api_key": CANARY} | waits | settings))


def fetch(
    transport: HttpTransport, href: str, *, offset: int = 0, etag: str | None = None
) -> tuple[int, bytes]:
    """Open an object, read it to its end, and give where it started and what came."""
    with transport.open(href, offset=offset, etag=etag) as body:
        return body.offset, b"".join(body.chunks)


# --- what stands in the place of a file -----------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "options", "expected", "match"),
    [
        ("quota403", {}, QuotaError, "exceeds quota limit"),
        ("quota403", {"status": 200}, QuotaError, "DownloadQuotaPlugin"),
        ("json_200", {"body": "the gateway is being updated"}, UnexpectedAnswerError, "gateway"),
        ("html_200", {}, AuthError, "a login page"),
        ("html_200", {"body": "Down for maintenance"}, UnexpectedAnswerError, "maintenance"),
        ("204", {}, UnexpectedAnswerError, "HTTP 204"),
        ("redirect_loop", {}, AuthError, "redirects without end"),
        ("bad_key", {"answer": "401"}, AuthError, "HTTP 401"),
        ("bad_key", {"answer": "403"}, AuthError, "HTTP 403"),
        ("bad_key", {"answer": "login"}, AuthError, "a login page"),
        ("bad_key", {"answer": "loop"}, AuthError, "redirects without end"),
        ("offline_410", {}, OfflineError, "on tape"),
        ("offline_202", {}, OfflineError, "HTTP 202"),
        ("gone_404", {}, NotFoundError, "HTTP 404"),
        ("licence_423", {}, LicenceError, "licence"),
        ("status_n_times", {"status": 500}, ServerError, "HTTP 500"),
        ("status_n_times", {"status": 502, "html": True}, ServerError, "Service unavailable"),
        ("status_n_times", {"status": 503}, ServerError, "HTTP 503"),
        ("status_n_times", {"status": 504}, ServerError, "HTTP 504"),
        ("status_n_times", {"status": 418}, UnexpectedAnswerError, "HTTP 418"),
        ("status_n_times", {"status": 304}, UnexpectedAnswerError, "HTTP 304"),
        ("gzip", {}, UnexpectedAnswerError, "Content-Encoding 'gzip'"),
        ("429", {}, ThrottledError, "no wait named"),
    ],
)
def test_an_answer_in_place_of_the_file(
    standin: StandIn,
    transport: HttpTransport,
    href: str,
    mode: str,
    options: dict[str, Any],
    expected: type[GeodesTasksError],
    match: str,
) -> None:
    """Each answer has the error whose reaction suits it, before any byte is handed over."""
    standin.fault(None, mode, **options)

    with pytest.raises(GeodesTasksError, match=match) as caught:
        fetch(transport, href)

    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("form", "wait"),
    [
        ("none", None),
        ("seconds", 7.0),
        ("past_date", 0.0),
        ("zero", 0.0),
        ("huge", 900.0),
        ("milliseconds", 900.0),
        ("garbage", None),
    ],
)
def test_retry_after(
    standin: StandIn, transport: HttpTransport, href: str, form: str, wait: float | None
) -> None:
    """A 429 carries the wait that the server asked for, where it makes sense."""
    standin.fault(None, "429", retry_after=form, seconds=7)

    with pytest.raises(ThrottledError, match="too many requests") as caught:
        fetch(transport, href)

    assert caught.value.retry_after_s == wait


def test_retry_after_as_a_date(standin: StandIn, transport: HttpTransport, href: str) -> None:
    """A date is turned into the seconds from the server's own clock."""
    standin.fault(None, "429", retry_after="date", seconds=60)

    with pytest.raises(ThrottledError, match="too many requests") as caught:
        fetch(transport, href)

    assert caught.value.retry_after_s == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("body", "expected", "match"),
    [
        (b'{"message": "DownloadQuotaPlugin : used up"}', QuotaError, "used up"),
        (b'\n [{"error": 1}]', UnexpectedAnswerError, "in place of the file"),
        (b"<!DOCTYPE html><title>Connexion</title>", AuthError, "a login page"),
        (b"\n<html><title>Oops</title>" + b"x" * 200_000, UnexpectedAnswerError, "Oops"),
    ],
)
def test_a_message_announced_as_a_file(
    body: bytes, expected: type[GeodesTasksError], match: str
) -> None:
    """A message is told by how it starts when its media type says zip."""
    with (
        Scripted(answer(body, "Content-Type: application/zip")) as server,
        pytest.raises(expected, match=match),
    ):
        fetch(transport_for(server.url), server.url + "/file")


def test_a_json_file_is_a_file_when_it_is_an_attachment() -> None:
    """JSON that the portal marks as a file to save is taken as the file."""
    headers = "Content-Type: application/json", "Content-Disposition: attachment; filename=a.json"
    with Scripted(answer(b'{"type": "Feature"}', *headers)) as server:
        content = fetch(transport_for(server.url), server.url + "/file")[1]

    assert content == b'{"type": "Feature"}'


def test_an_empty_file_is_legal() -> None:
    """Content-Length 0 announces an empty file; whether one is due is for the caller to say."""
    with (
        Scripted(answer(b"", "Content-Type: application/zip")) as server,
        transport_for(server.url).open(server.url + "/file") as body,
    ):
        content = b"".join(body.chunks)

    assert (body.offset, body.total_bytes, content) == (0, 0, b"")


def test_a_long_error_body_is_not_read_to_the_end() -> None:
    """Of what a server says, only the beginning is read."""
    words = answer(b"x" * 30_000_000, status="403 Forbidden")
    with Scripted(words) as server, pytest.raises(AuthError, match="HTTP 403"):
        fetch(transport_for(server.url), server.url + "/file")

    assert not server.sent


@pytest.mark.parametrize(
    "words",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe://x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1200 + b"\r\n",
        b"",
    ],
)
def test_what_is_no_http_is_still_our_error(words: bytes) -> None:
    """Whatever comes, nothing but an error of this package leaves the transport."""
    with (
        Scripted(words, close=True) as server,
        pytest.raises(GeodesTasksError, match=r"connection|redirects|web address|HTTP"),
    ):
        fetch(transport_for(server.url), server.url + "/file")


# --- the bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "mode", "expected", "match", "kept"),
    [
        *(
            (scheme, *row)
            for scheme in ("http", "https")
            for row in (
                ("truncate", TruncatedBodyError, "300007 bytes announced, 123456 rec", 123_456),
                ("chunked_cut", TransferError, "broke at byte 123456", 123_456),
                ("stall", StalledError, "silent since byte 123456", 123_456),
            )
        ),
        ("http", "reset", TransferError, "broke at byte", None),
        # Python's TLS reports a reset as the end of the stream (ssl, suppress_ragged_eofs).
        ("https", "reset", TruncatedBodyError, "300007 bytes announced", None),
    ],
)
def test_a_broken_body(
    request: pytest.FixtureRequest,
    scheme: str,
    mode: str,
    expected: type[GeodesTasksError],
    match: str,
    kept: int | None,
) -> None:
    """What came before the break is handed over, then the error says where it broke."""
    standin: StandIn = request.getfixturevalue("standin" if scheme == "http" else "secure")
    transport = transport_for(standin.url, ca_bundle=standin.ca_file)
    href = standin.url + standin.path_of(standin.add_item(body=OLD))
    standin.fault(None, mode, after=123_456)
    received = bytearray()

    with transport.open(href) as body, pytest.raises(expected, match=match):
        drain(body.chunks, received)

    assert CONTENT.startswith(bytes(received))
    assert kept is None or len(received) == kept


def drain(chunks: Iterator[bytes], received: bytearray) -> None:
    """Keep each piece at once, so that an error loses none."""
    for chunk in chunks:
        received.extend(chunk)


@pytest.mark.parametrize(
    ("mode", "options", "total", "length"),
    [
        ("chunked", {}, None, SIZE),
        ("chunked_clean_short", {"after": 1000}, None, 1000),
        ("bad_length", {"length": "absent"}, None, SIZE),
        ("bad_length", {"length": "negative"}, None, SIZE),
        ("bad_length", {"length": "smaller"}, SIZE - 10, SIZE - 10),
        ("empty_200", {}, 0, 0),
    ],
)
def test_lengths_that_are_absent_or_wrong(
    standin: StandIn,
    transport: HttpTransport,
    href: str,
    mode: str,
    options: dict[str, Any],
    total: int | None,
    length: int,
) -> None:
    """A length that makes no sense is no length; what came is for the catalogue to judge."""
    standin.fault(None, mode, **options)

    with transport.open(href) as body:
        content = b"".join(body.chunks)

    assert body.total_bytes == total
    assert content == CONTENT[:length]


def test_more_announced_than_sent(standin: StandIn, transport: HttpTransport, href: str) -> None:
    """A body shorter than a length that makes sense is cut off, not complete."""
    standin.fault(None, "bad_length", length="larger")

    with pytest.raises(TruncatedBodyError, match=f"{SIZE + 10} bytes announced, {SIZE} received"):
        fetch(transport, href)


def test_a_length_cut_to_32_bits_is_seen_through(
    standin: StandIn, transport: HttpTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue says how long the file is, and the server sends on: all of it arrives."""
    (asset,) = stac_assets.assets(standin.add_item(2_000_000))
    monkeypatch.setattr(fetching, "LENGTH_MODULUS", 700_000)
    standin.fault(None, "bad_length", length=2_000_000 - 2 * 700_000)

    result = transfer.download(asset, tmp_path / "big.zip", {"geodes": transport})

    assert (result.outcome, result.verified) == (Outcome.DOWNLOADED, True)
    assert (tmp_path / "big.zip").stat().st_size == 2_000_000


def test_a_length_that_is_no_cut_is_taken_at_its_word(
    standin: StandIn, transport: HttpTransport, href: str, tmp_path: Path
) -> None:
    """Half the file is half the file, not a number that lost its high bits."""
    standin.fault(None, "bad_length", length=SIZE // 2)
    asset = asset_of(CONTENT, hrefs={"geodes": href})

    with pytest.raises(TruncatedBodyError, match=f"{SIZE} bytes announced, {SIZE // 2} received"):
        transfer.download(asset, tmp_path / "big.zip", {"geodes": transport})


def test_bytes_beyond_the_length_do_not_spoil_the_next_download(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """What a server sends beyond its Content-Length is never the start of the next answer."""
    standin.fault(None, "bad_length", length="smaller", times=1)
    fetch(transport, href)

    assert fetch(transport, href) == (0, CONTENT)


def test_a_slow_but_steady_body_is_never_cut(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """A drip much longer than the stall limit arrives whole, in pieces as they come."""
    standin.fault(None, "slow_drip", rate=200_000)

    with transport.open(href) as body:
        times = [(time.monotonic(), len(piece)) for piece in body.chunks]

    assert sum(size for _, size in times) == SIZE
    assert times[-1][0] - times[0][0] > 1  # twice the stall limit
    assert max(b[0] - a[0] for a, b in itertools.pairwise(times)) < 0.5


def test_the_wait_for_the_answer_may_be_longer_than_a_stall(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """A portal that thinks for longer than a body may pause is waited for."""
    standin.fault(None, "slow_headers", seconds=1)

    assert fetch(transport, href) == (0, CONTENT)


def test_the_wait_for_the_answer_has_an_end(standin: StandIn, href: str) -> None:
    """A portal that never answers is a stall, not a hang."""
    standin.fault(None, "slow_headers", seconds=5)
    transport = transport_for(standin.url, first_byte_seconds=0.3)

    with pytest.raises(StalledError, match=r"no answer within 0\.3 s"):
        fetch(transport, href)


def test_the_stall_limit_holds_on_a_connection_used_before(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """The second answer on a connection has its full first wait, and its stall limit again."""
    fetch(transport, href)
    standin.fault(None, "slow_headers", seconds=1)
    standin.fault(None, "stall", after=100_000)
    began = time.monotonic()

    with pytest.raises(StalledError, match="silent since byte 100000"):
        fetch(transport, href)

    assert 1.4 < time.monotonic() - began < 2.9


# --- resuming -----------------------------------------------------------------------------------


def etag_of(transport: HttpTransport, href: str) -> str | None:
    """Give the validator that the server names."""
    with transport.open(href) as body:
        return body.etag


@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [
        ("500", 2),
        ("ignore", 1),
        ("wrong_content_range", 2),
        ("416", 2),
        ("changed", 2),
        ("changed_no_etag", 2),
        ("multipart", 2),
    ],
)
def test_a_rest_that_is_not_proven_starts_from_zero(
    standin: StandIn, transport: HttpTransport, href: str, behaviour: str, requests: int
) -> None:
    """Whatever a server makes of a range, no byte is taken for one that it is not."""
    standin.settings.range = RangeBehaviour.GOOD
    etag = etag_of(transport, href)
    standin.settings.range = RangeBehaviour(behaviour)
    standin.reset_log()

    assert fetch(transport, href, offset=100_000, etag=etag) == (0, CONTENT)
    assert len(standin.downloads()) == requests


@pytest.mark.parametrize(("is_proven", "start"), [(True, 5), (False, 0)])
def test_an_encoded_rest_needs_a_checksum(is_proven: bool, start: int) -> None:
    """Only a checksum can prove bytes that the server calls encoded."""
    rest = answer(
        b"56789", "Content-Range: bytes 5-9/10", "Content-Encoding: gzip", status="206 Partial"
    )
    asset = asset_of(
        b"0123456789", checksum=asset_of(b"0123456789").checksum if is_proven else None
    )

    with Scripted(rest, answer(b"0123456789")) as server:
        transport = transport_for(server.url)
        with transport.open(server.url + "/f", offset=5, asset=asset) as body:
            found = body.offset, b"".join(body.chunks)

    assert found == (start, b"0123456789"[start:])


def test_ranges_are_served_until_one_fails(transport: HttpTransport, href: str) -> None:
    """A host that is not known yet is asked for ranges."""
    assert transport.serves_ranges(href) is True


def test_resume_with_and_without_validator(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """Only the rest is sent, and the validator goes along where there is one."""
    standin.settings.range = RangeBehaviour.GOOD
    etag = etag_of(transport, href)
    standin.reset_log()

    assert fetch(transport, href, offset=100_000, etag=etag) == (100_000, CONTENT[100_000:])
    assert fetch(transport, href, offset=100_000) == (100_000, CONTENT[100_000:])
    headers = [record.headers for record in standin.downloads()]
    assert [h.get("Range") for h in headers] == ["bytes=100000-"] * 2
    assert [h.get("If-Range") for h in headers] == [etag, None]


def test_a_changed_file_is_sent_whole_at_once(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """A server that honours If-Range answers another version with all of it: one request."""
    standin.settings.range = RangeBehaviour.GOOD
    standin.reset_log()

    assert fetch(transport, href, offset=100_000, etag='"of-yesterday"') == (0, CONTENT)
    assert len(standin.downloads()) == 1


def test_a_host_that_fails_at_ranges_is_asked_only_once(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """After one failure the host gets no ranges for a while: each GET costs quota."""
    for _ in range(3):
        assert fetch(transport, href, offset=100_000) == (0, CONTENT)

    ranges = [record.headers.get("Range") for record in standin.downloads()]
    assert ranges == ["bytes=100000-", None, None, None]


def test_a_sick_server_is_not_remembered_as_one_without_ranges(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """When the plain request fails as well, it was not the range."""
    standin.settings.range = RangeBehaviour.GOOD
    standin.fault(None, "status_n_times", status=500, times=2)

    with pytest.raises(ServerError, match="HTTP 500"):
        fetch(transport, href, offset=100_000)

    assert fetch(transport, href, offset=100_000) == (100_000, CONTENT[100_000:])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("429", ThrottledError),
        ("quota403", QuotaError),
        ("gone_404", NotFoundError),
        ("status_n_times", ServerError),
    ],
)
def test_an_answer_that_is_not_about_the_range_is_not_asked_again(
    standin: StandIn,
    transport: HttpTransport,
    href: str,
    mode: str,
    expected: type[GeodesTasksError],
) -> None:
    """Quota, throttling and the like mean the same with a range as without."""
    standin.fault(None, mode)

    with pytest.raises(expected, match="URN"):
        fetch(transport, href, offset=100_000)

    assert len(standin.downloads()) == 1


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Range: bytes 5-9/10", 'ETag: W/"v1"'),
        ("Content-Range: bytes 5-9/10",),
        ("Content-Range: bytes 5-8/10", 'ETag: "v1"'),
        ("Content-Range: bytes 5-9/*", 'ETag: "v1"'),
        ("Content-Range: bytes 4-9/10", 'ETag: "v1"'),
        ("Content-Range: bytes 5-10/11", 'ETag: "v1"'),
        ('ETag: "v1"',),
    ],
)
def test_a_206_that_proves_too_little(headers: tuple[str, ...]) -> None:
    """A weak or absent validator, another start, an end that is none: all start from zero."""
    part = answer(b"56789", *headers, status="206 Partial Content")
    with Scripted(part, answer(b"0123456789")) as server:
        got = fetch(transport_for(server.url), server.url + "/f", offset=5, etag='"v1"')

    assert got == (0, b"0123456789")


def test_weak_validators_are_none() -> None:
    """A weak ETag is neither given to the caller nor sent back."""
    whole = answer(b"0123456789", 'ETag: W/"v1"')
    with Scripted(whole) as server:
        transport = transport_for(server.url)
        etag = etag_of(transport, server.url + "/f")
        fetch(transport, server.url + "/f", offset=5, etag='W/"v1"')

    assert etag is None
    assert "if-range" not in server.requests[1].lower()


def test_a_part_that_nobody_asked_for_is_refused() -> None:
    """A 206 to a plain request is not the file."""
    part = answer(b"56789", "Content-Range: bytes 5-9/10", status="206 Partial Content")
    with Scripted(part) as server, pytest.raises(UnexpectedAnswerError, match="HTTP 206"):
        fetch(transport_for(server.url), server.url + "/f")


# --- the key ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_never_reaches_another_host(
    standin: StandIn, transport: HttpTransport, href: str, status: int
) -> None:
    """A redirect is followed, without the key and with nothing else that tells who we are."""
    standin.fault(None, "redirect_other_host", status=status)

    assert fetch(transport, href) == (0, CONTENT)
    (record,) = standin.other_host.requests
    assert CANARY not in repr(record)
    assert not {"Cookie", "Authorization", "X-API-Key"} & set(record.headers)
    assert standin.downloads()[0].key == CANARY


def test_a_redirect_within_the_portal_keeps_the_key() -> None:
    """The portal may send on to itself, and wants the key there too."""
    moved = answer(b"", "Location: /elsewhere", status="302 Found")
    with Scripted(moved, FILE) as server:
        content = fetch(transport_for(server.url), server.url + "/f")[1]

    assert content == CONTENT
    assert all(f"X-API-Key: {CANARY}" in request for request in server.requests)
    assert server.requests[1].startswith("GET /elsewhere ")


def test_the_same_host_on_another_port_is_another_host() -> None:
    """Scheme, host and port must all be the portal's."""
    with Scripted(answer(b"")) as portal, Scripted(FILE) as neighbour:
        content = fetch(transport_for(portal.url), neighbour.url + "/f")[1]

    assert content == CONTENT
    assert CANARY not in neighbour.requests[0]
    assert not portal.requests


def test_no_key_no_request(standin: StandIn, href: str) -> None:
    """Without a key the portal is not even asked, and the error says how to give one."""
    with pytest.raises(KeyMissingError, match="GEODES_API_KEY is not set") as caught:
        fetch(transport_for(standin.url, api_key=None), href)

    assert caught.value.reaction is Reaction.AUTH
    assert "GEODES_API_KEY_FILE" in caught.value.hint
    assert not standin.requests


def test_previews_need_no_key() -> None:
    """The portal gives quicklooks to everybody, so they come without a key too."""
    with Scripted(answer(b"\xff\xd8jpeg", "Content-Type: image/jpeg")) as server:
        transport = transport_for(server.url, api_key=None)
        content = fetch(transport, server.url + "/api/quicklook/urn/files/x?scope=gdh")[1]

    assert content == b"\xff\xd8jpeg"


def test_a_replaced_key_file_is_seen_at_once(standin: StandIn, href: str, tmp_path: Path) -> None:
    """The key is read for each request, so a worker goes on when its key file is replaced."""
    key_file = tmp_path / "key"
    key_file.write_text("outdated-key\n")
    transport = transport_for(standin.url, api_key=None, api_key_file=key_file)

    with pytest.raises(AuthError, match=r"ending in \.\.\.-key, was refused"):
        fetch(transport, href)
    key_file.write_text(f"{CANARY}\n")

    assert fetch(transport, href) == (0, CONTENT)


def test_an_unreadable_key_file_pauses_the_account(
    standin: StandIn, href: str, tmp_path: Path
) -> None:
    """A key file that is gone is a missing key, not the end of every download in the queue."""
    transport = transport_for(standin.url, api_key=None, api_key_file=tmp_path / "gone")

    with pytest.raises(KeyMissingError, match="GEODES_API_KEY_FILE"):
        fetch(transport, href)


@pytest.mark.parametrize("key", [f"{CANARY}\r\nX-Evil: 1", f"{CANARY} {CANARY}", f"{CANARY}é"])
def test_a_key_that_no_header_can_carry(
    standin: StandIn, href: str, key: str, tmp_path: Path
) -> None:
    """Such a key is not sent and not quoted, and the account waits for a better one."""
    key_file = tmp_path / "key"
    key_file.write_text(key, encoding="utf-8")
    transport = transport_for(standin.url, api_key=None, api_key_file=key_file)

    with pytest.raises(KeyMissingError, match="holds") as caught:
        fetch(transport, href)

    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert not standin.requests


def test_cookies_and_netrc_logins_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing goes along but what this program means to send."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Scripted(answer(CONTENT, "Set-Cookie: session=abc; Path=/")) as server:
        transport = transport_for(server.url)
        for _ in range(2):
            fetch(transport, server.url + "/f")

    heads = "".join(server.requests).lower()
    assert "cookie" not in heads
    assert "authorization" not in heads
    assert "accept-encoding: identity" in heads
    assert "user-agent: geodes-tasks/" in heads


# --- where hrefs may lead ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("https://elsewhere.example/f", "not the portal"),
        ("https://portal.example.evil.example/f", "not the portal"),
        ("https://portal.example@evil.example/f", "user name or password"),
        ("https://me:secret@portal.example/f", "user name or password"),
        ("https://portal.example\\@evil.example/f", "not the portal|web address|user name"),
        ("https://portal.example:8443/f", "not the portal"),
        ("http://elsewhere.example/f", "loopback only"),
        ("http://127.0.0.1:9/f", "not the portal|private network"),
        ("https://10.1.2.3/f", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("https://[::ffff:10.0.0.1]/f", "private network"),
        ("ftp://portal.example/f", "not opened here"),
        ("file:///etc/passwd", "web address|not opened"),
        ("/etc/passwd", "web address"),
        ("https:///f", "web address"),
        ("https://[broken/f", "web address"),
        ("https://portal.example:port/f", "web address"),
    ],
)
def test_hrefs_that_are_not_opened(address: str, match: str) -> None:
    """An href of a stranger reaches neither another host nor the inside of the network."""
    transport = transport_for("https://portal.example")

    with pytest.raises(HrefRefusedError, match=match) as caught:
        fetch(transport, address)

    assert "secret" not in str(caught.value)
    assert not caught.value.href.startswith("None")  # it names what the catalogue has


@pytest.mark.parametrize("port", ["", ":80", ":{port}"])
def test_plain_http_of_the_portal_is_sent_by_https(secure: StandIn, port: str) -> None:
    """A catalogue behind TLS writes http for its own host: the key and the request use TLS."""
    name = secure.url.removeprefix("https://")
    href = f"http://{name}{secure.path_of(secure.add_item(body=OLD))}"
    client = transport_for(secure.url, ca_bundle=secure.ca_file)
    policy = AddressPolicy(load(portal_url="https://portal.example"))

    assert fetch(client, href) == (0, CONTENT)
    assert policy.secured(f"http://portal.example{port.format(port=443)}/f?a=b") == (
        "https://portal.example/f?a=b"
    )
    for other in ("http://portal.example:8080/f", "http://portal.example.evil/f", "ftp://x/f"):
        assert policy.secured(other) == other


@pytest.mark.parametrize(
    "inside",
    [
        "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:a00:1::", "::ffff:10.0.0.1",
        "::ffff:0:10.0.0.1", "::10.0.0.1", "::", "::1", "fc00::1", "fe80::1", "fe80::1%eth0",
        "fec0::1", "ff02::1", "0.0.0.1", "100.64.0.1", "169.254.169.254", "172.31.0.1",
        "192.168.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    ],
)  # fmt: skip
def test_addresses_that_lead_inside(inside: str) -> None:
    """Private, shared, link-local and reserved ones, and IPv6 that a gateway turns into such."""
    policy = AddressPolicy(load(portal_url="https://portal.example"))

    assert not policy.may_reach("stranger.example", 443, inside)
    assert policy.may_reach("portal.example", 443, inside)
    assert policy.may_reach("stranger.example", 443, "64:ff9b::8.8.8.8")


@pytest.mark.parametrize(
    ("host", "port", "is_allowed"),
    [
        ("portal.example", 443, True), ("portal.example", 6379, False),
        ("s3.example", 9000, True), ("s3.example", 443, False), ("s3.example", 6379, False),
        ("one.example", 8443, True), ("one.example", 443, False), ("one.example", 6379, False),
        ("all.example", 443, True), ("all.example", 6379, True),
        ("10.0.0.5", 8443, True), ("10.0.0.5", 6379, False),
    ],
)  # fmt: skip
def test_a_port_of_an_allowed_host_is_no_other_port(host: str, port: int, is_allowed: bool) -> None:
    """A redirect to a host inside reaches the port that the settings name, and no neighbour."""
    policy = AddressPolicy(
        load(
            portal_url="https://portal.example", s3_endpoint_url="https://s3.example:9000",
            allowed_hosts=("one.example:8443", "all.example", "10.0.0.5:8443"),
        )
    )  # fmt: skip

    assert policy.may_reach(host, port, "10.0.0.5") == is_allowed
    if host == "10.0.0.5":
        with contextlib.nullcontext() if is_allowed else pytest.raises(HrefRefusedError):
            policy.check_redirect("https://portal.example/f", f"https://{host}:{port}/f")


def test_a_redirect_reaches_no_other_port_of_an_allowed_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of an allowed host resolves to this machine: its other services get no request."""
    monkeypatch.setattr(socket, "getaddrinfo", partial(_as_loopback, socket.getaddrinfo))
    with Scripted(FILE) as inside:
        away = answer(b"", f"Location: https://mirror.example:{inside.port}/f", status="302 Found")
        with Scripted(away) as mirror:
            allowed = (f"127.0.0.1:{mirror.port}", f"mirror.example:{mirror.port}")
            transport = transport_for("https://portal.example", allowed_hosts=allowed)

            with pytest.raises(HrefRefusedError, match="private network"):
                fetch(transport, mirror.url + "/f")

        assert not inside.requests


def _as_loopback(resolve: Callable[..., Any], host: str, *args: Any, **options: Any) -> Any:
    return resolve("127.0.0.1" if host == "mirror.example" else host, *args, **options)


def test_a_redirect_to_the_datalake_is_followed() -> None:
    """The S3 endpoint of the settings may be inside the network, as it is at CNES."""
    with Scripted(FILE) as datalake:
        away = answer(b"", f"Location: {datalake.url}/b/k?{SECRET_QUERY}", status="302 Found")
        with Scripted(away) as mirror:
            transport = transport_for(
                "https://portal.example", allowed_hosts=(f"127.0.0.1:{mirror.port}",),
                s3_endpoint_url=datalake.url,
            )  # fmt: skip
            content = fetch(transport, mirror.url + "/f")[1]

    assert content == CONTENT
    assert CANARY not in datalake.requests[0]


def test_a_load_balancer_gets_its_cookie_back() -> None:
    """A redirect to the same address with a cookie ends when the cookie comes back."""
    away = answer(b"", "Location: /f", "Set-Cookie: lb=7; Path=/", status="302 Found")
    with Scripted(away, FILE) as server:
        transport = transport_for(server.url)
        content = fetch(transport, server.url + "/f")[1]
        fetch(transport, server.url + "/f")

    assert content == CONTENT
    assert "cookie: lb=7" in server.requests[1].lower()
    assert "cookie" not in server.requests[2].lower()


def test_the_end_of_a_circle_of_redirects_is_named() -> None:
    """Where the redirects lead to is in the message, without its query."""
    away = answer(b"", f"Location: /sso/login?{SECRET_QUERY}", status="302 Found")
    with (
        Scripted(away) as server,
        pytest.raises(AuthError, match=r"without end, last to http\S*/sso/login from") as caught,
    ):
        fetch(transport_for(server.url), server.url + "/f")

    assert SECRET_QUERY not in str(caught.value)


# --- proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "match"),
    [
        ("407 Proxy Authentication Required", "407 Proxy Authentication Required"),
        ("502 Bad Gateway", "502 Bad Gateway"),
        ("403 Forbidden by policy", "403 Forbidden by policy"),
        ("proxy.example.org:3128:x", "proxy.example.org:3128:x is no valid address"),
        ("http://", "is no valid address"),
        ("socks9://user:hush@127.0.0.1:9", r"socks9://user:\*\*\*@127.0.0.1:9"),
        ("user:hush@127.0.0.1:1", r"user:\*\*\*@127.0.0.1:1"),
    ],
)
def test_a_proxy_that_fails_is_named_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, proxy: str, match: str
) -> None:
    """The proxy is the user's: nothing of the item is blamed, and nothing is final."""
    with Scripted(answer(b"", status=proxy), close=True) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url if " " in proxy else proxy)
        with pytest.raises(ProxyFailedError, match=f"proxy.*{match}") as caught:
            fetch(transport_for("https://portal.example"), "https://portal.example/f")

    assert caught.value.reaction is Reaction.TRANSIENT
    assert "https_proxy" in caught.value.hint
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_socks_proxy_is_used(monkeypatch: pytest.MonkeyPatch, secure: StandIn) -> None:
    """With the extra `socks` a tunnel of `ssh -D` leads to the portal, its TLS verified."""
    portal = secure.url.replace("127.0.0.1", "localhost.localdomain")
    with SocksProxy(urlsplit(secure.url).port or 0) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("http:", "socks5h:"))
        # The certificate that came through the tunnel is that of another name.
        with pytest.raises(UntrustedServerError):
            fetch(transport_for(portal), f"{portal}{secure.path_of(secure.add_item(body=OLD))}")

    assert proxy.heads == ["localhost.localdomain"]


def test_a_socks_proxy_without_its_package_is_a_clear_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PySocks the message names the package, not the address of the file."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr(
        "requests.adapters.SOCKSProxyManager", _without_socks
    )  # what requests has where PySocks is not installed
    with pytest.raises(ProxyFailedError, match=r"needs PySocks: pip install 'geodes-tasks\[socks"):
        fetch(transport_for("https://portal.example"), "https://portal.example/f")


def _without_socks(*_: object, **__: object) -> None:
    raise InvalidSchema("Missing dependencies for SOCKS support.")


# --- answers that drip --------------------------------------------------------------------------


def test_a_head_that_never_ends_has_a_deadline() -> None:
    """A server that sends a header byte a second does not hold a slot: the head has a deadline."""
    for start in (b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX-A: b"):
        with Dripping(start) as server:
            transport = transport_for(server.url, first_byte_seconds=1)
            begun = time.monotonic()
            with pytest.raises(StalledError, match="no answer within 1 s"):
                fetch(transport, server.url + "/f")

        assert time.monotonic() - begun < 3


def test_a_chunk_size_that_never_ends_is_a_stall() -> None:
    """Bytes around the body are no bytes of the file: without the latter it is a stall."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with Dripping(head, b"0") as server, pytest.raises(StalledError, match="silent since byte 5"):
        fetch(transport_for(server.url), server.url + "/f")


def test_early_hints_come_before_the_answer() -> None:
    """Interim responses are skipped, and many header fields are read."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3
    many = [f"X-{n}: v" for n in range(300)]
    with Scripted(hints + answer(CONTENT, *many)) as server:
        assert fetch(transport_for(server.url), server.url + "/f") == (0, CONTENT)


class Dripping(Scripted):
    """Sends a start, then one more byte each 50 ms without an end."""

    def __init__(self, start: bytes, drop: bytes = b"x") -> None:
        super().__init__(start)
        self._drop = drop

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._head(connection)
            connection.sendall(self._answers[0])
            while True:
                time.sleep(0.05)
                connection.sendall(self._drop)


def test_the_refusal_says_how_to_allow_a_host() -> None:
    """The hint is the line to type."""
    with pytest.raises(HrefRefusedError, match="not the portal") as caught:
        fetch(transport_for("https://portal.example"), "https://mirror.example/f")

    assert "GEODES_TASKS_ALLOWED_HOSTS=mirror.example" in caught.value.hint


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:{port}"])
def test_an_allowed_host_is_opened_without_the_key(entry: str) -> None:
    """A host that the settings name is opened, loopback or not, and gets no key."""
    with Scripted(FILE) as mirror:
        allowed = (entry.format(port=mirror.port),)
        transport = transport_for("https://portal.example", allowed_hosts=allowed)
        content = fetch(transport, mirror.url + "/f")[1]

    assert content == CONTENT
    assert CANARY not in mirror.requests[0]


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_another_hosts_refusal_does_not_blame_the_key(status: str) -> None:
    """The account is not paused for what a host says that never saw the key."""
    with Scripted(answer(b"no quota for you", status=status)) as mirror:
        transport = transport_for("https://portal.example", allowed_hosts=("127.0.0.1",))

        with pytest.raises(SourceUnavailableError, match="HTTP 40"):
            fetch(transport, mirror.url + "/f")


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("ftp://127.0.0.1/f", "not opened"),
        ("file:///etc/passwd", "web address|not opened"),
        ("http://elsewhere.example/f", "loopback only"),
        ("https://169.254.169.254/latest", "private network"),
        ("https://10.0.0.7/f", "private network"),
        ("https://someone:secret@elsewhere.example/f", "user name"),
    ],
)
def test_redirects_that_are_not_followed(target: str, match: str) -> None:
    """A redirect reaches no more of the network than an href does."""
    with Scripted(answer(b"", f"Location: {target}", status="302 Found")) as server:
        with pytest.raises(HrefRefusedError, match=match):
            fetch(transport_for(server.url), server.url + "/f")

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost.", "LOCALHOST", "a.localhost", "127.0.0.1", "127.0.0.1.", "127.1",
        "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]", "[::ffff:7f00:1]",
    ],
)  # fmt: skip
def test_a_redirect_to_this_machine_is_not_followed(host: str) -> None:
    """No way of writing loopback gets there, and nothing is sent to it, not by a proxy either."""
    with Scripted(FILE) as inside:
        away = answer(b"", f"Location: https://{host}:{inside.port}/f", status="302 Found")
        with Scripted(away) as mirror:
            allowed = (f"127.0.0.1:{mirror.port}",)
            transport = transport_for("https://portal.example", allowed_hosts=allowed)

            with pytest.raises(HrefRefusedError, match="private network"):
                fetch(transport, mirror.url + "/f")

        assert not inside.connections


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_redirect_to_this_machine_is_refused_before_a_connection(host: str) -> None:
    """A proxy would make the connection, and its peer is not seen."""
    policy = AddressPolicy(load(portal_url="https://portal.example"))

    with pytest.raises(HrefRefusedError, match="private network"):
        policy.check_redirect("https://portal.example/f", f"https://{host}/f")


def test_no_redirect_leads_from_https_to_plain_http() -> None:
    """Not to an allowed host on loopback either; from loopback it is a test's own."""
    policy = AddressPolicy(load(portal_url="https://portal.example", allowed_hosts="127.0.0.1"))

    with pytest.raises(HrefRefusedError, match="from https to plain http"):
        policy.check_redirect("https://portal.example/f", "http://127.0.0.1/f")
    policy.check_redirect("https://127.0.0.1/f", "http://127.0.0.1/f")
    policy.check_redirect("https://portal.example/f", "https://127.0.0.1/f")


def test_too_many_redirects_elsewhere_are_a_broken_transfer() -> None:
    """Only the portal's circles mean a wrong key."""
    away = [answer(b"", f"Location: /{n}", status="302 Found") for n in range(9)]
    with Scripted(*away) as mirror:
        transport = transport_for("https://portal.example", allowed_hosts=("127.0.0.1",))
        with pytest.raises(TransferError, match="redirects without end"):
            fetch(transport, mirror.url + "/f")

    assert len(mirror.requests) == 6  # the first, and five hops


def test_a_proxy_of_the_environment_is_used_and_never_sees_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The portal is reached through the proxy by CONNECT; a proxy that refuses is named."""
    with Scripted(answer(b"", status="403 Forbidden"), close=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(TransferError, match="proxy"):
            fetch(transport_for("https://portal.example"), "https://portal.example/f")

    assert proxy.requests[0].startswith("CONNECT portal.example:443")
    assert CANARY not in "".join(proxy.requests)


def test_loopback_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, transport: HttpTransport, href: str
) -> None:
    """A proxy would see the key that goes to a loopback portal over plain http."""
    with Scripted(answer(b"", status="403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert fetch(transport, href) == (0, CONTENT)

    assert not proxy.requests


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def secure() -> Iterator[StandIn]:
    """Start a portal that speaks TLS with a certificate of its own making."""
    with StandIn(api_key=CANARY, tls=True) as standin:
        yield standin


def test_a_private_authority_is_trusted_when_named(secure: StandIn) -> None:
    """With its certificate in the settings, the portal is downloaded from over TLS."""
    href = secure.url + secure.path_of(secure.add_item(body=OLD))
    transport = transport_for(secure.url, ca_bundle=secure.ca_file)

    assert fetch(transport, href) == (0, CONTENT)


def test_a_server_without_tls_gets_no_key() -> None:
    """Somebody on the way answers in plain text: nothing but the handshake is sent."""
    received = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_in_plain_text() -> None:
            with server.accept()[0] as connection:
                received.append(connection.recv(65536))
                connection.sendall(FILE)

        thread = threading.Thread(target=answer_in_plain_text)
        thread.start()
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="the connection failed"):
            fetch(transport_for(address), f"{address}/f")
        thread.join()

    assert received[0][0] == 0x16  # a handshake record (RFC 8446 section 5.1)
    assert CANARY.encode() not in b"".join(received)


def test_tls_records_are_gathered(secure: StandIn) -> None:
    """Records of 16 KiB that have arrived are one piece: each piece costs processor time."""
    body_there = GeneratedBody("large", 2 * MiB)
    href = secure.url + secure.path_of(secure.add_item(body=body_there))
    transport = transport_for(secure.url, ca_bundle=secure.ca_file, stall_seconds=5)

    with transport.open(href) as body:
        pieces = [next(body.chunks)]
        # Until the buffers of the sockets are full.
        time.sleep(0.5)
        pieces.append(next(body.chunks))
        pieces.extend(body.chunks)

    assert len(pieces[1]) > 2 * TLS_RECORD_BYTES
    assert b"".join(pieces) == read(body_there)


@pytest.mark.parametrize("bundle", [None, "missing.pem"])
def test_an_unknown_certificate_is_no_fault_of_the_key(
    secure: StandIn, tmp_path: Path, bundle: str | None
) -> None:
    """Nothing is sent, the key least of all, and the hint names the setting that mends it."""
    href = secure.url + secure.path_of(secure.add_item(body=OLD))
    transport = transport_for(secure.url, ca_bundle=tmp_path / bundle if bundle else None)

    with pytest.raises(UntrustedServerError, match="certificate is not trusted") as caught:
        fetch(transport, href)

    assert caught.value.reaction is Reaction.TRANSIENT
    assert isinstance(caught.value, UnreachableError)
    assert "GEODES_TASKS_CA_BUNDLE" in caught.value.hint
    assert not secure.requests


def test_a_replaced_bundle_is_read_without_a_restart(secure: StandIn, tmp_path: Path) -> None:
    """A transport that trusted other certificates goes on when their file is replaced."""
    href = secure.url + secure.path_of(secure.add_item(body=OLD))
    (tmp_path / "other").mkdir()
    bundle = make_certificate(tmp_path / "other")
    transport = transport_for(secure.url, ca_bundle=bundle)
    with pytest.raises(UntrustedServerError):
        fetch(transport, href)

    assert secure.ca_file is not None
    bundle.write_bytes(secure.ca_file.read_bytes())
    os.utime(bundle, (1, 1))

    assert fetch(transport, href) == (0, CONTENT)


def test_another_hosts_bad_certificate_is_its_own_fault(
    secure: StandIn, standin: StandIn, href: str, item: Item
) -> None:
    """What needs the host waits, as for one that is down; so does what is redirected to it."""
    transport = transport_for("https://portal.example", allowed_hosts=("127.0.0.1",))
    with pytest.raises(UntrustedServerError, match="certificate is not trusted"):
        fetch(transport, secure.url + "/f")

    standin.fault(item, "redirect_other_host", location=f"{secure.url}/f")
    transport = transport_for(standin.url, allowed_hosts=("127.0.0.1",))
    with pytest.raises(RedirectUnreachableError, match="certificate is not trusted") as caught:
        fetch(transport, href)

    assert caught.value.host == secure.url.removeprefix("https://")


def test_a_stall_over_tls(secure: StandIn) -> None:
    """The stall limit holds within TLS as well."""
    item = secure.add_item(body=OLD)
    secure.fault(item, "stall", after=123_456)
    transport = transport_for(secure.url, ca_bundle=secure.ca_file)

    with pytest.raises(StalledError, match="silent since byte 123456"):
        fetch(transport, secure.url + secure.path_of(item))


# --- connections ----------------------------------------------------------------------------------


def test_connections_are_kept_between_downloads() -> None:
    """Small files do not pay for a new connection each."""
    with Scripted(FILE) as server:
        transport = transport_for(server.url)
        for number in range(4):
            assert fetch(transport, f"{server.url}/{number}")[1] == CONTENT

    assert len(server.connections) == 1


def test_a_kept_connection_that_died_is_replaced() -> None:
    """A server that closed in the meantime costs nothing but a new connection."""
    with Scripted(FILE, close=True) as server:
        transport = transport_for(server.url)
        for number in range(3):
            assert fetch(transport, f"{server.url}/{number}")[1] == CONTENT
            time.sleep(0.05)

    assert len(server.connections) == 3


def test_threads_do_not_share_connections(standin: StandIn, transport: HttpTransport) -> None:
    """Many threads with one transport each get the bytes that they asked for."""
    items = [standin.add_item(size=40_000 + number) for number in range(8)]
    wrong: list[str] = []

    def many(item: Item) -> None:
        expected, href = read(standin.body(item)), standin.url + standin.path_of(item)
        wrong.extend(href for _ in range(10) if fetch(transport, href)[1] != expected)

    threads = [threading.Thread(target=many, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert len(standin.downloads()) == 80


def test_an_unanswered_connection_has_an_end() -> None:
    """A name that does not resolve is told in the words of the system, without the query."""
    transport = transport_for("https://portal.invalid")

    with pytest.raises(TransferError, match="connection failed") as caught:
        fetch(transport, f"https://portal.invalid/f?{SECRET_QUERY}")

    assert SECRET_QUERY not in "".join(traceback.format_exception(caught.value))


def no_port() -> str:
    """Give the address of a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("way", ["refused", "no such host", "no TLS there", "proxy", "no proxy"])
def test_a_connection_that_is_never_made_is_named(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The portal cannot have counted what was never sent to it."""
    with Scripted(answer(b"", status="403 Forbidden"), close=True) as server:
        where = {
            "refused": f"http://{no_port()}",
            "no such host": "https://portal.invalid",
            "no TLS there": f"https://127.0.0.1:{server.port}",
        }
        if way == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", server.url)
        if way == "no proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://{no_port()}")
        portal = where.get(way, "https://portal.example")

        with pytest.raises(UnreachableError):
            fetch(transport_for(portal), f"{portal}/f")


@pytest.mark.parametrize("mode", ["slow_headers", "reset"])
def test_a_connection_that_was_made_may_have_been_counted(
    standin: StandIn, href: str, item: Item, transport: HttpTransport, mode: str
) -> None:
    """No answer in time, and one that breaks at its start, are no outage."""
    options = {"seconds": 30} if mode == "slow_headers" else {"after": 0}
    standin.fault(item, mode, **options)

    with pytest.raises(TransferError) as caught:
        fetch(transport, href)

    assert not isinstance(caught.value, UnreachableError)


def test_a_redirect_that_leads_nowhere_names_the_host(
    standin: StandIn, href: str, item: Item
) -> None:
    """Not the portal is down, but the host to which it redirects; the signature is not shown."""
    nowhere = no_port()
    standin.fault(item, "redirect_other_host", location=f"http://{nowhere}/f?Signature=canary")

    with pytest.raises(RedirectUnreachableError, match="connection failed") as caught:
        fetch(transport_for(standin.url, allowed_hosts=(nowhere,)), href)

    assert caught.value.host == nowhere
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("is_redirect", [False, True])
@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("X-Amz-Signature=ab%2fcd%2Bef%3D%3D&x=a+b&~t=1", None),
        ("sig=%7e%41%2d&se=2026-11-28T00%3a00%3a00Z&sp=r", None),
        ("a='b'&Policy=eyJ(1)*!;/?:@$,&Key-Pair-Id=K1", None),
        ("name=a b&x=100%", "name=a%20b&x=100%25"),
    ],
)
def test_a_signed_query_is_sent_to_the_letter(
    standin: StandIn, href: str, item: Item, query: str, sent: str | None, *, is_redirect: bool
) -> None:
    """A server that signs the letters of an address gets them; only what is invalid is encoded."""
    with Scripted(answer(CONTENT)) as server:
        signed = f"{server.url}/A%20B/f.zip?{query}"
        standin.fault(item, "redirect_other_host", location=signed)
        transport = transport_for(standin.url, allowed_hosts=(f"127.0.0.1:{server.port}",))
        fetch(transport, href if is_redirect else signed)

    assert server.requests[0].splitlines()[0] == f"GET /A%20B/f.zip?{sent or query} HTTP/1.1"


@pytest.mark.parametrize("mode", ["slow_headers", "stall"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_wait_is_broken_off_from_outside(mode: str, tls: bool) -> None:
    """A worker that stops wakes its threads, whether they wait for an answer or within a body."""
    with StandIn(api_key=CANARY, tls=tls) as portal:
        href = portal.url + portal.path_of(portal.add_item(body=OLD))
        portal.fault(
            None, mode, **({"seconds": 20} if mode == "slow_headers" else {"after": 10**5})
        )
        waits = {"first_byte_seconds": 20, "stall_seconds": 20}
        transport = transport_for(portal.url, ca_bundle=portal.ca_file, **waits)
        caller = threading.get_ident()
        timer = threading.Timer(0.3, transport.abort, [caller])
        timer.start()
        began = time.monotonic()

        with pytest.raises(TransferError, match=r"broken off|connection failed"):
            fetch(transport, href)

        timer.join()
        assert time.monotonic() - began < 5


def test_the_wait_for_a_silent_proxy_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is connected and makes no tunnel holds up no worker that stops."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        url = "https://portal.example"
        transport = transport_for(url, connect_seconds=20, first_byte_seconds=20)
        timer = threading.Timer(0.5, transport.abort, [threading.get_ident()])
        timer.start()
        began = time.monotonic()

        with pytest.raises(TransferError):
            fetch(transport, f"{url}/f")

        timer.join()
        assert time.monotonic() - began < 10


def test_a_body_without_length_that_is_broken_off_is_not_complete(
    standin: StandIn, transport: HttpTransport, href: str
) -> None:
    """The end that breaking off makes does not pass for the end of the file."""
    standin.fault(None, "bad_length", length="absent")
    standin.fault(None, "stall", after=100_000)
    caller = threading.get_ident()

    with transport.open(href) as body:
        threading.Timer(0.1, transport.abort, [caller]).start()
        with pytest.raises(TransferError, match="broken off at byte 100000"):
            drain(body.chunks, bytearray())


def test_breaking_off_disturbs_no_one_else() -> None:
    """A thread that has nothing open, now or any more, keeps its connection."""
    with Scripted(FILE) as server:
        transport = transport_for(server.url)
        for number in range(2):
            assert fetch(transport, f"{server.url}/{number}") == (0, CONTENT)
            transport.abort(threading.get_ident())

    assert len(server.connections) == 1


def read_range(server: Scripted, etag: str | None) -> tuple[int, int | None, bytes]:
    """Read four bytes from byte 5; give where they start, the size of the object, and them."""
    asset = asset_of(b"0123456789")
    href = f"{server.url}/f"
    with transport_for(server.url).open_range(href, 5, 4, etag=etag, asset=asset) as body:
        return body.offset, body.total_bytes, b"".join(body.chunks)


def test_a_range_is_exactly_what_was_requested() -> None:
    """A part of an archive comes alone, in one request with the validator of the others."""
    part = answer(
        b"5678", "Content-Range: bytes 5-8/10", 'ETag: "v1"', status="206 Partial Content"
    )
    with Scripted(part) as server:
        found = read_range(server, '"v1"')

    assert found == (5, 10, b"5678")
    assert len(server.requests) == 1
    assert "range: bytes=5-8" in server.requests[0].lower()
    assert 'if-range: "v1"' in server.requests[0].lower()


@pytest.mark.parametrize(
    "other",
    [
        answer(b"0123456789", 'ETag: "v1"'),
        answer(b"5678", "Content-Range: bytes 4-7/10", 'ETag: "v1"', status="206 Partial Content"),
        answer(b"56789", "Content-Range: bytes 5-9/10", 'ETag: "v1"', status="206 Partial Content"),
        answer(b"5678", "Content-Range: bytes 5-8/10", 'ETag: "v2"', status="206 Partial Content"),
        answer(b"5678", 'ETag: "v1"', status="206 Partial Content"),
        answer(
            b"5678", "Content-Range: bytes 5-8/10", 'ETag: "v1"', "Content-Encoding: gzip",
            status="206 Partial Content",
        ),
    ],
)  # fmt: skip
def test_a_range_that_is_another_one_is_not_taken(other: bytes) -> None:
    """Neither the whole file, nor other bytes, nor those of another version."""
    with Scripted(other) as server, pytest.raises(NoRangesError):
        read_range(server, '"v1"')


# --- secrets ------------------------------------------------------------------------------------


def secret_tellers(standin: StandIn) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the faults under which something might be told."""
    yield from (
        ("quota403", {}),
        ("quota403", {"body": f"quota of {CANARY} used up"}),
        ("json_200", {"body": f"your key {CANARY} is strange"}),
        ("html_200", {"body": f"Sign in again, {CANARY}"}),
        ("status_n_times", {"status": 500, "body": f"you sent {CANARY}"}),
        ("429", {"retry_after": "seconds"}),
        ("bad_key", {"answer": "401"}),
        ("bad_key", {"answer": "loop"}),
        ("bad_key", {"answer": "login"}),
        ("redirect_other_host", {}),
        ("redirect_other_host", {"location": f"{standin.other_host.url}/gone?{SECRET_QUERY}"}),
        ("redirect_other_host", {"location": f"http://elsewhere.example/?{SECRET_QUERY}"}),
        ("truncate", {"after": 1000}),
        ("reset", {"after": 1000}),
        ("stall", {"after": 1000}),
        ("chunked_cut", {"after": 1000}),
        ("gzip", {}),
        ("slow_headers", {"seconds": 5}),
    )


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "500 Oops", "404 Not Found"])
def test_a_page_that_echoes_the_signature(status: str) -> None:
    """A server that quotes the signed address in its error page does not get it into messages."""
    query = "a=1&sig=hush-77"
    page = f"<html><title>no /f?{query} and no /f?a=1&amp;sig=hush-77 here</title></html>"
    with Scripted(answer(page.encode(), status=status)) as mirror:
        transport = transport_for("https://portal.example", allowed_hosts=("127.0.0.1",))
        with pytest.raises(GeodesTasksError) as caught:
            fetch(transport, f"{mirror.url}/f?{query}")

    assert "hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "echo",
    [
        b'{"message": "the token hush/77+x has expired"}',
        b'{"message": "the token hush\\/77+x has expired"}',
        b"<title>the token hush%2F77%2Bx has expired</title>",
        b"<Error><Message>?a=1&amp;sig=hush%2f77%2bx is none</Message></Error>",
    ],
)
def test_a_message_that_quotes_a_part_of_the_signature(echo: bytes) -> None:
    """A value of the query alone is as secret as the whole query, however it is encoded."""
    with Scripted(answer(echo, status="403 Forbidden")) as mirror:
        transport = transport_for("https://portal.example", allowed_hosts=("127.0.0.1",))
        with pytest.raises(GeodesTasksError) as caught:
            fetch(transport, f"{mirror.url}/f?a=1&sig=hush/77%2Bx")

    assert "hush" not in f"{caught.value} {caught.value!r}"
    assert "HTTP 403" in str(caught.value)


@pytest.mark.parametrize("echo", ["k/e+y&1", r"k\/e+y&1", "k%2Fe%2By%261", "k/e+y&amp;1"])
def test_a_page_that_quotes_the_key_in_another_encoding(echo: str) -> None:
    """JSON, HTML and addresses write some characters in a way of their own."""
    page = f'{{"message": "your key {echo} is strange"}}'.encode()
    with Scripted(answer(page, status="500 Oops")) as portal:
        transport = transport_for(portal.url, api_key="k/e+y&1")
        with pytest.raises(GeodesTasksError) as caught:
            fetch(transport, f"{portal.url}/f")

    assert "your key *** is strange" in str(caught.value)


def test_neither_key_nor_query_is_ever_told(
    standin: StandIn, href: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No error text, value, traceback or log line down to DEBUG holds the key or a query."""
    caplog.set_level(logging.DEBUG)
    transport = transport_for(standin.url, first_byte_seconds=0.4, stall_seconds=0.3)
    told: list[str] = []
    for mode, options in secret_tellers(standin):
        standin.clear_faults()
        standin.fault(None, mode, **options)
        try:
            fetch(transport, f"{href}?{SECRET_QUERY}", offset=10)
        except GeodesTasksError as error:
            told += [str(error), repr(error), error.hint, *traceback.format_exception(error)]
            told += [repr(vars(error))]
    told += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]

    assert len(told) > 100
    assert not [line for line in told if CANARY in line]
    assert not [line for line in told if SECRET_QUERY in line]
