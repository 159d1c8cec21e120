"""What an HTTP answer that is not the file means: status, headers and first words to an error.

Pure: nothing here reads a socket or a clock. GEODES answers a used-up quota with 403 or with 200
and JSON, a wrong key with redirects that end nowhere or in a login page, a file on tape with 410.
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
    SourceUnavailableError,
    ThrottledError,
    UnexpectedAnswerError,
)

MAX_RETRY_AFTER_S = 900.0
"""Longest wait taken from a server, in seconds. More is either a mistake (some servers send
milliseconds, some the time since 1970) or an hour, and asking again in between is polite still."""
MAX_QUOTA_WAIT_S = 3600.0
"""Longest wait taken from a refusal for the quota, in seconds: GEODES counts downloads an hour."""

_QUOTED = 300
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?\Z")
# 18 digits are an exabyte; Python refuses to read numbers of more than 4300.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"\Z')
_HTML_START = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_JSON_START = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\]])')
# Ends at the next tag, whichever: a page of many titles without an end costs one look each.
_TITLE = re.compile(r"<title[^<>]*>([^<]*)", re.IGNORECASE)
_QUOTA_WORDS = re.compile(r"quota|exceeds", re.IGNORECASE)
_LOGIN_WORDS = re.compile(
    r"log ?in|sign ?in|password|connexion|authenti|mot de passe|keycloak", re.IGNORECASE
)
_HTML_TYPES = {"text/html", "application/xhtml+xml"}
_JSON_TYPES = {"application/json", "application/problem+json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as far as it takes to say what it means."""

    href: str
    """What was asked for, fit to be shown."""
    status: int
    """HTTP status."""
    headers: Mapping[str, str]
    """Headers; names in any case."""
    body: str = ""
    """The first words of the body."""
    key_name: str = ""
    """Which key was sent, fit to be shown."""
    of_portal: bool = True
    """Whether the href is one of the portal."""
    by_portal: bool = True
    """Whether the portal itself gave this last answer, not a host it redirected to."""
    redirected: bool = False
    """Whether a redirect led here."""


def parse_retry_after(
    value: str | None, *, now: datetime, most_s: float = MAX_RETRY_AFTER_S
) -> float | None:
    """Read a ``Retry-After`` header.

    Args:
        value: Seconds or an HTTP date; None when there is no header.
        now: The time to which a date is compared, aware.
        most_s: The longest wait taken from a server, in seconds.

    Returns:
        Seconds from 0 (also for a date that has passed) to ``most_s``; None when there is no
        header or nothing can be made of it.

    Source: RFC 9110 section 10.2.3.
    """
    text = (value or "").strip()
    seconds = float(text) if _NUMBER.match(text) else _seconds_until(text, now)
    return None if seconds is None else min(max(seconds, 0.0), most_s)


def _seconds_until(text: str, now: datetime) -> float | None:
    moment = parse_date(text)
    return None if moment is None else (moment - now).total_seconds()


def parse_date(text: str | None) -> datetime | None:
    """Read an HTTP date as an aware time; None when it is none."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def strong_etag(value: str | None) -> str | None:
    """Give an ETag back when it is a strong one; weak ones do not tell bytes apart."""
    return value if value and _STRONG_ETAG.match(value) else None


def resumed_total(
    headers: Mapping[str, str], length: int | None, offset: int, etag: str | None
) -> int | None:
    """Give the size of the whole object when a 206 proves that it goes on where we stopped.

    Proof is a single range from ``offset`` to the object's last byte, a Content-Length that does
    not contradict it, and the same strong ETag where one is known. Anything else is None: those
    bytes could land in the wrong place or belong to another version of the file.

    Source: RFC 9110 sections 13.1.5 (If-Range), 14.4 (Content-Range), 15.3.7 (206).
    """
    match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    if match is None or media_type(headers).startswith("multipart/"):
        return None
    start, last, total = (int(group) for group in match.groups())
    if (start, last) != (offset, total - 1) or length not in (None, total - offset):
        return None
    return total if etag is None or headers.get("ETag") == etag else None


def media_type(headers: Mapping[str, str]) -> str:
    """Give the media type in lower case, without parameters; empty when there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_message(headers: Mapping[str, str], first: bytes, *, of_portal: bool) -> bool:
    """Tell whether a 200 is a page or a message in the place of the file.

    The portal marks files as attachments, so a JSON or HTML file that is one passes. Hosts other
    than the portal may well serve JSON assets; a page there is still no file.
    """
    if headers.get("Content-Disposition", "").strip().lower().startswith("attachment"):
        return False
    media = media_type(headers)
    if media in _HTML_TYPES or _HTML_START.match(first):
        return True
    return of_portal and (media in _JSON_TYPES or bool(_JSON_START.match(first)))


def failure(answer: Answer, *, now: datetime) -> GeodesTasksError:
    """Give the error that an answer other than the file stands for.

    Args:
        answer: What came.
        now: For ``Retry-After``, aware; the server's own ``Date`` is preferred.
    """
    href, status = answer.href, answer.status
    match status:
        case 200:
            return _message_for_file(answer, now)
        case 401 | 403:
            return _forbidden(answer, now)
        case 202 | 410:
            return OfflineError(href, status)
        case 404:
            return NotFoundError(href, status)
        case 423:
            return LicenceError(href, status)
        case 429:
            return ThrottledError(href, _named_wait(answer, now, MAX_RETRY_AFTER_S))
    if status >= 500:
        return ServerError(href, f"HTTP {status}: {gist(answer.body)}")
    return UnexpectedAnswerError(href, status, gist(answer.body))


def _named_wait(answer: Answer, now: datetime, most_s: float) -> float | None:
    """Return how long the server asks to wait, by its own clock where it shows that."""
    moment = parse_date(answer.headers.get("Date")) or now
    return parse_retry_after(answer.headers.get("Retry-After"), now=moment, most_s=most_s)


def _quota(answer: Answer, now: datetime) -> QuotaError:
    wait_s = _named_wait(answer, now, MAX_QUOTA_WAIT_S)
    return QuotaError(answer.href, gist(answer.body), wait_s or None)


def _message_for_file(answer: Answer, now: datetime) -> GeodesTasksError:
    if answer.of_portal and _is_page(answer):
        # GEODES sends a wrong key round in redirects, or to a page where to log in (GEODES #3.1).
        if answer.redirected or _LOGIN_WORDS.search(answer.body):
            return AuthError(answer.href, answer.key_name, "a login page")
    elif answer.of_portal and _QUOTA_WORDS.search(answer.body):
        return _quota(answer, now)
    return UnexpectedAnswerError(
        answer.href, answer.status, f"a message in place of the file: {gist(answer.body)}"
    )


def _forbidden(answer: Answer, now: datetime) -> GeodesTasksError:
    if answer.of_portal and _QUOTA_WORDS.search(answer.body):
        return _quota(answer, now)
    lost = answer.of_portal and answer.redirected and _is_page(answer)
    if (answer.of_portal and answer.by_portal) or lost:
        return AuthError(answer.href, answer.key_name, f"HTTP {answer.status}")
    # No key went to that host, so its refusal says nothing about the account.
    return SourceUnavailableError(
        "the web", answer.href, f"HTTP {answer.status}: {gist(answer.body)}"
    )


def _is_page(answer: Answer) -> bool:
    return media_type(answer.headers) in _HTML_TYPES or bool(
        _HTML_START.match(answer.body.encode())
    )


def gist(body: str) -> str:
    """Give the point of a body in one short line: a JSON message, a page's title, or its start."""
    text = _json_message(body)
    title = _TITLE.search(body)
    if text is None:
        text = title.group(1) if title else body
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:_QUOTED] or "no words"


def _json_message(body: str) -> str | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else None
