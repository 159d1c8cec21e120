"""The picture of a snapshot as HTML, and the choice between notebook, terminal and log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console

from geodes_tasks.model.formatting import escaped, human_bytes, printable
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import COMMANDS, Row, Section, Tone, sections
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.monitoring.terminal import Redrawn, View, view
from geodes_tasks.monitoring.wording import STATE_WORDS, WAIT_WORDS

ROWS, RECORD_ROWS = 12, 50
"""Rows of a section, and of all downloads, shown at most."""
CELL_CHARACTERS = 500
"""Characters of a cell of a table, at most: ids of strangers have any length."""
TONES = {
    State.SUCCESS: Tone.DONE,
    State.STARTED: Tone.MOVES,
    State.RETRY: Tone.WAITS,
    State.FAILURE: Tone.PERSON,
}
STYLE = """<style>
.geodes-tasks table { border-collapse: collapse; width: 100%; margin: 0 0 .8em }
.geodes-tasks td { text-align: left; padding: .1em .8em .1em 0; overflow-wrap: anywhere }
.geodes-tasks .named td + td { white-space: nowrap }
.geodes-tasks h4 { margin: .4em 0 .2em; text-transform: uppercase; font-size: .85em }
.geodes-tasks h4 small { text-transform: none; font-weight: normal }
.geodes-tasks meter { width: 7em }
.geodes-tasks .note td { opacity: .8; padding-left: 1.5em }
.geodes-tasks .done { color: #22883f } .geodes-tasks .moves { color: #2a7ab9 }
.geodes-tasks .waits { color: #96700a } .geodes-tasks .person { color: #d0432f }
@media (max-width: 600px) { .geodes-tasks td { display: inline }
.geodes-tasks .named td { display: inline-block } .geodes-tasks .note td { display: block } }
</style>"""
"""Colours with a contrast of 4.5 to white and of 4 to the dark ground of browsers, #121212."""


def in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this code."""
    # IPython alone proves nothing: its terminal has no kernel, and a plain script may import it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def console() -> Console:
    """Return the console for words to the user: stderr, but plain stdout in a notebook."""
    if in_notebook():
        # rich would draw its own HTML, and a notebook shows stderr on red, as an error.
        return Console(file=sys.stdout, force_jupyter=False, width=100, no_color=True, emoji=False)
    return Console(stderr=True, emoji=False)


def write_line(text: str) -> None:
    """Write one line to the user; what a terminal would obey is escaped."""
    console().print(escaped(text, "\n"), highlight=False, markup=False, soft_wrap=True)


def progress_view(*, quiet: bool = False) -> View:
    """Return the display that fits here: HTML in a notebook, else a picture, lines or nothing."""
    if not quiet and in_notebook():
        cell = Cell()
        return Redrawn(lambda snapshot: cell.draw(picture(snapshot)))
    return view(console(), quiet=quiet)


class Cell:
    """One output of a notebook cell, redrawn in place."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._handle: Any = None

    def draw(self, text: str) -> None:
        """Show HTML in place of what was shown."""
        ipython = import_module("IPython.display")
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(text), display_id=True)
        else:
            self._handle.update(ipython.HTML(text))


def picture(snapshot: Snapshot, task_url: str = "", most: int = ROWS) -> str:
    """Return the picture of a snapshot as HTML.

    Args:
        snapshot: What to draw.
        task_url: Address of a task's page without its id; empty where there is none.
        most: Rows of a section shown at most.
    """
    parts = "".join(_section(one, task_url, most) for one in sections(snapshot))
    return f"<div class='geodes-tasks'>{STYLE}{parts}</div>"


def _section(section: Section, task_url: str, most: int) -> str:
    bars = any(row.share is not None for row in section.rows[:most])
    rows = "".join(_row(row, task_url, bars=bars) for row in section.rows[:most])
    more = len(section.rows) - most
    rest = f"<tr class=note><td colspan=9>and {more} more</td></tr>" if more > 0 else ""
    title = f"<h4>{escape(section.title)} <small>{escape(section.detail)}</small></h4>"
    kind = " class=named" if section.is_named else ""
    return f"{title}<table{kind}>{rows}{rest}</table>"


def _row(row: Row, task_url: str, *, bars: bool) -> str:
    # Ids, names and errors come from the catalogue: each is escaped before it enters the page.
    first, *others = (escape(cell) for cell in row.cells)
    if row.link and task_url:
        first = f"<a href='{escape(task_url + row.link)}'>{first}</a>"
    # <meter> needs no style of ours: it is drawn where a page may not have any.
    # A row without one, of a file of unknown size, leaves its column free.
    bar = [""] if bars and others else []
    if row.share is not None:
        bar = [f"<meter value='{row.share:.3f}'></meter>"]
    # More columns than any section has: a sentence takes the whole line (HTML 4.9.11: clamped).
    span = " colspan=9" if not others else ""
    cells = "".join(f"<td{span}>{cell}</td>" for cell in (first, *bar, *others))
    notes = "".join(f"<tr class=note><td colspan=9>{_note(note)}</td></tr>" for note in row.notes)
    return f"<tr class={row.tone}>{cells}</tr>{notes}"


def _note(note: str) -> str:
    text = escape(note)
    return f"<code>{text}</code>" if note.startswith(COMMANDS) else text


def table(records: Sequence[DownloadRecord], total: int) -> str:
    """Return the first RECORD_ROWS downloads as HTML, and how many of ``total`` are left out."""
    head = "".join(f"<th>{name}</th>" for name in ("item", "file", "size", "state", "why"))
    rows = "".join(map(_record, records[:RECORD_ROWS]))
    # A table of 100,000 rows stops the browser's page; a data frame has them all.
    more = total - min(len(records), RECORD_ROWS)
    rest = f"<p>and {more} more: <code>to_dataframe()</code> has all</p>" if more > 0 else ""
    body = f"<table><tr>{head}</tr>{rows}</table>{rest}"
    return f"<div class='geodes-tasks'>{STYLE}{body}</div>"


def _record(record: DownloadRecord) -> str:
    why = record.error.message if record.error else ""
    if record.reason:
        why = f"{WAIT_WORDS.get(record.reason, record.reason)}: {why}".rstrip(": ")
    state = record.outcome or STATE_WORDS[record.state]
    name = record.path.rpartition("/")[2]
    cells = [record.item_id, name, human_bytes(record.size_bytes), str(state), why]
    written = "".join(f"<td>{escape(printable(cell, CELL_CHARACTERS))}</td>" for cell in cells)
    return f"<tr class={TONES.get(record.state, Tone.PLAIN)}>{written}</tr>"
