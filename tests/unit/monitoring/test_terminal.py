"""The picture in a terminal of any width and height, lines for a log, and nothing when quiet."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from geodes_tasks.ledger import Running
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.monitoring.terminal import Drawing, Lines, Picture, Quiet, view
from tests.unit.monitoring.scene import busy_snapshot

NAME = "S2A_MSIL1C_20250402T105021_N0511_R051_T31TCJ_20250402T143000.zip"


def status_of(done: int = 0, waiting: dict[str, int] | None = None, **states: int) -> BatchStatus:
    """Make the counts of a batch of 1 MB."""
    counts = {str(state): states.get(state.name.lower(), 0) for state in State}
    return BatchStatus(
        batch="b",
        total=sum(counts.values()),
        states=counts,
        outcomes={},
        waiting=waiting or {},
        bytes_total=1_000_000,
        bytes_done=done,
        bytes_per_second=83_300.0 if done else 0.0,
    )


def console(*, terminal: bool, width: int = 200, height: int = 60) -> Console:
    """Write to memory."""
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=height)


def text_of(console: Console) -> str:
    """Read what was written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(snapshot: Snapshot, width: int, height: int | None = None) -> list[str]:
    """Return the lines of the picture in a terminal of this size."""
    out = console(terminal=False, width=width)
    out.print(Picture([*sections(snapshot)], height))
    return text_of(out).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_picture_fits_each_width_and_cuts_nothing_that_matters(width: int) -> None:
    """The end, the speed or the counts, each date and tile, and whole commands are there."""
    lines = drawn(busy_snapshot(), width)
    text = "\n".join(lines)
    (batch,) = (line for line in lines if line.startswith("urgent"))
    files = [line for line in lines if "T31TCJ" in line or "T31TDJ" in line]

    assert max(map(len, lines)) <= width
    assert re.search(r"39 % about \d\d:\d\d(:\d\d)? \S+", batch)
    assert "geodes-tasks retry pyrenees-april --class NotFoundError" in text
    assert "4 of 30 done" in text
    assert len(files) == 3
    assert all("20250402" in line for line in files)


def test_columns_are_aligned() -> None:
    """The numbers of files stand below each other, whatever the names."""
    lines = drawn(busy_snapshot(), 120)
    files = [line for line in lines if " of 41.9 MB " in line and "%" in line]

    assert len(files) == 3
    assert len({line.index(" of 41.9 MB") for line in files}) == 1


@pytest.mark.parametrize("height", [15, 24, 60])
def test_a_low_terminal_keeps_a_row_of_each_section(height: int) -> None:
    """Rows are left out and counted; each kind of section stays."""
    lines = drawn(busy_snapshot(), 80, height)
    titles = [line.split("  ")[0].strip() for line in lines if line[:1].isupper()]

    assert titles == [
        "BATCHES", "NEEDS YOU", "CONTINUES BY ITSELF", "WORKERS", "FILES", "ACCOUNTS",
    ]  # fmt: skip
    assert len(lines) <= max(height, 22)
    assert any(re.search(r"and \d more", line) for line in lines) is (height < 60)


def test_the_end_expected_and_what_needs_a_person_come_first() -> None:
    """The order is the same in every view: end, person, waits, workers, accounts."""
    text = "\n".join(drawn(busy_snapshot(), 120))
    order = ["about ", "NEEDS YOU", "NotFoundError", "CONTINUES BY ITSELF", "on tape  ", "WORKERS"]

    positions = [text.index(word) for word in order]
    assert positions == sorted(positions)


def test_lines_are_written_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets a line with its time for each change, no oftener than every few seconds."""
    now = iter([100.0, 101.0, 106.0, 107.0, 120.0])
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr("geodes_tasks.monitoring.terminal.time", clock)
    out = console(terminal=False)
    lines = Lines(out)

    with lines:
        for status in (
            status_of(pending=3),
            status_of(pending=2, started=1),
            status_of(done=500_000, pending=1, started=1, success=1),
            status_of(done=1_000_000, success=3),
            status_of(done=1_000_000, success=3),
        ):
            lines.show(status, lambda status=status: Snapshot(1_700_000_000.0, [status]))  # type: ignore[misc]  # bound now

    first, second, last = text_of(out).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d \S+ 0 of 3 done, 3 queued; 0 B of 1.0 MB, 0 B/s", first)
    assert "1 of 3 done, 1 running, 1 queued; 500.0 kB of 1.0 MB, 83.3 kB/s" in second
    assert last.endswith("3 of 3 done; 1.0 MB of 1.0 MB")


def test_a_drawing_is_gone_at_the_end() -> None:
    """While it runs the picture is on the screen; at the end only the caller's line stays."""
    out = console(terminal=True)
    status, running = status_of(done=10, started=2), [Running("id", "i", NAME, 10, 5, "w", "s3")]

    with Drawing(out) as drawing:
        drawing.show(status, lambda: Snapshot(0.0, [status], running=running))
        during = text_of(out)
    ended = text_of(out)[len(during) :]

    assert "2 running" in during
    assert NAME in during
    assert "\x1b[2K" in ended


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [(True, False, Drawing), (False, False, Lines), (True, True, Quiet), (False, True, Quiet)],
)
def test_the_view_fits_where_it_is_shown(terminal: bool, quiet: bool, kind: type) -> None:
    """A terminal gets the picture, a pipe gets lines, --no-progress gets nothing."""
    out = console(terminal=terminal)

    chosen = view(out, quiet=quiet)

    assert type(chosen) is kind


def test_quiet_reads_nothing() -> None:
    """No snapshot is read where nothing is shown."""
    read: list[int] = []

    def reading() -> Snapshot:
        read.append(1)
        return busy_snapshot()

    with Quiet() as quiet:
        quiet.show(status_of(started=1), reading)

    assert read == []


def test_the_keys_stay_on_a_low_terminal() -> None:
    """The last line of the live view is there, whatever the sections need."""
    out = console(terminal=False, width=80)
    note = Text("p pause  q quit")

    out.print(Picture([*sections(busy_snapshot())], 24, note))

    lines = text_of(out).splitlines()
    assert lines[-1] == "p pause  q quit"
    assert len(lines) <= 24
