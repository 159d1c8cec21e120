"""Answers at the edges of HTTP that would spoil a file or a wait if they were read carelessly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from geodes_tasks.errors import HrefRefusedError, ThrottledError, UnexpectedAnswerError
from tests.integration.scripted import Scripted, answer
from tests.integration.test_http_transport import CONTENT, FILE, fetch, transport_for

HALF = len(CONTENT) // 2
RANGE = f"Content-Range: bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("hours", [-5, 0, 1])
def test_a_date_to_retry_after_is_of_the_servers_clock(hours: int) -> None:
    """A server whose clock is hours off names a date by that clock: the wait is the difference."""
    theirs = datetime.now(UTC) + timedelta(hours=hours)
    reply = answer(
        b"slow down",
        f"Date: {format_datetime(theirs, usegmt=True)}",
        f"Retry-After: {format_datetime(theirs + timedelta(seconds=60), usegmt=True)}",
        status="429 Too Many Requests",
    )

    with Scripted(reply) as server, pytest.raises(ThrottledError, match="many") as caught:
        fetch(transport_for(server.url), server.url + "/file")

    assert caught.value.retry_after_s == pytest.approx(60.0, abs=1.0)


@pytest.mark.parametrize("coding", ["gzip", "br", "x-unknown"])
def test_a_rest_with_another_coding_starts_again_from_byte_0(coding: str) -> None:
    """Encoded bytes are never appended to the bytes of a part file, though the range is right."""
    rest = answer(
        CONTENT[HALF:], RANGE, f"Content-Encoding: {coding}", status="206 Partial Content"
    )

    with (
        Scripted(rest, FILE) as server,
        transport_for(server.url).open(server.url + "/file", offset=HALF) as body,
    ):
        content = b"".join(body.chunks)

    assert (body.offset, content) == (0, CONTENT)


def test_a_rest_without_coding_is_taken() -> None:
    """The control: the same answer without the header continues at the byte asked for."""
    rest = answer(CONTENT[HALF:], RANGE, status="206 Partial Content")

    with (
        Scripted(rest, FILE) as server,
        transport_for(server.url).open(server.url + "/file", offset=HALF) as body,
    ):
        content = b"".join(body.chunks)

    assert (body.offset, content) == (HALF, CONTENT[HALF:])


@pytest.mark.parametrize("media", ["application/json", "application/problem+json"])
def test_a_message_is_known_by_its_media_type(media: str) -> None:
    """JSON with status 200 is no file, also where it begins like none: a string, a number."""
    for body in (b'"temporarily unavailable"', b"17"):
        reply = answer(body, f"Content-Type: {media}")
        with (
            Scripted(reply) as server,
            pytest.raises(UnexpectedAnswerError, match="in place of the file"),
        ):
            fetch(transport_for(server.url), server.url + "/file")


@pytest.mark.parametrize("target", ["http://files.example/x", "https://10.0.0.1/x", "ftp://h/x"])
def test_a_refused_redirect_names_both_addresses(target: str) -> None:
    """The address that is not opened is in no item: the message says where it comes from."""
    with Scripted(answer(b"", f"Location: {target}", status="302 Found")) as server:
        href = server.url + "/file"
        with pytest.raises(HrefRefusedError, match=f"^{href} redirects to .*: "):
            fetch(transport_for(server.url), href)
