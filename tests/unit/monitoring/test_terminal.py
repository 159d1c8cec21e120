"""The live view: bars for a terminal, lines for a log, nothing when nothing is wanted."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from geodes_tasks.ledger import Running
from geodes_tasks.model.formatting import shortened
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.terminal import Bars, Lines, Quiet, view


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
    )


def running(name: str = "a.zip", done: int = 5) -> Running:
    """Make a download under way."""
    return Running(f"id-{name}", "URN:a", name, 10, done, "w", "geodes")


def console(*, terminal: bool) -> Console:
    """Write to memory."""
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def text_of(console: Console) -> str:
    """Read what was written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_are_written_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets a line for each change, no oftener than every few seconds, and the last one."""
    now = iter([100.0, 101.0, 106.0, 107.0])
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr("geodes_tasks.monitoring.terminal.time", clock)
    out = console(terminal=False)
    view = Lines(out)

    with view:
        view.show(status_of(pending=3), [])
        view.show(status_of(pending=2, started=1), [])
        view.show(status_of(done=500_000, pending=1, started=1, success=1), [])
        view.show(status_of(done=1_000_000, success=3), [])

    first, second, last = text_of(out).splitlines()
    assert first == "0 of 3 done, 3 queued; 0 B of 1.0 MB, 0 B/s"
    assert second.startswith("1 of 3 done, 1 running, 1 queued; 500.0 kB of 1.0 MB, 83.3 kB/s, 6 s")
    assert last.startswith("3 of 3 done; 1.0 MB of 1.0 MB")


def test_a_long_transfer_shows_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single large file says now and then how far it is."""
    now = iter([100.0, 200.0])
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr("geodes_tasks.monitoring.terminal.time", clock)
    out = console(terminal=False)
    view = Lines(out)

    view.show(status_of(done=1, started=1), [])
    view.show(status_of(done=500_000, started=1), [])

    assert len(text_of(out).splitlines()) == 2


def test_bars_show_batch_and_files() -> None:
    """One row a running download, gone with its end, and the batch below."""
    out = console(terminal=True)

    with Bars(out) as bars:
        bars.show(status_of(done=10, started=2), [running("a.zip"), running("b.zip")])
        during = [task.description for task in bars.files.tasks]
        bars.show(status_of(done=20, started=1, success=1), [running("b.zip", 9)])
        after = [(task.description, task.completed) for task in bars.files.tasks]

    assert during == ["a.zip", "b.zip"]
    assert after == [("b.zip", 9)]
    assert "1 of 2 done, 1 running" in text_of(out)


def test_bars_show_a_few_rows_only() -> None:
    """A hundred downloads at once do not fill the screen."""
    bars = Bars(console(terminal=True))

    bars.show(status_of(started=100), [running(f"{number}.zip") for number in range(100)])

    assert len(bars.files.tasks) == Bars.ROWS


def test_both_ends_of_a_long_name_stay() -> None:
    """Product names differ at their ends."""
    short = shortened("S2A_MSIL1C_20260101T000000_N0500_R008_T31TCJ_20260101T010203.zip")

    assert short.startswith("S2A_MSIL1C_202601")
    assert short.endswith("01T010203.zip")
    assert len(short) <= 36
    assert shortened("a.zip") == "a.zip"


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [(True, False, Bars), (False, False, Lines), (True, True, Quiet), (False, True, Quiet)],
)
def test_the_view_fits_where_it_is_shown(terminal: bool, quiet: bool, kind: type) -> None:
    """A terminal gets bars, a pipe gets lines, --no-progress gets nothing."""
    out = console(terminal=terminal)

    chosen = view(out, quiet=quiet)

    assert type(chosen) is kind


def test_quiet_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Quiet writes not a byte to stdout or stderr, where the same calls of Lines do."""
    with Quiet() as quiet:
        quiet.show(status_of(started=1), [running()])
    assert capfd.readouterr() == ("", "")

    with Lines(Console(stderr=True)) as lines:
        lines.show(status_of(started=1), [running()])
    assert capfd.readouterr().err != ""
