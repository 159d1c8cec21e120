"""Times as pygeodes writes them: ``2023-09-23T00:00:00.000000Z``."""

from __future__ import annotations

from datetime import UTC, datetime

DATETIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
READ_FORMATS = (
    DATETIME_FORMAT,
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H",
    "%Y-%m-%d",
)
"""Formats of pygeodes' ``complete_datetime_from_str``, in its order."""


def complete_datetime_from_str(string: str) -> str:
    """Return a date or a shortened time in full: ``2023-09-23`` is its first moment, UTC.

    Raises:
        ValueError: the text has none of the READ_FORMATS.
    """
    # strptime rather than fromisoformat, which also accepts week dates; pygeodes refuses those.
    for one in READ_FORMATS:
        try:
            return datetime_to_str(datetime.strptime(string, one).replace(tzinfo=UTC))
        except ValueError:
            continue
    formats = ", ".join(READ_FORMATS)
    raise ValueError(f"{string!r} is no time; write it in one of these formats: {formats}")


def str_to_datetime(string: str) -> datetime:
    """Return the time that ``datetime_to_str`` wrote: UTC without a zone, as in pygeodes.

    Raises:
        ValueError: the text has not the DATETIME_FORMAT.
    """
    # Scripts compare it with times without a zone, and Python refuses to compare the two kinds.
    return datetime.strptime(string, DATETIME_FORMAT)  # noqa: DTZ007


def datetime_to_str(datetime_obj: datetime) -> str:
    """Return a time as text in UTC; a naive one is taken as UTC, as in pygeodes."""
    aware = datetime_obj if datetime_obj.tzinfo else datetime_obj.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime(DATETIME_FORMAT)
