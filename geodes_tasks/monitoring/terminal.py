"""The picture of a snapshot in a terminal, and plain lines for a pipe or a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geodes_tasks.model.formatting import escaped, shortened
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.monitoring.picture import COMMANDS, Row, Section, Tone, batch_row, sections
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.monitoring.wording import clock, joined, summary

DRAW_S = 0.5
"""Seconds between two pictures: each one is sent whole, also over ssh."""
LINE_S = 5.0
"""Seconds between two progress lines in a log, at least."""
BAR, LONGEST_BAR, NAME = 6, 40, 16
"""Columns of the shortest and the longest bar, and of a name with its date and tile."""
INDENT, NOTE = 2, 4
"""Columns before a row without columns, and before a note."""
GIVE_WAY = (("files", 3), ("accounts", 0), ("files", 0), ("workers", 0))
"""Sections that lose rows first on a low terminal, each down to a number of rows; 0: all of it."""
STYLES = {
    # The terminal's own yellow and cyan vanish on a light ground. These two have a contrast of
    # more than 3 to white and to black (WCAG 2.2, 1.4.11); green and red are the terminal's own.
    Tone.DONE: "green",
    Tone.MOVES: "turquoise4",
    Tone.WAITS: "dark_goldenrod",
    Tone.PERSON: "red",
    Tone.PLAIN: "",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """Sections as rich draws them, in the width of the terminal."""

    sections: Sequence[Section]
    height: int | None = None
    """Lines available; None: no limit."""
    note: Text = field(default_factory=Text)
    """A last line: the keys, or a question."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        drawn, note = [], console.render_lines(self.note, options) if self.note.plain else []
        for section in self.sections:
            rows = islice(rows_of(section, options.max_width), self.height)
            counted = [(row, len(console.render_lines(row, options))) for row in rows]
            drawn.append(Block(section, counted, len(section.rows) - len(counted)))
        if self.height is not None:
            fit(drawn, self.height - len(note))
        for block in drawn:
            title = escaped(block.section.title.upper())
            detail = f"  {escaped(block.section.detail)}"
            yield Text.assemble((title, "bold"), detail, no_wrap=True, overflow="ellipsis")
            yield from (row for row, _ in block.rows)
            if block.left_out:
                yield Padding(Text(f"and {block.left_out} more"), (0, 0, 0, INDENT))
        if self.note.plain:
            yield self.note


@dataclass(slots=True)
class Block:
    """A section while it is made to fit."""

    section: Section
    rows: list[tuple[RenderableType, int]]
    """The rows that are drawn, each with its number of lines."""
    left_out: int

    @property
    def lines(self) -> int:
        """Return the number of lines with the title and the count of what is left out."""
        return 1 + sum(lines for _, lines in self.rows) + (self.left_out > 0)

    def pop(self) -> None:
        """Leave out the last row that is drawn."""
        self.rows.pop()
        self.left_out += 1


def fit(drawn: list[Block], height: int) -> None:
    """Take rows out until all fit: of the longest section, then of those that matter least."""
    while sum(block.lines for block in drawn) > height and len(drawn) > 1:
        longest = max(drawn, key=lambda block: block.lines * (len(block.rows) > 1))
        least = [
            block
            for title, kept in GIVE_WAY
            for block in drawn
            if block.section.title == title and (len(block.rows) > kept or not kept)
        ]
        # From the end of a section: what matters most stands first, failures before waits, and
        # files that began first before later ones.
        if len(longest.rows) > 1 and (longest.lines > height / 2 or not least):
            longest.pop()
        elif least and least[0].rows:
            least[0].pop()
        else:
            drawn.remove(least[0] if least else drawn[-1])


def rows_of(section: Section, width: int) -> Iterator[RenderableType]:
    """Yield the rows of a section in columns of one width, each with its notes below."""
    columns = [row.cells for row in section.rows if len(row.cells) > 1]
    count = max(map(len, columns), default=1)
    widths = [max((cell_len(c[i]) for c in columns if len(c) > i), default=0) for i in range(count)]
    bar = 0
    if section.is_named:
        # rich would shrink all columns alike, and cut the numbers.
        # What is least missed stands last, and leaves first where the terminal is narrow.
        while count > 2 and NAME + sum(widths[1:count]) + count > width:
            count -= 1
        room = width - sum(widths[1:count]) - count
        widths[0] = min(widths[0], max(room - BAR - 1, NAME))
        bar = min(room - widths[0] - 1, LONGEST_BAR)
    else:
        # The last column takes the rest of the line: only long texts stand there.
        widths[count - 1] = width - sum(widths[: count - 1]) - count - 1
    for row in section.rows:
        lines: list[RenderableType] = []
        if len(row.cells) == 1 or (widths[count - 1] < NAME and not section.is_named):
            # Wrapped, not cut: a sentence has its point at the end.
            text = Text(joined(row.cells, " "), style=STYLES[row.tone])
            lines.append(Padding(text, (0, 0, 0, INDENT)))
        else:
            lines.append(line_of(section, row, widths[:count], bar))
        for note in row.notes:
            style = "bold" if note.startswith(COMMANDS) else "" if bar else "dim"
            lines.append(Padding(Text(note, style=style), (0, 0, 0, NOTE)))
        yield Group(*lines)


def line_of(section: Section, row: Row, widths: list[int], bar: int) -> Table:
    """Return one row in columns, with its bar behind the name."""
    style, line = STYLES[row.tone], Table.grid(padding=(0, 1, 0, 0))
    cells: list[Text | ProgressBar] = []
    for number, width in enumerate(widths):
        text = row.cells[number] if number < len(row.cells) else ""
        is_name = section.is_named and number == 0
        is_count = number == 0 and not section.is_named and text.isdigit()
        right = is_count or (section.is_named and 0 < number < len(widths) - 1)
        # Sentences wrap, names and numbers do not.
        whole = section.is_named or number < len(widths) - 1
        line.add_column(
            width=width, no_wrap=whole, overflow="ellipsis" if whole else "fold",
            justify="right" if right else "left",
        )  # fmt: skip
        cells.append(Text(shortened(text, width) if is_name else text, style=style))
        if is_name and bar >= BAR:
            line.add_column(width=bar)
            cells.append(
                ProgressBar(
                    total=1.0, completed=row.share or 0.0, width=bar,
                    complete_style=style, finished_style=style,
                )
            )  # fmt: skip
    line.add_row(*cells)
    return line


class View:
    """A display of one batch while it runs, a context manager. This one shows nothing."""

    shows_waits = False
    """Whether it shows why downloads wait, so that no line needs to."""

    def __enter__(self) -> Self:
        """Start the display."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display."""

    def show(self, status: BatchStatus, read: Callable[[], Snapshot]) -> None:
        """Draw the batch; ``read`` is called where more than its counts is drawn."""


class Lines(View):
    """A line with its time for each change, for logs and pipes."""

    def __init__(self, console: Console, name: str = "") -> None:
        """Write to this console; ``name`` begins each line."""
        self.console, self.name = console, name
        self._last, self._written_at = "", -LINE_S

    def show(self, status: BatchStatus, read: Callable[[], Snapshot]) -> None:
        """Write a line if something changed and the last line is LINE_S old, and at the end."""
        now = time.monotonic()
        news = f"{summary(status)} {status.bytes_done}"
        if news == self._last or (now - self._written_at < LINE_S and status.unfinished):
            return
        self._last, self._written_at = news, now
        # Read here, not before: most calls write nothing.
        snapshot = read()
        # Its speed is that of the moment, where the counts of the ledger have a mean of the past.
        status = next((one for one in snapshot.batches if one.batch == status.batch), status)
        row = batch_row(snapshot, status)
        _, _, end, size, speed = row.cells
        name = f"{self.name}: " if self.name else ""
        counts = joined([size, speed, end if status.unfinished else ""])
        text = f"{clock(snapshot.at, snapshot.at)} {name}{joined(row.notes)}; {counts}"
        self.console.print(escaped(text), highlight=False, markup=False, soft_wrap=True)


class Redrawn(View):
    """The picture of ``watch``, redrawn in place until the batch is over."""

    shows_waits = True

    def __init__(self, draw: Callable[[Snapshot], object]) -> None:
        """Draw with this function."""
        self._draw, self._drawn_at = draw, -DRAW_S

    def show(self, status: BatchStatus, read: Callable[[], Snapshot]) -> None:
        """Draw the batch if the last picture is DRAW_S old, and at the end."""
        now = time.monotonic()
        if not status.unfinished or now - self._drawn_at >= DRAW_S:
            self._drawn_at = now
            self._draw(read())


class Drawing(Redrawn):
    """The picture in a terminal."""

    def __init__(self, console: Console) -> None:
        """Draw on this console."""
        # Gone at the end: the line with the result says the same.
        self._live = live = Live(console=console, auto_refresh=False, transient=True)
        super().__init__(
            lambda snapshot: live.update(
                Picture([*sections(snapshot)], console.height - 1), refresh=True
            )
        )

    def __enter__(self) -> Self:
        """Start to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the picture."""
        self._live.stop()


def view(console: Console, *, quiet: bool) -> View:
    """Return the display that fits a console: the picture, lines in a log, or nothing."""
    if quiet:
        return View()
    return Drawing(console) if console.is_interactive else Lines(console)
