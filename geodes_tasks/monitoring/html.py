"""A batch as HTML for a notebook, and the choice between notebook, terminal and log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console

from geodes_tasks.ledger import FailureGroup, Running
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.model.results import BatchStatus, DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.snapshot import Speed
from geodes_tasks.monitoring.terminal import Quiet, View, view
from geodes_tasks.monitoring.wording import amount, outcomes, summary, time_left

REFRESH_S = 0.5
"""Seconds between two pictures: each one is a message to the browser."""
RUNNING_ROWS, RECORD_ROWS = 12, 50
"""Rows of running downloads, and of all downloads, shown at most."""
COLOURS = {
    State.SUCCESS: "#2a9d4a",
    State.STARTED: "#2a7ab9",
    State.RETRY: "#b8860b",
    State.FAILURE: "#c0392b",
}
_BAR = (
    "<div style='background:#8883;border-radius:3px;width:16em;height:.8em'>"
    "<div style='background:{colour};border-radius:3px;height:.8em;width:{share:.0f}%'></div></div>"
)
_LEFT = "style='text-align:left'"


# --- where output goes ---------------------------------------------------------------------------


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
        return Console(file=sys.stdout, force_jupyter=False, width=100, no_color=True)
    return Console(stderr=True)


def write_line(text: str) -> None:
    """Write one line to the user."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def progress_view(*, quiet: bool = False) -> View:
    """Return the display that fits here: HTML in a notebook, else bars, lines or nothing."""
    if not quiet and in_notebook():
        return Html()
    return view(console(), quiet=quiet)


class Html(Quiet):
    """One output of a notebook cell, redrawn in place."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._speed, self._drawn_at = Speed(), 0.0
        self._handle: Any = None

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw the batch if the last picture is REFRESH_S old, and at the end."""
        now = time.monotonic()
        speed = self._speed.update(status.bytes_done, now)
        if status.unfinished and now - self._drawn_at < REFRESH_S:
            return
        self._drawn_at = now
        ipython = import_module("IPython.display")
        drawn = ipython.HTML(bars(status, running, speed))
        if self._handle is None:
            self._handle = ipython.display(drawn, display_id=True)
        else:
            self._handle.update(drawn)


# --- parts of a page -----------------------------------------------------------------------------


def bars(status: BatchStatus, running: Sequence[Running], bytes_per_s: float = 0.0) -> str:
    """Return a batch as HTML: a bar for all, one for each running download, and the counts."""
    left = time_left(status, bytes_per_s)
    eta = f", {left} left" if left else ""
    total = amount(status.bytes_done, status.bytes_total)
    pace = f", {human_bytes(bytes_per_s)}/s{eta}" if status.unfinished and bytes_per_s else ""
    rows = [_bar("<b>all</b>", status.bytes_done, status.bytes_total, total + pace)]
    for one in running[:RUNNING_ROWS]:
        text = amount(one.done_bytes, one.size_bytes)
        rows.append(_bar(escape(one.title), one.done_bytes, one.size_bytes, text))
    words = escape(summary(status) + outcomes(status))
    return f"<table>{''.join(rows)}</table><p>{words}</p>"


def _bar(name: str, done: int, size: int | None, text: str) -> str:
    share = min(100.0 * done / size, 100.0) if size else (100.0 if done == size else 0.0)
    colour = COLOURS[State.SUCCESS if share >= 100 else State.STARTED]
    bar = _BAR.format(colour=colour, share=share)
    return f"<tr><td {_LEFT}>{name}</td><td>{bar}</td><td>{escape(text)}</td></tr>"


def problems(groups: Iterable[FailureGroup]) -> str:
    """Return errors by class as HTML, each with an example and its hint; empty without errors."""
    rows = [
        f"<tr><td>{one.count}</td><td {_LEFT}>{escape(one.type)}"
        f" ({'failed' if one.state is State.FAILURE else 'waits'})</td>"
        f"<td {_LEFT}>{escape(one.example.message)}<br><i>{escape(one.example.hint)}</i></td></tr>"
        for one in groups
    ]
    head = "<tr><th></th><th>error</th><th>for example, and what to do</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""


def table(records: Sequence[DownloadRecord], total: int) -> str:
    """Return the first RECORD_ROWS downloads as HTML, and how many of ``total`` are left out."""
    head = "".join(f"<th>{name}</th>" for name in ("item", "file", "size", "state", "why"))
    rows = "".join(map(_row, records[:RECORD_ROWS]))
    more = total - min(len(records), RECORD_ROWS)
    rest = f"<p>and {more} more: <code>to_dataframe()</code> has all</p>" if more > 0 else ""
    return f"<table><tr>{head}</tr>{rows}</table>{rest}"


def _row(record: DownloadRecord) -> str:
    colour = COLOURS.get(record.state, "inherit")
    why = record.error.message if record.error else ""
    if record.reason:
        why = f"{record.reason}: {why}" if why else record.reason
    state = f"<span style='color:{colour}'>{escape(str(record.outcome or record.state))}</span>"
    name = record.path.rpartition("/")[2]
    # Ids, names and errors come from the catalogue: each is escaped before it enters the page.
    cells = (escape(record.item_id), escape(name), human_bytes(record.size_bytes), state)
    written = "".join(f"<td {_LEFT}>{cell}</td>" for cell in (*cells, escape(why)))
    return f"<tr>{written}</tr>"
