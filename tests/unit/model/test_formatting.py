"""How numbers are written for people."""

from __future__ import annotations

import pytest

from geodes_tasks.model.formatting import (
    LONGEST_NAME,
    cell,
    human_bytes,
    human_seconds,
    nearest,
    printable,
    progress_text,
    seconds_of,
    shortened,
)

S2 = "S2A_MSIL1C_20250402T105021_N0511_R051_T31TCJ_20250402T143000"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "unknown size"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (764_200_000, "764.2 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_000_000_000_000, "2.0 TB"),
        (5_000_000_000_000_000, "5000.0 TB"),
    ],
)
def test_bytes_are_written_in_decimal_units(count: int | None, text: str) -> None:
    """As the portal writes them, one digit after the point."""
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.5, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (172799, "47 h 59 min"),
        (547200, "6 days 8 h"),
    ],
)
def test_durations_are_written_in_two_units(seconds: float, text: str) -> None:
    """A wait is read at a glance."""
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("done", "size", "speed", "text"),
    [
        (321_000_000, 764_200_000, 61e6, "42 % of 764.2 MB, 61.0 MB/s, 7 s left"),
        (0, 1000, 0.0, "0 % of 1.0 kB, starting"),
        (1000, None, 10.0, "1.0 kB, 10 B/s"),
        (0, 0, 0.0, "0 B, 0 B/s"),
    ],
)
def test_progress_says_where_a_transfer_is(
    done: int, size: int | None, speed: float, text: str
) -> None:
    """Share, speed and time left, as far as they are known."""
    assert progress_text(done, size, speed) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        (" 15m ", 900.0),
        ("15 min", 900.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    """A number alone is seconds."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "5 weeks", "1h30"])
def test_what_is_no_duration_is_said(text: str) -> None:
    """With an example of what is."""
    with pytest.raises(ValueError, match="15m, 2h or 1d"):
        seconds_of(text)


def test_nearest_names() -> None:
    """The names most like a misspelt one are listed, the best first; none are an empty text."""
    assert nearest("aprl", ["april", "april-2", "may"]) == "april or april-2"
    assert nearest("x", ["april"]) == ""


@pytest.mark.parametrize(("size", "is_found"), [(LONGEST_NAME, True), (LONGEST_NAME + 1, False)])
def test_very_long_names_are_not_compared(size: int, is_found: bool) -> None:
    """Difflib takes quadratic time, and other programs write names into the ledger."""
    assert bool(nearest("a" * size, ["a" * size])) is is_found


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\t=", " @"])
def test_no_cell_begins_a_formula(sign: str) -> None:
    """A spreadsheet runs what begins so; an apostrophe marks a text."""
    assert cell(f"{sign}1+1").startswith("'")


def test_a_cell_keeps_its_lines() -> None:
    """Line breaks are legal in CSV; codes that a terminal obeys are escaped."""
    assert cell("a\nb\r\x1b[2J") == "a\nb\r\\x1b[2J"
    assert cell("S2A") == "S2A"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a.zip", "a.zip"),
        ("a\n\u202eb", "a\\n\\u202eb"),
        ("x" * 121, "x" * 117 + "..."),
        ("\x1b" * 1_000_000, "\\x1b" * 29 + "\\..."),
    ],
)
def test_printable(value: str, text: str) -> None:
    """One line of printable characters, 120 at most, whatever a title contains."""
    found = printable(value)

    assert found == text
    assert found.isprintable()
    assert len(found) <= 120


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        (f"{S2}.zip", 80, f"{S2}.zip"),
        (f"{S2}.zip", len(S2) + 4, f"{S2}.zip"),
        ("unknown.tif", 11, "unknown.tif"),
        (f"{S2}.zip", 28, "S2A..20250402T105021..T31TCJ"),
        (f"{S2}.zip", 16, "20250402..T31TCJ"),
        ("SENTINEL2A_20250402-105021-123_L2A_T31TCJ_C_V3-0.zip", 20, "20250402_L2A_T31TCJ"),
        (f"S2A_T31TCJ_{'x' * 30}.zip", 14, "S2A_T31TCJ.zip"),
        (f"20250402_{'x' * 30}.zip", 8, "202..zip"),
        (f"{'x' * 30}_20250402T1_T31TCJ.zip", 17, "20250402T1_T31TCJ"),
        ("a-name-without-any-part-that-is-known.tar", 20, "a-name-wi..known.tar"),
    ],
)
def test_a_short_name_keeps_date_and_tile(name: str, width: int, shown: str) -> None:
    """What tells two products apart stays; of other names both ends."""
    assert shortened(name, width) == shown
    assert len(shown) <= max(width, len(name))
