"""Where words and progress go: a terminal, a notebook, a log."""

from __future__ import annotations

import sys
import time
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console

from geodes_tasks.progress import Quiet, Speed, summary, view
from geodes_tasks.text import human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.ledger import Running
    from geodes_tasks.progress import View
    from geodes_tasks.results import BatchStatus

REFRESH_S = 0.5
_BAR = (
    "<div style='background:#8883;border-radius:3px;width:16em;height:.8em'>"
    "<div style='background:{colour};border-radius:3px;height:.8em;width:{share:.0f}%'></div></div>"
)


def in_notebook() -> bool:
    """Tell whether somebody reads this in a notebook: a kernel of Jupyter runs the code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def console() -> Console:
    """Give the console for words to the user: stderr, but plain output in a notebook."""
    if in_notebook():
        # rich would draw its own HTML, and a notebook shows stderr as if it were a mistake.
        return Console(file=sys.stdout, force_jupyter=False, width=100, no_color=True)
    return Console(stderr=True)


def say(text: str) -> None:
    """Tell the user something, in one line."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def progress(*, quiet: bool = False) -> View:
    """Choose how to show progress here."""
    if not quiet and in_notebook():
        return Html()
    return view(console(), quiet=quiet)


class Html(Quiet):
    """One output in a notebook, redrawn in place."""

    ROWS = 12
    """Running downloads shown at most."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._speed, self._drawn_at = Speed(), 0.0
        self._handle: Any = None

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw how things stand, now and then, and at the end."""
        now = time.monotonic()
        speed = self._speed.update(status.bytes_done, now)
        if status.unfinished and now - self._drawn_at < REFRESH_S:
            return
        self._drawn_at = now
        self._draw(page(status, running[: self.ROWS], speed))

    def _draw(self, html: str) -> None:
        ipython = import_module("IPython.display")
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(html), display_id=True)
        elif self._handle is not None:
            self._handle.update(ipython.HTML(html))


def page(status: BatchStatus, running: Sequence[Running], bytes_per_s: float) -> str:
    """Write how a batch stands as HTML: a bar for all, one for each running download."""
    left = max(status.bytes_total - status.bytes_done, 0)
    eta = f", {human_seconds(left / bytes_per_s)} left" if left and bytes_per_s else ""
    amount = f"{human_bytes(status.bytes_done)} of {human_bytes(status.bytes_total)}"
    pace = f", {human_bytes(bytes_per_s)}/s{eta}" if status.unfinished else ""
    rows = [_row("<b>all</b>", status.bytes_done, status.bytes_total, amount + pace)]
    for one in running:
        size = human_bytes(one.size_bytes)
        text = f"{human_bytes(one.done_bytes)} of {size}"
        rows.append(_row(escape(one.title), one.done_bytes, one.size_bytes, text))
    return f"<table>{''.join(rows)}</table><p>{escape(summary(status))}</p>"


def _row(name: str, done: int, size: int | None, text: str) -> str:
    share = min(100.0 * done / size, 100.0) if size else (100.0 if done == size else 0.0)
    bar = _BAR.format(colour="#2a9d4a" if share >= 100 else "#2a7ab9", share=share)
    return f"<tr><td style='text-align:left'>{name}</td><td>{bar}</td><td>{escape(text)}</td></tr>"
