"""A batch as HTML: what a notebook shows of it, live while it runs and as it stands."""

from __future__ import annotations

import sys
import time
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from geodes_tasks.model.formatting import human_bytes, human_seconds
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.batch_text import Speed, outcomes, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geodes_tasks.ledger import FailureGroup, Running
    from geodes_tasks.model.results import BatchStatus, DownloadRecord

REFRESH_S = 0.5
RUNNING_ROWS, RECORD_ROWS = 12, 50
"""So many are shown at most."""
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


def in_notebook() -> bool:
    """Tell whether somebody reads this in a notebook: a kernel of Jupyter runs the code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class Html:
    """One output in a notebook, redrawn in place. A context manager."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._speed, self._drawn_at = Speed(), 0.0
        self._handle: Any = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture."""

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw how things stand, now and then, and at the end."""
        now = time.monotonic()
        speed = self._speed.update(status.bytes_done, now)
        if status.unfinished and now - self._drawn_at < REFRESH_S:
            return
        self._drawn_at = now
        self._draw(bars(status, running, speed))

    def _draw(self, html: str) -> None:
        ipython = import_module("IPython.display")
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(html), display_id=True)
        else:
            self._handle.update(ipython.HTML(html))


# --- parts of a page -----------------------------------------------------------------------------


def bars(status: BatchStatus, running: Sequence[Running], bytes_per_s: float = 0.0) -> str:
    """Write how a batch stands: a bar for all, one for each running download."""
    left = max(status.bytes_total - status.bytes_done, 0)
    eta = f", {human_seconds(left / bytes_per_s)} left" if left and bytes_per_s else ""
    amount = f"{human_bytes(status.bytes_done)} of {human_bytes(status.bytes_total)}"
    pace = f", {human_bytes(bytes_per_s)}/s{eta}" if status.unfinished and bytes_per_s else ""
    rows = [_bar("<b>all</b>", status.bytes_done, status.bytes_total, amount + pace)]
    for one in running[:RUNNING_ROWS]:
        text = f"{human_bytes(one.done_bytes)} of {human_bytes(one.size_bytes)}"
        rows.append(_bar(escape(one.title), one.done_bytes, one.size_bytes, text))
    words = escape(summary(status) + outcomes(status))
    return f"<table>{''.join(rows)}</table><p>{words}</p>"


def _bar(name: str, done: int, size: int | None, text: str) -> str:
    share = min(100.0 * done / size, 100.0) if size else (100.0 if done == size else 0.0)
    colour = COLOURS[State.SUCCESS if share >= 100 else State.STARTED]
    bar = _BAR.format(colour=colour, share=share)
    return f"<tr><td {_LEFT}>{name}</td><td>{bar}</td><td>{escape(text)}</td></tr>"


def problems(groups: Iterable[FailureGroup]) -> str:
    """Write errors by class, each with one example and what to do; nothing where there are none."""
    rows = [
        f"<tr><td>{one.count}</td><td {_LEFT}>{escape(one.type)}"
        f" ({'failed' if one.state is State.FAILURE else 'waits'})</td>"
        f"<td {_LEFT}>{escape(one.example.message)}<br><i>{escape(one.example.hint)}</i></td></tr>"
        for one in groups
    ]
    head = "<tr><th></th><th>error</th><th>for example, and what to do</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""


def table(records: Sequence[DownloadRecord], total: int) -> str:
    """Write a row a download, the first ones of so many."""
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
    cells = (escape(record.item_id), escape(name), human_bytes(record.size_bytes), state)
    written = "".join(f"<td {_LEFT}>{cell}</td>" for cell in (*cells, escape(why)))
    return f"<tr>{written}</tr>"
