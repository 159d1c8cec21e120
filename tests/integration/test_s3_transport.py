"""What is particular to S3: addresses, credentials, error codes, the client."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import (
    ArchivedObjectError,
    GeodesTasksError,
    NoObjectError,
    ServerError,
    SourceRefusedError,
    SourceUnavailableError,
    SourceUnreachableError,
    StalledError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.settings.config import Config, load
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transports.http.pools import SERVERS
from geodes_tasks.transports.s3 import signed_requests
from geodes_tasks.transports.s3.address import Address
from geodes_tasks.transports.s3.credentials import has_credentials
from geodes_tasks.transports.s3.signed_requests import ATTEMPTS
from geodes_tasks.transports.s3.transport import S3Transport
from tests.conftest import asset_of
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.scripted import Scripted, answer
from tests.integration.tunnel import TunnelProxy
from tests.standin.tls import make_certificate, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "canary-secret-77aa"
TOKEN = "canary-token-88bb"
CONTENT = os.urandom(300_007)


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away the credentials of whoever runs the tests."""
    for name in os.environ:
        if (
            name.startswith(("AWS_", "GEODES"))
            or name.lower().endswith("_proxy")
            or "CA_BUNDLE" in name
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """Start one S3 server for all tests here."""
    with S3Server() as server:
        server.put("a/b.zip", CONTENT)
        yield server


@pytest.fixture
def s3(server: S3Server) -> Iterator[S3Server]:
    """Give the server, right again after each test."""
    server.seen.clear()
    yield server
    server.go_wrong()


def settings_for(url: str, **settings: Any) -> Config:
    """Make settings with credentials for an endpoint."""
    values: dict[str, Any] = {
        "s3_endpoint_url": url,
        "aws_access_key_id": "key-id",
        "aws_secret_access_key": SECRET,
        "aws_session_token": TOKEN,
        "stall_seconds": 10.0,
    }
    return load(**(values | settings))


def fetch(transport: S3Transport, href: str, *, offset: int = 0, etag: str | None = None) -> bytes:
    """Open an object and read it to its end."""
    with transport.open(href, offset=offset, etag=etag) as body:
        return b"".join(body.chunks)


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://h/b/k.zip", Address("https://h", "b", "k.zip")),
        ("https://h:9000/b/a/k%20k%2B.zip", Address("https://h:9000", "b", "a/k k+.zip")),
        ("https://h/b/k.zip?versionId=1", Address("https://h", "b", "k.zip")),
        ("s3://b/a/k%20.zip", Address(None, "b", "a/k%20.zip")),
        ("s3://b/a#1?.zip", Address(None, "b", "a#1?.zip")),
    ],
)
def test_addresses(href: str, expected: Address) -> None:
    """Web addresses are percent-encoded, those of S3 itself are taken as they stand."""
    assert Address.parse(href) == expected


@pytest.mark.parametrize(
    "href",
    ["https://h/b", "https://h/b/", "s3://b", "s3:///k", "ftp://h/b/k",
     "https://[h/b/k", "https:///b/k", "https://h:x/b/k", "b/k", ""],
)  # fmt: skip
def test_what_names_no_object(href: str) -> None:
    """Whole buckets and other things are left to the next source."""
    with pytest.raises(SourceUnavailableError, match="S3 "):
        Address.parse(href)


@pytest.mark.parametrize("form", ["{url}/{bucket}/a/b.zip", "s3://{bucket}/a/b.zip"])
def test_both_forms_of_address_are_opened(s3: S3Server, form: str) -> None:
    """The datalake's https addresses and S3's own lead to the same object."""
    transport = S3Transport(settings_for(s3.url))

    assert fetch(transport, form.format(url=s3.url, bucket=BUCKET)) == CONTENT


def test_requests_are_signed_with_the_session_token(s3: S3Server) -> None:
    """Path style, SigV4, the settings' own credentials and their token."""
    fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip")

    (headers,) = s3.seen
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=key-id/")
    assert headers["X-Amz-Security-Token"] == TOKEN


def test_another_host_is_left_alone_unless_allowed(s3: S3Server) -> None:
    """Credentials are not used towards a host that only an item names."""
    href = f"{s3.url}/{BUCKET}/a/b.zip"
    stranger = S3Transport(settings_for("https://s3.example"))
    friend = S3Transport(settings_for("https://s3.example", allowed_hosts=("127.0.0.1",)))

    with pytest.raises(SourceUnavailableError, match="is not the S3 endpoint"):
        fetch(stranger, href)

    assert not s3.seen
    assert fetch(friend, href) == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "expected", "match"),
    [
        (404, "NoSuchKey", NoObjectError, "no such object"),
        (403, "InvalidObjectState", ArchivedObjectError, "archived"),
        (404, "NoSuchBucket", SourceRefusedError, "no such bucket"),
        (403, "AccessDenied", SourceRefusedError, "access denied"),
        (403, "InvalidAccessKeyId", SourceUnavailableError, "access key id is not known"),
        (403, "SignatureDoesNotMatch", SourceUnavailableError, "does not belong"),
        (400, "ExpiredToken", SourceUnavailableError, "session token has expired"),
        (403, "RequestTimeTooSkewed", SourceUnavailableError, "clock"),
        (400, "SomethingNew", SourceUnavailableError, r"\(SomethingNew\): it's no(\n|$)"),
        (503, "SlowDown", ThrottledError, "wait 7 s"),
        (429, "TooManyRequests", ThrottledError, "wait 7 s"),
        (500, "InternalError", ThrottledError, "wait 7 s"),
        (503, "ServiceUnavailable", ThrottledError, "HTTP 503, not now"),
    ],
)
def test_error_codes(
    s3: S3Server, status: int, code: str, expected: type[GeodesTasksError], match: str
) -> None:
    """Each code has the class whose reaction suits it, and says what it means."""
    s3.go_wrong(status=status, code=code, headers={"Retry-After": "7"})

    with pytest.raises(expected, match=match):
        fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip")

    assert len(s3.seen) <= ATTEMPTS


@pytest.mark.parametrize("named", ["0", "0.01", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_server_that_wants_it_slower_is_not_hammered(named: str) -> None:
    """It names no time, or one that is over: three requests in three seconds, no thousands."""
    body = b"<Error><Code>SlowDown</Code></Error>"
    slow = answer(body, f"Retry-After: {named}", status="503 Slow Down")

    with Scripted(slow) as server, pytest.raises(ThrottledError, match="too many requests"):
        fetch(S3Transport(settings_for(server.url)), f"s3://{BUCKET}/a/b.zip")

    assert len(server.requests) == 3


def test_both_clocks_are_named() -> None:
    """Whoever is to correct a clock sees by how much it is wrong."""
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    skewed = answer(body, "Date: Wed, 21 Oct 2015 07:28:00 GMT", status="403 Forbidden")

    with Scripted(skewed) as server, pytest.raises(SourceUnavailableError, match="clock") as caught:
        fetch(S3Transport(settings_for(server.url)), f"s3://{BUCKET}/a/b.zip")

    assert caught.value.whole
    assert caught.value.problem.endswith(" here, 2015-10-21T07:28:00Z there")


def test_a_missing_object_is_missing_where_nobody_may_list() -> None:
    """The question whether it is a folder is denied: the answer is still that of the object."""
    missing = answer(b"<Error><Code>NoSuchKey</Code></Error>", status="404 Not Found")
    denied = answer(b"<Error><Code>AccessDenied</Code></Error>", status="403 Forbidden")

    with Scripted(missing, denied) as server, pytest.raises(NoObjectError, match="no such object"):
        fetch(S3Transport(settings_for(server.url)), f"s3://{BUCKET}/a/b.zip")

    assert len(server.requests) == 2


PAGE = b"<!DOCTYPE html><html><title>Console</title></html>"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answer(PAGE), "HTTP 200, a message in place"),
        (answer(b"<Error><Code>InternalError</Code></Error>"), "HTTP 200, a message in place"),
        (
            answer(b"II*", "Content-Range: bytes 0-2/9", status="206 Partial Content"),
            "HTTP 206, a part in place",
        ),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_no_object_is_not_saved(
    reply: bytes, problem: str, is_known: bool, tmp_path: Path
) -> None:
    """The console of a server, a message or a part: no file, whatever the catalogue knows of it."""
    known: dict[str, Any] = {} if is_known else {"size_bytes": None, "checksum": None}
    with Scripted(reply) as server:
        hrefs = {"s3": f"s3://{BUCKET}/a.tif"}
        asset = asset_of(b"II*\x00" + CONTENT, "a.tif", hrefs=hrefs, **known)
        transports = {"s3": S3Transport(settings_for(server.url))}
        with pytest.raises(SourceUnavailableError, match=problem):
            transfer.download(asset, tmp_path / "a.tif", transports)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.vrt", "MTD", "a.txt"])
def test_a_text_of_which_nothing_is_known_is_a_file(name: str, tmp_path: Path) -> None:
    """An object has an ETag, which no page and no message has."""
    content = b'{"type": "any text"}'
    hrefs = {"s3": f"s3://{BUCKET}/{name}"}
    asset = asset_of(content, name, hrefs=hrefs, size_bytes=None, checksum=None)
    with Scripted(answer(content, "Content-Type: text/plain", 'ETag: "a"')) as server:
        transports = {"s3": S3Transport(settings_for(server.url))}
        transfer.download(asset, tmp_path / name, transports)

    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (502, "")])
def test_server_errors(s3: S3Server, status: int, code: str) -> None:
    """A server that fails and names no time is tried again by the usual rules."""
    s3.go_wrong(status=status, code=code)

    with pytest.raises(ServerError, match=f"HTTP {status}"):
        fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip")


def test_precondition_failed_without_a_condition_is_an_error(s3: S3Server) -> None:
    """A 412 that cannot be about our validator does not send us round in circles."""
    s3.go_wrong(status=412, code="PreconditionFailed")

    with pytest.raises(SourceUnavailableError, match="HTTP 412"):
        fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip", offset=5, etag='"v"')

    assert len(s3.seen) == 2


def test_a_kept_connection_may_be_gone(s3: S3Server) -> None:
    """A server that hung up between two objects costs one more request, and nobody hears of it."""
    transport = S3Transport(settings_for(s3.url))
    assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT
    s3.hang_up()

    assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "headers", "text"),
    [
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-central-1"}, "eu-central-1"),
        (400, "AuthorizationHeaderMalformed", {"x-amz-bucket-region": "eu-central-1"}, "HTTP 400"),
    ],
)
def test_a_bucket_in_another_region(
    s3: S3Server, status: int, code: str, headers: dict[str, str], text: str
) -> None:
    """S3 names the region of a bucket, and receives one more request, signed for that region."""
    s3.go_wrong(status=status, code=code, headers=headers)

    with pytest.raises(SourceUnavailableError, match=text):
        fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip")

    assert [
        head["Authorization"].partition("Credential=")[2][15:].partition("aws4")[0]
        for head in s3.seen
    ] == ["/us-east-1/s3/", "/eu-central-1/s3/"]


def test_the_region_of_a_bucket_is_remembered(s3: S3Server) -> None:
    """Only the first file of a bucket pays for the request to the wrong region."""
    transport = S3Transport(settings_for(s3.url))
    s3.go_wrong(
        status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "eu-central-1"}
    )
    with pytest.raises(SourceUnavailableError, match="HTTP 301"):
        fetch(transport, f"s3://{BUCKET}/a/b.zip")
    s3.go_wrong()
    s3.seen.clear()

    assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT
    assert "/eu-central-1/s3/" in s3.seen[0]["Authorization"]
    assert len(s3.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["itself", "another host"])
def test_redirects_are_not_followed(s3: S3Server, status: int, where: str) -> None:
    """One request, no circle, and the session token reaches no host that a server names."""
    with Scripted(answer(b"page")) as other:
        target = f"{s3.url if where == 'itself' else other.url}/login?token=canary"
        s3.go_wrong(status=status, code="TemporaryRedirect", headers={"Location": target})
        with pytest.raises(SourceUnavailableError, match=f"HTTP {status}.*redirects to") as caught:
            fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip")

        assert not other.requests
    assert len(s3.seen) == 1
    assert not caught.value.whole
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("host", ["s3.datalake.cnes.fr", "S3.datalake.sis.cnes.fr:443"])
def test_the_datalake_is_where_the_settings_say(s3: S3Server, host: str) -> None:
    """Items name CNES's host, whatever way leads to it from here: a tunnel, a mirror."""
    transport = S3Transport(settings_for(s3.url))

    assert fetch(transport, f"https://{host}/{BUCKET}/a/b.zip") == CONTENT


def test_a_secret_that_no_header_can_hold(s3: S3Server) -> None:
    """A token with a line break, from a command that wraps its output, is not quoted."""
    wrapped = {"AccessKeyId": "key-id", "SecretAccessKey": SECRET, "SessionToken": f"{TOKEN}\nX: 1"}
    transport = S3Transport(settings_for(s3.url, s3_credentials=lambda: wrapped))

    with pytest.raises(SourceUnavailableError, match="cannot be sent") as caught:
        fetch(transport, f"s3://{BUCKET}/a/b.zip")

    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert not s3.seen


def test_a_forked_process_has_connections_of_its_own(s3: S3Server) -> None:
    """Workers may fork after a first file: parent and child do not share a socket."""
    transport = S3Transport(settings_for(s3.url))
    assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT
    child = os.fork()
    if not child:
        os._exit(fetch(transport, f"s3://{BUCKET}/a/b.zip") != CONTENT)

    assert os.waitpid(child, 0)[1] == 0
    assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT


@pytest.mark.parametrize("message", [b"<Error><Code>AccessD", b"<html>", b""])
@pytest.mark.parametrize("close", [True, False])
def test_a_message_that_breaks_off(message: bytes, close: bool) -> None:
    """The status says enough where the words are cut, or never come to their end."""
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5000\r\n\r\n"
    with (
        Scripted(head + message, close=close) as server,
        pytest.raises(SourceUnavailableError, match="access denied"),
    ):
        fetch(S3Transport(settings_for(server.url, stall_seconds=0.2)), f"s3://{BUCKET}/k")


@pytest.mark.parametrize("key", ["a b/ü+&~.zip", "a//b=c?.zip", "a/%41;@:,.zip"])
def test_keys_that_addresses_write_otherwise(s3: S3Server, key: str) -> None:
    """What is asked for is signed as it is sent, whatever the key is made of."""
    s3.put(key, b"of this key")

    assert fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/{key}") == b"of this key"


def test_a_stall_within_a_body(s3: S3Server) -> None:
    """Silence within a body is told after the stall limit, with the byte it began at."""
    s3.go_wrong(stall=123_456)

    with pytest.raises(StalledError, match="silent since byte 123456"):
        fetch(S3Transport(settings_for(s3.url, stall_seconds=2)), f"s3://{BUCKET}/a/b.zip")


def test_a_cut_within_a_resumed_body(s3: S3Server) -> None:
    """Sizes in the message are those of the whole object, from wherever the body started."""
    s3.go_wrong(cut=50_000)

    with pytest.raises(TruncatedBodyError, match="300007 bytes announced, 150000 received"):
        fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip", offset=100_000)


def test_no_answer_is_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that takes the request and says nothing is given up after the stall limit."""
    with Scripted(b"") as silent:
        began = time.monotonic()
        with pytest.raises(StalledError, match="no answer"):
            fetch(S3Transport(settings_for(silent.url, stall_seconds=0.2)), f"s3://{BUCKET}/k")

    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("settings", "limit"), [({}, "0.2"), ({"connect_seconds": 0.4}, "0.4")])
def test_a_connection_has_the_time_that_the_user_set(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, float], limit: str
) -> None:
    """A proxy may need longer; without the setting it is short, and the message has its length."""
    monkeypatch.setattr(signed_requests, "CONNECT_SECONDS", 0.2)
    with Scripted(b"") as silent:
        transport = S3Transport(settings_for(silent.url.replace("http:", "https:"), **settings))
        began = time.monotonic()
        with pytest.raises(SourceUnreachableError, match=rf"no answer within {limit} s"):
            fetch(transport, f"s3://{BUCKET}/k")

    assert float(limit) <= time.monotonic() - began < 3


def test_a_late_answer_is_waited_for(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection has its short limit for itself; an archive that searches may take longer."""
    monkeypatch.setattr(signed_requests, "CONNECT_SECONDS", 0.2)
    s3.go_wrong(latency_s=0.7)

    assert fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip") == CONTENT


# --- the way there ---------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate that nobody vouches for."""
    return make_certificate(tmp_path)


@pytest.mark.parametrize("named_by", ["the settings", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_private_authority_is_trusted_when_named(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    """With its certificate in our settings, or where the AWS tools look for it."""
    named: dict[str, Any] = {"ca_bundle": certificate} if named_by == "the settings" else {}
    if named_by.endswith("_CA_BUNDLE"):
        monkeypatch.setenv(named_by, str(certificate))
    with S3Server(certificate) as server:
        server.put("a/b.zip", CONTENT)
        transport = S3Transport(settings_for(server.url, **named))

        assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT


def test_a_certificate_that_nobody_vouches_for(certificate: Path) -> None:
    """Nothing is sent there, and the error says which setting names others."""
    with S3Server(certificate) as server:
        with pytest.raises(SourceUnavailableError, match="GEODES_TASKS_CA_BUNDLE"):
            fetch(S3Transport(settings_for(server.url)), f"s3://{BUCKET}/a/b.zip")

        assert not server.seen


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The datalake is reached through it by CONNECT; one that refuses leaves it out of reach."""
    with Scripted(answer(status="403 Forbidden"), close=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        settings = settings_for("https://datalake.invalid")
        with pytest.raises(SourceUnavailableError, match="cannot be reached"):
            fetch(S3Transport(settings), f"s3://{BUCKET}/a/b.zip")

    assert proxy.requests[0].startswith("CONNECT datalake.invalid:443")
    assert not [seen for seen in proxy.requests if TOKEN in seen or "key-id" in seen]


def test_through_a_tunnel(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy learns where the datalake is and nothing more; waits end from outside there too."""
    with S3Server(certificate) as server, TunnelProxy() as proxy:
        server.put("a/b.zip", CONTENT)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        transport = S3Transport(settings_for(server.url, ca_bundle=certificate))
        for _ in range(2):
            assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == CONTENT
        assert len(proxy.heads) == 1  # the second went over the connection of the first
        server.go_wrong(silent=True)
        began = time.monotonic()
        threading.Timer(0.3, transport.abort, [threading.get_ident()]).start()
        with pytest.raises(TransferError, match="broken off"):
            fetch(transport, f"s3://{BUCKET}/a/b.zip")

    assert time.monotonic() - began < 3
    assert proxy.heads[0].startswith(f"CONNECT {server.url.removeprefix('https://')} ")
    assert not [head for head in proxy.heads if TOKEN in head or "key-id" in head]


def test_a_proxy_that_speaks_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificate may be that of a private authority too."""

    class Secured(Scripted):
        def _talk(self, connection: socket.socket) -> None:
            with server_context(certificate).wrap_socket(connection, server_side=True) as secured:
                super()._talk(secured)

    with Secured(answer(status="407 Login")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http:", "https:"))
        transport = S3Transport(settings_for("https://localhost:9", ca_bundle=certificate))
        with pytest.raises(SourceUnreachableError, match="Tunnel connection failed: 407 Login"):
            fetch(transport, f"s3://{BUCKET}/a/b.zip")


def test_a_proxy_is_told_whole_addresses_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forwards what it can read; the signature is that of the endpoint."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    with Scripted(head + b"byte") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        transport = S3Transport(settings_for("http://localhost:9"))

        assert fetch(transport, f"s3://{BUCKET}/a/b.zip") == b"byte"

    assert proxy.requests[0].startswith(f"GET http://localhost:9/{BUCKET}/a/b.zip ")
    assert "Credential=" in proxy.requests[0]


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    """S3 is left out with the name of the setting and of the file; nothing is trusted instead."""
    transport = S3Transport(settings_for("https://127.0.0.1:9", ca_bundle=tmp_path / "away.pem"))

    with pytest.raises(SourceUnavailableError, match=r"GEODES_TASKS_CA_BUNDLE.*away\.pem"):
        fetch(transport, f"s3://{BUCKET}/k")


def test_a_host_that_needs_no_proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment excepts is reached directly."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    assert fetch(S3Transport(settings_for(s3.url)), f"s3://{BUCKET}/a/b.zip") == CONTENT


def test_more_endpoints_than_are_kept_open() -> None:
    """Connections to the endpoints that were not used lately close; each can be asked again."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Scripted(answer(CONTENT))) for _ in range(30)]
        transport = S3Transport(settings_for("https://s3.example", allowed_hosts=("127.0.0.1",)))

        for server in [*servers, servers[0]]:
            assert fetch(transport, f"{server.url}/{BUCKET}/k") == CONTENT

        gc.collect()
        is_open = [is_connected(one) for server in servers for one in server.connections]
        assert 1 <= sum(is_open) <= 2 * SERVERS


def is_connected(connection: socket.socket) -> bool:
    """Tell whether the other end of a connection has not closed it."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True


def test_without_credentials(s3: S3Server) -> None:
    """Nobody is asked, and the portal may be tried instead."""
    settings = settings_for(s3.url, aws_access_key_id=None, aws_secret_access_key=None)

    with pytest.raises(SourceUnavailableError, match="no S3 credentials"):
        fetch(S3Transport(settings), f"s3://{BUCKET}/a/b.zip")

    assert not s3.seen
    assert not has_credentials(settings)


def test_credentials_of_the_settings() -> None:
    """Key id and secret in the settings are enough."""
    assert has_credentials(settings_for("https://s3.example", aws_session_token=None))


def test_credentials_of_a_file(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The rest of the AWS chain is honoured: here a profile in the shared file."""
    (tmp_path / "credentials").write_text(
        f"[cnes]\naws_access_key_id = of-the-file\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "cnes")
    settings = settings_for(s3.url, aws_access_key_id=None, aws_secret_access_key=None)
    fetch(S3Transport(settings), f"s3://{BUCKET}/a/b.zip")

    assert has_credentials(settings)
    assert "Credential=of-the-file/" in s3.seen[0]["Authorization"]


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS settings that cannot be read leave S3 out, they do not stop a download."""
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    settings = settings_for("https://s3.example", aws_access_key_id=None)

    assert not has_credentials(settings)
    with pytest.raises(SourceUnavailableError, match="ProfileNotFound"):
        fetch(S3Transport(settings), f"s3://{BUCKET}/a/b.zip")


def test_the_metadata_service_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside EC2 that question costs seconds, so it is not put."""
    with Scripted(answer(b"{}")) as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
        settings = settings_for("https://s3.example", aws_access_key_id=None)

        assert not has_credentials(settings)
        assert not metadata.requests


def test_out_of_reach_is_known_soon() -> None:
    """A datalake that drops packets costs seconds, not minutes; then the portal is tried."""
    # 192.0.2.0/24 leads nowhere (RFC 5737); some networks refuse it at once.
    transport = S3Transport(settings_for("https://192.0.2.1"))
    began = time.monotonic()

    with pytest.raises(SourceUnavailableError, match="cannot be reached"):
        fetch(transport, f"s3://{BUCKET}/k")

    assert time.monotonic() - began < 12


def test_a_wait_is_broken_off_from_outside(s3: S3Server) -> None:
    """A worker that stops wakes a thread that waits within a body."""
    s3.go_wrong(stall=123_456)
    transport = S3Transport(settings_for(s3.url, stall_seconds=20))
    began = time.monotonic()

    with transport.open(f"s3://{BUCKET}/a/b.zip") as body:
        threading.Timer(0.2, transport.abort, [threading.get_ident()]).start()
        with pytest.raises(TransferError, match="broken off at byte 123456"):
            b"".join(body.chunks)

    assert time.monotonic() - began < 5


def test_waiting_for_a_server_that_wants_it_slower_is_broken_off(s3: S3Server) -> None:
    """The pause that SlowDown asks for ends when the worker does, and nobody is asked again."""
    transport = S3Transport(settings_for(s3.url))
    fetch(transport, f"s3://{BUCKET}/a/b.zip")
    s3.go_wrong(status=503, code="SlowDown", headers={"Retry-After": "2.5"})
    began = time.monotonic()
    threading.Timer(0.5, transport.abort, [threading.get_ident()]).start()

    with pytest.raises(TransferError, match="broken off"):
        fetch(transport, f"s3://{BUCKET}/a/b.zip")

    assert time.monotonic() - began < 2
    assert len(s3.seen) == 2


def test_secrets_are_never_told(s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    """No error text, traceback or log line down to DEBUG holds the secret key or the token."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for fault in ({}, {"status": 403, "code": "SignatureDoesNotMatch"}, {"cut": 5}, {"stall": 5}):
        s3.go_wrong(**fault)
        try:
            fetch(S3Transport(settings_for(s3.url, stall_seconds=0.5)), f"s3://{BUCKET}/a/b.zip")
        except GeodesTasksError as error:
            told += [str(error), repr(error), *traceback.format_exception(error)]
    told += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]

    assert len(told) > 20
    assert not [line for line in told if SECRET in line or TOKEN in line]
