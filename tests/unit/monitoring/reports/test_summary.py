"""The summary for people: counts, and each class of error once, with what to do about it."""

from __future__ import annotations

import re
from dataclasses import replace

from geodes_tasks.model.results import DownloadRecord, ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.reports import Format, lines
from tests.unit.monitoring.reports.test_reports import GOOD

BROKEN = replace(
    GOOD,
    state=State.FAILURE,
    outcome=None,
    error=ErrorInfo("NotFoundError", "https://x/y: no such file (HTTP 404)", "Search again."),
)
WAITS = replace(
    GOOD,
    state=State.RETRY,
    outcome=None,
    reason="offline",
    due_at="2026-01-01T00:10:00.000+00:00",
    error=ErrorInfo("OfflineError", "on tape", "It starts by itself."),
)


def page(*records: DownloadRecord) -> str:
    """Write the page."""
    return "\n".join(lines(records, Format.MARKDOWN, batch="spring"))


def test_counts() -> None:
    """Everything asked for is in the table, and what is there is counted in bytes."""
    text = page(GOOD, GOOD, BROKEN, WAITS)

    assert "# Downloads of batch spring" in text
    for row in ("| all | 4 |", "| done | 2 |", "| failed | 1 |", "| waiting | 1 |"):
        assert row in text
    assert "(2 downloaded) in /data" in text


def test_each_class_once_with_example_hint_and_command() -> None:
    """Errors are grouped by class, the most frequent first, with the command that asks again."""
    other = replace(BROKEN, error=ErrorInfo("LicenceError", "not accepted", "Accept it."))

    text = page(other, BROKEN, BROKEN, GOOD)

    assert text.index("### 2 x NotFoundError") < text.index("### 1 x LicenceError")
    assert "- Error: no such file (HTTP 404)\n" in text
    assert "- What to do: Search again\n" in text
    assert "- Try again: `geodes-tasks retry spring --class NotFoundError`" in text


def test_the_hint_fits_the_state() -> None:
    """What has failed is not retried by itself, and no hint repeats the command."""
    ill = replace(BROKEN, error=ErrorInfo("ServerError", "HTTP 503", "It is retried by itself."))
    licence = ErrorInfo("LicenceError", "x", "Accept it, then: geodes-tasks retry BATCH")

    text = page(ill, replace(BROKEN, error=licence))

    assert "- What to do: All attempts are used up" in text
    assert "retried by itself." not in text
    assert "- What to do: Accept it\n" in text


def test_folder_times_and_speed() -> None:
    """The page says where the files are, when they came and how fast; wrong times are left out."""
    first = replace(
        GOOD, path="/data/a/x.zip", bytes_transferred=30_000_000,
        started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:00:20+00:00",
    )  # fmt: skip
    last = replace(
        first, path="/data/b/y.zip", started_at="2026-01-01T00:00:10+00:00",
        finished_at="2026-01-01T00:00:40+00:00",
    )  # fmt: skip

    text, wrong = page(first, last), page(replace(first, started_at="yesterday"))

    assert ") in /data\n" in text
    assert re.search(r"- Over the network: 60.0 MB, from \d\d Jan .* \(40 s at 1.5 MB/s\)\n", text)
    assert "- Over the network: 30.0 MB\n" in wrong


def test_refused_at_the_door_is_not_retried() -> None:
    """What has no path cannot be asked for again, and the page does not say it can."""
    text = page(replace(BROKEN, path=""))

    assert "geodes-tasks retry" not in text
    assert "Asking again needs other items" in text


def test_waits_say_until_when() -> None:
    """Waiting downloads are grouped by reason, with the time at which the first goes on."""
    text = page(WAITS, WAITS)

    assert "### 2 x on tape" in text
    assert re.search(r"- Next at: \d\d Jan \d\d:\d0:00 \S+", text)


def test_nothing_in_an_item_becomes_markup() -> None:
    """Names from the catalogue are text, whatever they contain."""
    evil = replace(BROKEN, item_id="<script>x</script>|`rm`\n# H")

    text = page(evil)

    assert "<script>" not in text
    assert "\n# H" not in text
    assert "\\`rm\\`" in text


def test_unverified_files_are_told() -> None:
    """Files that the catalogue has no checksum for are counted."""
    assert "no checksum: 1" in page(replace(GOOD, verified=False))
