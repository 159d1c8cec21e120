"""How a ``Retry-After`` header is read, whatever a server puts there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from geodes_tasks.transports.http.responses import MAX_RETRY_AFTER_S, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def http_date(seconds: float) -> str:
    """Give the HTTP date so many seconds from now."""
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("5", 5.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        (http_date(30), 30.0),
        (http_date(0), 0.0),
        (http_date(-3600), 0.0),
        ("Sun, 01 Mar 2026 12:00:10 -0000", 10.0),
    ],
)
def test_seconds_and_dates_are_read(value: str, expected: float) -> None:
    """Seconds are taken as they are, a date as the time until then, a past date as no wait."""
    assert parse_retry_after(value, now=NOW) == expected


@pytest.mark.parametrize(
    "value",
    ["901", "5000", "3600", "99999999999", "1767225600000", "9" * 5000, http_date(86400)],
)
def test_long_waits_are_clamped(value: str) -> None:
    """Hours, milliseconds and times since 1970 all end in the longest wait that is taken."""
    assert parse_retry_after(value, now=NOW) == MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    "value",
    [
        None, "", "  ", "soon, perhaps", "-5", "+5", "inf", "nan", "1e3", "٣", "5s", "5 000",
        "Mon, 99 Foo 2026 12:00:00 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "\x00",
    ],
)  # fmt: skip
def test_no_header_and_garbage_are_none(value: str | None) -> None:
    """What cannot be read is no wait at all, and never an error."""
    assert parse_retry_after(value, now=NOW) is None
