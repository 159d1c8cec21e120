"""The line that shows a private server while it loads the records of earlier runs."""

from __future__ import annotations

import time

from rich.console import Console
from rich.status import Status

from geodes_tasks.ledger.connection import Loading
from geodes_tasks.model.formatting import human_seconds
from geodes_tasks.monitoring.terminal import LINE_S

LOAD_SHOWN_S = 1.0
"""Seconds after which the loading of a private server's file is shown; most take less."""


class LoadView:
    """Show why nothing moves while a private server loads its file."""

    def __init__(self, console: Console) -> None:
        """Write to this console: one changing line on a terminal, else a line now and then."""
        self._console = console
        self._began: float | None = None
        self._shown_at = -LINE_S
        self._status: Status | None = None

    def __call__(self, loading: Loading | None) -> None:
        """Show the progress; None ends it."""
        now = time.monotonic()
        if loading is None:
            if self._status is not None:
                self._status.stop()
            self._began = self._status = None
            return
        self._began = self._began if self._began is not None else now
        if now - self._began < LOAD_SHOWN_S:
            return
        left = human_seconds(loading.left_s)
        text = f"loading what earlier runs recorded: {loading.percent:.0f} %, {left} left"
        if self._status is not None:
            self._status.update(text)
        elif self._console.is_interactive:
            # rich draws one live display at a time: this one ends before the progress begins.
            self._status = self._console.status(text)
            self._status.start()
        elif now - self._shown_at >= LINE_S:
            self._shown_at = now
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def load_view(console: Console, *, quiet: bool) -> LoadView | None:
    """Return the display of a private server that loads its file; None shows nothing."""
    return None if quiet else LoadView(console)
