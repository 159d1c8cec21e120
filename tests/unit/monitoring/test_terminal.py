"""The picture in a terminal of any width and height, lines for a log, and nothing when quiet."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from geodes_tasks.ledger import Running
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import Section, sections
from geodes_tasks.monitoring.snapshot import Pause, Snapshot
from geodes_tasks.monitoring.terminal import STYLES, Drawing, Lines, Picture, View, view
from tests.unit.monitoring.scene import NOW, batch_of, busy_snapshot, failure_of, running

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
    """The numbers of files stand below each other, whatever the names: wide letters count two."""
    snapshot = busy_snapshot()
    wide = running(4, "\u6625\u306e\u753b\u50cf.zip", "celery@node1")
    lines = drawn(replace(snapshot, running=[*snapshot.running, wide]), 120)
    files = [line for line in lines if " of 41.9 MB " in line and "%" in line]

    assert len(files) == 4
    assert len({cell_len(line[: line.index(" of 41.9 MB")]) for line in files}) == 1


@pytest.mark.parametrize("copies", [1, 20])
def test_a_name_of_wide_letters_has_its_columns(copies: int) -> None:
    """Twice as wide as its number of letters, it is whole, or cut where the line is full."""
    name = "\u6625\u306e\u753b\u50cf" * copies
    wide = running(4, f"{name}.zip", "celery@node1")
    lines = drawn(replace(busy_snapshot(), running=[wide]), 60)
    (file,) = (line for line in lines if " of 41.9 MB" in line)

    assert max(map(cell_len, lines)) <= 60
    assert "29 %" in file
    assert (f"{name}.zip" in file) is (copies == 1)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("height", [15, 24, 60])
def test_a_low_terminal_keeps_what_matters_most(width: int, height: int) -> None:
    """Files and accounts give way first; what is left out of a section is counted."""
    lines = drawn(busy_snapshot(), width, height)
    titles = [line.split("  ")[0].strip() for line in lines if line[:2].isupper()]
    every = ["BATCHES", "NEEDS YOU", "CONTINUES BY ITSELF", "WORKERS", "FILES", "ACCOUNTS"]

    there = [one for one in titles if one in every]
    assert there == every[: len(there)]
    assert len(there) >= (6 if height == 60 else 3)
    assert len(lines) <= height
    assert ("--class ServerError" in "".join(lines)) is (height > 15)


def test_many_files_do_not_hide_what_needs_a_person() -> None:
    """With 40 files and 24 lines the failures, some files and the number left out are there."""
    snapshot = busy_snapshot()
    files = [running(number, NAME, "celery@node1") for number in range(40)]

    lines = drawn(replace(snapshot, running=files), 80, 24)

    assert len(lines) == 24
    assert any("--class ServerError" in line for line in lines)
    left_out = int(re.findall(r"and (\d+) more", "".join(lines))[-1])
    assert sum("T31TCJ" in line for line in lines) + left_out == 40


def test_a_sentence_at_the_end_of_a_row_is_wrapped_not_cut() -> None:
    """Since when something waits, and a long message of an error, are there at 60 columns."""
    message = "https://p/x: the portal answered with a page of 2.1 kB in place of the file"
    group = failure_of("UnexpectedAnswerError", 2, message)
    snapshot = replace(busy_snapshot(), failures={"urgent": [group]})

    text = " ".join(" ".join(drawn(snapshot, 60)).split())

    assert "in place of the file" in text
    assert re.search(r"on tape asked again at \S+ \S+ \(in 1 min 52 s\), since", text)
    assert "…" not in text


def test_no_title_passes_codes_on() -> None:
    """A title names an account, which another user of Redis may have written."""
    console = Console(file=io.StringIO(), width=80, emoji=False)

    console.print(Picture([Section("limit of \x9b31mx", "never \x1b]0;own\x07")]))

    text = console.file.getvalue()  # type: ignore[attr-defined] # it is a StringIO
    assert text.replace("\n", "").isprintable()
    assert r"LIMIT OF \x9b31MX" in text


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_colours_are_legible_on_dark_and_on_light_ground(ground: float) -> None:
    """Each colour that the terminal does not choose itself differs enough from its ground."""
    for style in STYLES.values():
        colour = Style.parse(style).color
        if colour is None or (colour.number or 0) < 16:
            continue
        light = luminance(colour.get_truecolor())
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 3.0, style


def luminance(colour: tuple[int, int, int]) -> float:
    """Return the relative luminance of a colour (WCAG 2.2, "relative luminance")."""
    parts = (one / 255 for one in colour)
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_end_expected_and_what_needs_a_person_come_first() -> None:
    """The order is the same in every view: end, person, waits, workers, accounts."""
    text = "\n".join(drawn(busy_snapshot(), 120))
    order = [
        "about ",
        "NEEDS YOU",
        "NotFoundError",
        "CONTINUES BY ITSELF",
        "asked again",
        "WORKERS",
    ]

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
            paused = [Pause("source", "s3", "by hand")] * (status.states[State.SUCCESS] == 1)
            snapshot = Snapshot(1_700_000_000.0, [status], pauses=paused)
            lines.show(status, lambda snapshot=snapshot: snapshot)  # type: ignore[misc]  # bound now

    first, second, last = text_of(out).splitlines()
    assert "PAUSED: source s3, 1 of 3 done" in second
    second = second.replace("PAUSED: source s3, ", "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d \S+ 0 of 3 done, 3 queued; 0 B of 1.0 MB, 0 B/s", first)
    assert "1 of 3 done, 1 running, 1 queued; 500.0 kB of 1.0 MB, 83.3 kB/s" in second
    assert last.endswith("3 of 3 done; 1.0 MB of 1.0 MB")


def test_a_line_has_the_speed_of_the_moment() -> None:
    """The counts of the ledger have a mean of the past, the snapshot knows that nothing moves."""
    out = console(terminal=False)
    status = batch_of("b", {"backoff": 1}, retry=1, bytes_total=9, bytes_per_second=5e6)
    still = Snapshot(NOW, [replace(status, bytes_per_second=0.0)])

    with Lines(out) as lines:
        lines.show(status, lambda: still)

    assert text_of(out).rstrip().endswith("0 B of 9 B, 0 B/s")


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
    [(True, False, Drawing), (False, False, Lines), (True, True, View), (False, True, View)],
)
def test_the_view_fits_where_it_is_shown(terminal: bool, quiet: bool, kind: type) -> None:
    """A terminal gets the picture, a pipe gets lines, --no-progress gets nothing."""
    out = console(terminal=terminal)

    chosen = view(out, quiet=quiet)

    assert type(chosen) is kind


def test_a_dumb_terminal_gets_lines() -> None:
    """Where no picture can be redrawn (TERM=dumb), there are lines as in a log."""
    out = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})

    assert type(view(out, quiet=False)) is Lines


def test_quiet_reads_nothing() -> None:
    """No snapshot is read where nothing is shown."""
    read: list[int] = []

    def reading() -> Snapshot:
        read.append(1)
        return busy_snapshot()

    with View() as nothing:
        nothing.show(status_of(started=1), reading)

    assert read == []


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("height", [10, 15, 24])
def test_the_keys_stay_whole_on_a_low_and_narrow_terminal(width: int, height: int) -> None:
    """The keys, or the question, are the last lines of the live view, wrapped and never cut."""
    out = console(terminal=False, width=width)
    keys = "p pause  r resume  t retry failed  c cancel  e errors  f files  ? help  q quit"

    out.print(Picture([*sections(busy_snapshot())], height, Text(keys)))

    lines = text_of(out).splitlines()
    assert " ".join(lines).split()[-len(keys.split()) :] == keys.split()
    assert lines[0].startswith("BATCHES")
    assert len(lines) <= height


def test_a_narrow_terminal_keeps_the_counts() -> None:
    """Where words and times have no room beside each other, a row is one sentence."""
    text = " ".join(" ".join(drawn(busy_snapshot(), 40)).split())

    assert "3 waiting for the quota next at" in text
    assert "3 NotFoundError: no such file (HTTP 404)" in text


def test_what_moves_stands_first_on_a_low_terminal() -> None:
    """A newer batch that waits does not hide the one that is downloaded."""
    snapshot = busy_snapshot()
    waiting = [batch_of(f"later-{number}", pending=9) for number in range(9)]

    lines = drawn(replace(snapshot, batches=[*waiting, *snapshot.batches]), 80, 15)

    assert lines[1].startswith("urgent ")
