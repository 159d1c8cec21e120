"""Small questions over HTTP: bounded in size and time, without redirects, the key to the portal."""

from __future__ import annotations

import gzip
import time

import pytest

from geodes_tasks.errors import (
    HrefRefusedError,
    StalledError,
    TransferError,
    TruncatedBodyError,
    UnexpectedAnswerError,
)
from geodes_tasks.settings.config import load
from geodes_tasks.transports.http import http_client
from geodes_tasks.transports.http.http_client import HttpClient
from tests.integration.scripted import Scripted, answer
from tests.integration.test_http_transport import Dripping

KEY = "canary-key-0123456789"


def client_for(url: str, **options: bool | str) -> HttpClient:
    """Return a client whose portal is at an address."""
    settings = load(portal_url=url, api_key=KEY, stall_seconds=2, first_byte_seconds=3)
    return HttpClient(settings, **options)  # type: ignore[arg-type] # of two types


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_reply_has_a_most_size(monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    """A reply without an end, and a small one that unpacks to a large one, are not read whole."""
    monkeypatch.setattr(http_client, "MAX_REPLY_BYTES", 100_000)
    body = gzip.compress(bytes(50 << 20)) if coding == "gzip" else bytes(1 << 20)
    page = answer(body, f"Content-Encoding: {coding}")

    with Scripted(page) as server, pytest.raises(UnexpectedAnswerError, match="has no end"):
        client_for(server.url).fetch(server.url + "/api/stac/search")


def test_a_packed_reply_is_unpacked() -> None:
    """Pages of a catalogue may come packed: they are ten times smaller."""
    page = answer(gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")
    with Scripted(page) as server:
        reply = client_for(server.url).fetch(server.url + "/api/stac/search")

    assert reply.json() == {"a": 1}
    assert "accept-encoding: gzip" in server.requests[0].lower()


def test_a_reply_that_drips_has_an_end() -> None:
    """A body that arrives a byte at a time ends with the time limit, not with the server."""
    begun = time.monotonic()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

    with Dripping(head) as server, pytest.raises(StalledError, match="no complete answer"):
        client_for(server.url).fetch(server.url + "/api/stac", seconds=0.5)

    assert time.monotonic() - begun < 3


def test_a_reply_that_is_cut_is_no_reply() -> None:
    """Half an answer is an error, and no shorter answer."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"

    with Scripted(page, close=True) as server, pytest.raises(TruncatedBodyError, match="100 bytes"):
        client_for(server.url).fetch(server.url + "/api/stac")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40_000,
        b"HTTP/1.1 200 OK\r\n"
        + b"".join(b"X-%d: " % n + b"x" * 60_000 + b"\r\n" for n in range(20)),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000,
    ],
    ids=["interim responses", "long headers", "many headers"],
)
def test_a_head_without_an_end_is_not_read(head: bytes) -> None:
    """Neither interim responses nor headers fill the memory, however fast they come."""
    with Scripted(head + answer(b"{}")) as server, pytest.raises(TransferError, match="failed"):
        client_for(server.url).fetch(server.url + "/api/stac")


def test_a_redirect_is_a_reply() -> None:
    """No redirect of a question is followed: it would lead to a login page, or elsewhere."""
    with Scripted(answer(b"", "Location: /login", status="302 Found")) as server:
        reply = client_for(server.url).fetch(server.url + "/api/stac")

    assert (reply.status, reply.json()) == (302, None)
    assert len(server.requests) == 1


def test_who_gets_the_key() -> None:
    """The portal alone, and not with a question that needs no key; a webhook never."""
    with Scripted(answer(b"{}")) as portal, Scripted(answer(b"{}")) as hook:
        client_for(portal.url).fetch(portal.url + "/processing/download/get")
        client_for(portal.url, with_key=False).fetch(portal.url + "/api/stac")
        outside = load(portal_url="https://portal.example", api_key=KEY)
        HttpClient(outside, with_key=False, trusted="127.0.0.1").fetch(hook.url, body=b"{}")
        with pytest.raises(HrefRefusedError, match=r"not the portal|private network"):
            HttpClient(outside).fetch(hook.url)

    assert [KEY in head for head in portal.requests] == [True, False]
    assert KEY not in hook.requests[0]
    assert hook.requests[0].startswith("POST / ")
