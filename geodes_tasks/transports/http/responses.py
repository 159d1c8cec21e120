"""Meaning of HTTP responses: proof that one resumes a file, and the error for one that is no file.

Pure functions: none reads a socket or a clock. GEODES responds to a used-up quota with 403, or with
200 and JSON; to a wrong key with redirects that never end or lead to a login page; and with 410
for a file on tape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from geodes_tasks.errors import (
    AuthError,
    GeodesTasksError,
    LicenceError,
    NotFoundError,
    OfflineError,
    QuotaError,
    ServerError,
    SourceRefusedError,
    SourceUnavailableError,
    ThrottledError,
    UnexpectedAnswerError,
)

MAX_RETRY_AFTER_S = 900.0
"""Longest wait in seconds that a server can impose. A larger number is often a mistake
(some servers send milliseconds, some the time since 1970), and one request in 15 minutes
is polite."""
MAX_QUOTA_WAIT_S = 3600.0
"""Longest wait in seconds after a refusal for the quota: GEODES counts downloads per hour."""

_QUOTED = 300
"""Characters of a response that a message quotes, at most."""
# RFC 9110 section 10.2.3 has whole seconds only; some servers send a fraction.
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?\Z")
# 18 digits are an exabyte. Python raises ValueError for more than 4300 digits
# (sys.set_int_max_str_digits).
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")
# An opaque-tag without the weakness prefix W/ (RFC 9110 section 8.8.3).
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"\Z')
_HTML_START = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
# Stops at any next tag: a page with many unclosed titles would otherwise take quadratic time.
_TITLE = re.compile(r"<title[^<>]*>([^<]*)", re.IGNORECASE)
_QUOTA_WORDS = re.compile(r"quota|exceeds", re.IGNORECASE)
_LOGIN_WORDS = re.compile(
    r"log ?in|sign ?in|password|connexion|authenti|mot de passe|keycloak", re.IGNORECASE
)
_LOGIN_ADDRESS = re.compile(r"/(?:sso|log-?in|auth|idp|cas|saml|oauth2?|realms)\b", re.IGNORECASE)
_HTML_TYPES = {"text/html", "application/xhtml+xml"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Parts of a response that decide its meaning."""

    href: str
    """Requested address, without its query."""
    status: int
    """HTTP status code."""
    headers: Mapping[str, str]
    """Headers; a lookup ignores the case of the name."""
    body: str = ""
    """Start of the body, as text."""
    key_name: str = ""
    """Name of the key that was sent, for messages."""
    of_portal: bool = True
    """True when the href is an address of the portal."""
    by_portal: bool = True
    """True when the response is from the portal, not from a host that it redirected to."""
    redirected: bool = False
    """True when the response came after a redirect."""
    landed: str = ""
    """Address after redirects, without its query; empty without one."""

    @property
    def is_portals(self) -> bool:
        """Return whether the portal was asked and answered: only that concerns the account."""
        return self.of_portal and self.by_portal


def parse_retry_after(
    value: str | None, *, now: datetime, most_s: float = MAX_RETRY_AFTER_S
) -> float | None:
    """Parse a ``Retry-After`` header.

    Args:
        value: Seconds or an HTTP date; None when there is no header.
        now: The time to which a date is compared; aware.
        most_s: Longest wait to return, in seconds.

    Returns:
        Seconds from 0 (also for a date that has passed) to ``most_s``; None when
        the header is absent or invalid.

    Source: RFC 9110 section 10.2.3.
    """
    text = (value or "").strip()
    if _NUMBER.match(text):
        seconds = float(text)
    elif moment := parse_date(text):
        seconds = (moment - now).total_seconds()
    else:
        return None
    return min(max(seconds, 0.0), most_s)


def parse_date(text: str | None) -> datetime | None:
    """Parse an HTTP date into an aware time; None when it is not one."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # An HTTP date is in GMT even when its zone is missing (RFC 9110 section 5.6.7).
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def strong_etag(value: str | None) -> str | None:
    """Return a strong ETag unchanged; None for a weak one or none."""
    # If-Range must not hold a weak validator: equal ones do not prove equal bytes
    # (RFC 9110 sections 8.8.1 and 13.1.5).
    return value if value and _STRONG_ETAG.match(value) else None


def resumed_total(
    headers: Mapping[str, str],
    length: int | None,
    offset: int,
    etag: str | None,
    wanted_bytes: int | None = None,
) -> int | None:
    """Return the size of the whole object in bytes, if a 206 proves that it is the wanted range.

    Proof is a single range of ``wanted_bytes`` from ``offset``, else to the object's last byte, a
    Content-Length that does not contradict it, and the same strong ETag where one is known. The
    result is None for any other response: its bytes could be of another range or version.

    Source: RFC 9110 sections 13.1.5 (If-Range), 14.4 (Content-Range), 15.3.7 (206).
    """
    match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    if match is None or media_type(headers).startswith("multipart/"):
        return None
    start, last, total = (int(group) for group in match.groups())
    end = total if wanted_bytes is None else offset + wanted_bytes
    if (start, last) != (offset, end - 1) or length not in (None, end - offset):
        return None
    return total if etag is None or headers.get("ETag") == etag else None


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type in lower case, without parameters; empty without a header."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def failure(answer: Answer, *, now: datetime) -> GeodesTasksError:
    """Return the error for a response that is not the file.

    Args:
        answer: The response.
        now: Time for ``Retry-After``, aware; the ``Date`` of the server is used when present.
    """
    href, status = answer.href, answer.status
    wait_s = _named_wait(answer, now, MAX_RETRY_AFTER_S)
    match status:
        case 200:
            return _message_for_file(answer, now)
        case 202 | 410:
            return OfflineError(href, status)
        case 404:
            return NotFoundError(href, status, wait_s)
        case 423:
            return LicenceError(href, status)
        case 403 if answer.is_portals and _QUOTA_WORDS.search(answer.body):
            return _quota(answer, now)
    # RFC 9110 10.2.3 has Retry-After with 503 and 3xx, RFC 6585 with 429; front ends send it with
    # any status.
    if status == 429 or wait_s is not None:
        return ThrottledError(href, wait_s, status, answer.by_portal)
    if status in {401, 403}:
        return _forbidden(answer)
    if status >= 500:
        return ServerError(href, f"HTTP {status}: {gist(answer.body)}")
    return UnexpectedAnswerError(href, status, gist(answer.body))


def _named_wait(answer: Answer, now: datetime, most_s: float) -> float | None:
    """Return the seconds of ``Retry-After``, at most ``most_s``; None without the header."""
    # ``Date`` is from the clock that set a date in Retry-After, so the skew cancels out
    # (RFC 9110 section 6.6.1).
    moment = parse_date(answer.headers.get("Date")) or now
    return parse_retry_after(answer.headers.get("Retry-After"), now=moment, most_s=most_s)


def _quota(answer: Answer, now: datetime) -> QuotaError:
    wait_s = _named_wait(answer, now, MAX_QUOTA_WAIT_S)
    return QuotaError(answer.href, gist(answer.body), wait_s or None)


def _message_for_file(answer: Answer, now: datetime) -> GeodesTasksError:
    if answer.of_portal and _is_page(answer):
        # GEODES redirects a wrong key without end, or to a login page (GEODES section 3.1).
        if (answer.redirected and answer.is_portals) or _is_login(answer):
            return AuthError(answer.href, answer.key_name, "a login page")
    elif answer.is_portals and _QUOTA_WORDS.search(answer.body):
        return _quota(answer, now)
    return UnexpectedAnswerError(
        answer.href, answer.status, f"a message in place of the file: {gist(answer.body)}"
    )


def _forbidden(answer: Answer) -> GeodesTasksError:
    is_login = _is_page(answer) and _is_login(answer)
    lost = answer.of_portal and answer.redirected and is_login
    if answer.is_portals or lost:
        return AuthError(answer.href, answer.key_name, f"HTTP {answer.status}")
    # That host did not receive the key, so its refusal is not about the account.
    # A host that the portal redirected to may take the next address that the portal signs.
    kind = SourceUnavailableError if answer.of_portal else SourceRefusedError
    return kind("the web", answer.href, f"HTTP {answer.status}: {gist(answer.body)}")


def _is_login(answer: Answer) -> bool:
    # A page that a script draws has no words; its address tells.
    return bool(_LOGIN_WORDS.search(answer.body) or _LOGIN_ADDRESS.search(answer.landed))


def _is_page(answer: Answer) -> bool:
    return media_type(answer.headers) in _HTML_TYPES or bool(
        _HTML_START.match(answer.body.encode())
    )


def gist(body: str) -> str:
    """Return one short line of a body: the JSON message, the title of the page, or the start."""
    text = _json_message(body)
    title = _TITLE.search(body)
    if text is None:
        text = title.group(1) if title else body
    # Control characters from a server must not reach a terminal or split a log line (CWE-117).
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:_QUOTED] or "no words"


def _json_message(body: str) -> str | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else None
