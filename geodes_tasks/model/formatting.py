"""Numbers, durations and names as text for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


LONGEST_NAME = 300
"""Characters of a name that is compared with a misspelt one."""
LATEST_S = 253_402_214_400.0
"""Seconds since 1970 of the last day that datetime has in every zone, in the year 9999."""


def instant(seconds: float) -> datetime:
    """Return a time in UTC; one beyond the years of datetime becomes their first or last day."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), LATEST_S), UTC)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun: ``1 file``, ``2,000 files``, ``3 batches``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {nouns or f'{noun}s'}"


def human_bytes(count: float | None) -> str:
    """Return a number of bytes in decimal units: ``764.2 MB``; None is ``unknown size``."""
    if count is None:
        return "unknown size"
    # SI prefixes, powers of 1000, as the pages of the portal write sizes.
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Return a duration in its two largest units: ``7 s``, ``4 min 10 s``, ``6 days 8 h``."""
    whole = int(min(max(seconds, 0.0), LATEST_S) + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


def seconds_of(text: str) -> float:
    """Return the seconds of a duration: ``90``, ``90s``, ``15m``, ``15min``, ``2h`` or ``1d``.

    Raises:
        ValueError: none of these.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no duration; write 90, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def progress_text(done_bytes: int, size_bytes: int | None, bytes_per_s: float) -> str:
    """Return the progress of a transfer: ``42 % of 764.2 MB, 61.0 MB/s, 7 s left``."""
    speed = f"{human_bytes(bytes_per_s)}/s"
    if not size_bytes:
        return f"{human_bytes(done_bytes)}, {speed}"
    share = f"{100 * done_bytes / size_bytes:.0f} % of {human_bytes(size_bytes)}"
    if bytes_per_s <= 0:
        return f"{share}, starting"
    return f"{share}, {speed}, {human_seconds((size_bytes - done_bytes) / bytes_per_s)} left"


def shortened(name: str, width: int = 36) -> str:
    """Return at most ``width`` characters of a file name; date and tile of a product stay longest.

    Example:
        >>> shortened("S2A_MSIL1C_20250402T105021_N0511_R051_T31TCJ_20250402T143000.zip", 32)
        'S2A..20250402T105021..T31TCJ.zip'
    """
    if len(name) <= width:
        return name
    stem, dot, suffix = name.rpartition(".")
    parts = re.split(r"_+", stem or suffix)
    dates = [n for n, part in enumerate(parts) if re.match(r"20\d{6}(\D|\Z)", part)][:1]
    tiles = [n for n, part in enumerate(parts) if re.fullmatch(r"T\d\d[A-Z]{3}", part)][:1]
    if dates and len(_with_gaps(parts, [*dates, *tiles])) > width:
        parts[dates[0]] = parts[dates[0]][:8]
    # The parts that tell products apart come first; each further one only if it fits.
    order, kept = [*dates, *tiles, 0, len(parts) - 1, *range(1, len(parts) - 1)], list[int]()
    for number in dict.fromkeys(order if dates or tiles else ()):
        longer = sorted([*kept, number])
        kept = longer if len(_with_gaps(parts, longer)) <= width else kept
    if len(kept) > 1:
        text, end = _with_gaps(parts, kept), dot + suffix
        return text + end if len(text + end) <= width else text
    head = (width - 2) // 2
    return f"{name[:head]}..{name[len(name) - (width - 2 - head) :]}"


def _with_gaps(parts: list[str], kept: list[int]) -> str:
    """Join the parts of a name that are kept: ``_`` between neighbours, ``..`` over a gap."""
    text, last = parts[kept[0]], kept[0]
    for number in kept[1:]:
        text, last = text + ("_" if number == last + 1 else "..") + parts[number], number
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known names most like a misspelt one, the best first: ``april or april-2``."""
    # difflib takes quadratic time: 30 s for a name of 100 kB that another program wrote.
    short = [one for one in known if len(one) <= LONGEST_NAME]
    return " or ".join(difflib.get_close_matches(name[:LONGEST_NAME], short))


def escaped(text: str, keep: str = "") -> str:
    r"""Return a text whose unprintable characters are escaped (``\n``, ``\u202e``) but some.

    Texts of items, servers and other users of Redis may hold codes that a terminal obeys
    (ECMA-48 section 5.4) or that turn its letters around (UAX #9).
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else repr(c)[1:-1] for c in text)


def cell(text: str) -> str:
    """Return a text as a cell of CSV that no spreadsheet takes for a formula."""
    # An apostrophe marks a text: https://owasp.org/www-community/attacks/CSV_Injection, which
    # names the wide forms of the signs, too.
    is_formula = text.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    return escaped(f"'{text}" if is_formula else text, "\n\r")


def printable(value: str, limit: int = 120) -> str:
    """Return a text fit for one line, of at most so many characters."""
    # Cut first: the title of a hostile item may be a megabyte long.
    text = escaped(value[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."
