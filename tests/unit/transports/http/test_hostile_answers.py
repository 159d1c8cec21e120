"""Answers as no server should give them: a number, nothing, or a named error, and never slowly."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.errors import (
    AuthError,
    GeodesTasksError,
    HrefRefusedError,
    SourceUnavailableError,
    UnexpectedAnswerError,
)
from geodes_tasks.settings import config
from geodes_tasks.stac.paging import Page
from geodes_tasks.transports.http import messages, responses
from geodes_tasks.transports.http.addresses import AddressPolicy, redact
from geodes_tasks.transports.http.availability import FileAvailability, files_in, find_number
from geodes_tasks.transports.http.connections import hide_paths
from geodes_tasks.transports.http.exchange import Reply
from geodes_tasks.transports.http.responses import MAX_RETRY_AFTER_S, Answer
from tests.unit.stac.test_assets import JSON

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PORTAL = "https://geodes-portal.cnes.fr"
POLICY = AddressPolicy(config.load(portal_url=PORTAL, allowed_hosts=("mirror.example",)))

DATES = st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
ZONES = st.integers(-99999, 99999).map(lambda zone: f"Sun, 01 Mar 2026 12:00:00 {zone:+05d}")
DIGITS = st.text("0123456789", min_size=1, max_size=30) | st.just("9" * 5000)
RANGES = st.builds("bytes {}-{}/{}".format, DIGITS, DIGITS, DIGITS | st.just("*"))
BODIES = (
    st.text()
    | JSON.map(json.dumps)
    | st.sampled_from(["<html><title>Sign in</title>", "quota", "[" * 5000, '{"message": "a"}'])
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Retry-After", "Content-Range", "ETag", "Content-Type", "Content-Disposition", "Date"]
    ),
    st.text() | DATES | RANGES | st.sampled_from(["text/html", "application/json", 'W/"a"', '"a"']),
)


@given(st.text() | DIGITS | DATES | ZONES | st.floats().map(str))
def test_any_retry_after_is_a_bounded_wait_or_none(value: str) -> None:
    """No header makes the fleet wait for longer than the bound, backwards, or for ever."""
    wait = responses.parse_retry_after(value, now=NOW)

    assert wait is None or (0 <= wait <= MAX_RETRY_AFTER_S and math.isfinite(wait))


@given(st.text() | RANGES, st.none() | st.integers(0), st.integers(0, 10**20), st.text())
def test_any_content_range_is_the_rest_or_none(
    value: str, length: int | None, offset: int, etag: str
) -> None:
    """Only a range that begins where the part file ends gives a size, which is then larger."""
    total = responses.resumed_total({"Content-Range": value, "ETag": etag}, length, offset, etag)

    # Numbers may begin with zeros: RFC 9110 section 14.4 takes any digits.
    numbers = [int(digits) for digits in re.findall("[0-9]+", value)] if total else []
    assert total is None or (offset < total and numbers == [offset, total - 1, total])


def test_a_range_of_endless_numbers_is_no_range() -> None:
    """Numbers of 5000 digits, which Python refuses to read, resume nothing and break nothing."""
    value = f"bytes 5-{'9' * 5000}/{'9' * 5000}"

    assert responses.resumed_total({"Content-Range": value}, None, 5, None) is None


@given(st.text() | st.text('W/"abc\\', max_size=6))
def test_any_etag_is_strong_and_sendable_or_none(value: str) -> None:
    """What is sent back in If-Range is one quoted word of visible characters."""
    assert responses.strong_etag(value) == (value if _is_strong(value) else None)


def _is_strong(value: str) -> bool:
    quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return quoted and value.count('"') == 2 and all("!" <= letter <= "~" for letter in value)


@given(HEADERS, st.binary() | BODIES.map(str.encode), st.booleans())
def test_any_first_words_are_a_message_or_not(
    headers: dict[str, str], first: bytes, of_portal: bool
) -> None:
    """Telling a page from a file never fails, and an attachment is always a file."""
    said = messages.is_message(headers, first, None, None, of_portal=of_portal)

    attachment = headers.get("Content-Disposition", "").strip().lower().startswith("attachment")
    assert not (said and attachment)


@given(st.integers(100, 999), HEADERS, BODIES, st.booleans(), st.booleans(), st.booleans())
def test_any_answer_has_a_named_meaning(
    status: int, headers: dict[str, str], body: str, of_portal: bool, by: bool, redirected: bool
) -> None:
    """Whatever a server says, it is one of our errors, on one short printable line."""
    answer = Answer(
        "https://h/a", status, headers, body, "the key", of_portal, of_portal and by, redirected
    )

    error = responses.failure(answer, now=NOW)

    assert isinstance(error, GeodesTasksError)
    assert str(error).isprintable()
    assert len(str(error)) < 500
    # No key went to another host, so its refusal must not stop the account.
    assert of_portal or not isinstance(error, AuthError)


@pytest.mark.parametrize("piece", ["<title>", "<title", "<title><title ", "</title>", "<TITLE x>"])
def test_a_page_of_titles_takes_no_time(piece: str) -> None:
    """64 KiB of titles without an end are read in a moment: they took five seconds an answer."""
    begun = time.process_time()

    said = responses.gist(piece * (65536 // len(piece)))

    assert len(said) <= 300
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("page", "gist"),
    [
        ("<html><title>Sign in</title></html>", "Sign in"),
        ('<TITLE lang="fr">Page\n introuvable</TITLE>', "Page introuvable"),
        ("<title>cut off", "cut off"),
        ('{"message": "no such file", "status": 404}', "no such file"),
        ('{"message": {"a": 1}}', '{"message": {"a": 1}}'),
        ('["message"]', '["message"]'),
        ("", "no words"),
    ],
)
def test_the_gist_of_a_page(page: str, gist: str) -> None:
    """A page is quoted by its title, JSON by its message, anything else by its start."""
    assert responses.gist(page) == gist


@pytest.mark.parametrize("start", ["s3://b/", "ftp://h/", "https://h/", "/", "h:"])
def test_no_shown_address_passes_codes_on(start: str) -> None:
    """Hrefs and redirects of strangers are quoted in logs and on terminals."""
    assert redact(f"{start}\x1b]0;owned\x07\u202e?signature").isprintable()


def test_debug_lines_have_no_paths(caplog: pytest.LogCaptureFixture) -> None:
    """The lines of urllib3 stay, without paths and queries: these may be secrets."""
    hide_paths()
    caplog.set_level(logging.DEBUG)

    logging.getLogger("urllib3.connectionpool").debug("%s://%s %s", "https", "host", "/hook/token")
    logging.getLogger("urllib3.connectionpool").debug("Resetting dropped connection")

    assert [record.getMessage() for record in caplog.records] == [
        "https://host /...",
        "Resetting dropped connection",
    ]


# --- addresses ---------------------------------------------------------------------------------

HOSTS = st.sampled_from(
    ["geodes-portal.cnes.fr", "mirror.example", "127.0.0.1", "[::1]", "169.254.169.254", "0x7f.1",
     "geodes-portal.cnes.fr@evil.example", "geodes-portal.cnes.fr.evil.example", "[::1%25x",
     "a:99999"]
)  # fmt: skip
ADDRESSES = st.text() | st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://", "http://", "s3://", "//", "file://", "HTTPS://", ""]),
    HOSTS | st.text(max_size=10),
    st.text(max_size=10) | st.sampled_from(["/a", ":443/a", "?x#y", "\\@evil.example/"]),
)


@given(ADDRESSES, ADDRESSES)
def test_any_address_is_opened_or_refused_in_words(url: str, target: str) -> None:
    """Hrefs and redirects of a stranger pass or are refused; the key goes to the portal alone."""
    with suppress(HrefRefusedError):
        POLICY.check_href(url)
        # Only what was opened itself can redirect.
        POLICY.check_redirect(url, target)
    if POLICY.takes_key(url):
        assert redact(url).lower().startswith(PORTAL)


# --- the catalogue -----------------------------------------------------------------------------


@given(JSON | st.dictionaries(st.sampled_from(["features", "context", "numberMatched"]), JSON))
def test_any_page_of_a_search_is_items(answer: Any) -> None:
    """A page holds the objects among its features, and a count only where there is one."""
    page = Page.of(answer if isinstance(answer, dict) else {"features": answer})

    assert all(isinstance(one, dict) for one in page.items)
    assert page.matched is None or type(page.matched) is int


FILES = st.lists(
    JSON | st.fixed_dictionaries({}, optional={"checksum": JSON | st.text(), "available": JSON})
)
PRODUCTS = st.lists(JSON | st.fixed_dictionaries({}, optional={"files": JSON | FILES}))


@given(st.fixed_dictionaries({}, optional={"products": JSON | PRODUCTS}))
def test_any_availability_is_known_or_unknown(answer: dict[str, Any]) -> None:
    """What the portal says of files on tape is a bool by checksum; the rest is unknown."""
    for _, checksum, state in files_in(answer):
        assert (type(checksum), type(state.online)) == (str, bool)


def test_availability_of_the_good_among_the_bad() -> None:
    """A malformed entry hides no other."""
    files: list[Any] = [None, {"available": True}, {"checksum": "abc", "available": True}, "x"]

    found = list(files_in({"products": [3, {"files": 7}, {"files": files}]}))

    assert [one for one in found if one[1]] == [("", "abc", FileAvailability(online=True))]
    assert list(files_in({})) == []


@given(st.binary() | JSON.map(json.dumps).map(str.encode) | st.just(b"[" * 100_000))
def test_any_quota_answer_is_a_number_or_none(body: bytes) -> None:
    """The answer of the portal to the question for the quota is read or given up."""
    assert type(find_number(Reply(200, {}, body).json(), "remainingQuota")) in {int, type(None)}


PAGE = "<html><head><title>{}</title></head></html>"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, "<Error><Code>QuotaExceeded</Code></Error>", SourceUnavailableError),
        (403, PAGE.format("403 Forbidden"), SourceUnavailableError),
        (403, PAGE.format("Sign in"), AuthError),
        (200, PAGE.format("Maintenance"), UnexpectedAnswerError),
        (200, PAGE.format("Sign in"), AuthError),
        (200, '{"message": "quota of this bucket exceeds"}', UnexpectedAnswerError),
    ],
)
def test_a_host_that_the_portal_redirects_to_says_nothing_of_the_account(
    status: int, body: str, expected: type[Exception]
) -> None:
    """It got no key: only the portal's login page is about the key, wherever it stands."""
    answer = Answer("https://h/a", status, {}, body, "the key", True, False, True)

    error = responses.failure(answer, now=NOW)

    assert type(error) is expected


@pytest.mark.parametrize("status", [200, 401, 403])
@pytest.mark.parametrize("landed", ["https://sso.h/realms/cnes/login", "https://h/auth/start"])
def test_a_login_page_that_a_script_draws_is_known_by_its_address(status: int, landed: str) -> None:
    """A wrong key of the portal ends at a page without a word about it."""
    page = "<html><body><div id='root'></div><script src='main.js'></script></body></html>"
    answer = Answer("https://h/a", status, {}, page, "the key", True, False, True, landed)

    assert type(responses.failure(answer, now=NOW)) is AuthError
