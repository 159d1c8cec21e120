"""The live view of a batch: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from geodes_tasks.model.formatting import human_bytes, human_seconds, shortened
from geodes_tasks.monitoring.batch_text import Speed, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.status import Status

    from geodes_tasks.ledger import Running
    from geodes_tasks.ledger.connection import Loading
    from geodes_tasks.model.results import BatchStatus

LOAD_SHOWN_S = 1.0
"""Seconds after which the loading of a private server's file is shown; most take less."""
LINE_S = 5.0
"""At most so often comes a line, when nobody watches a screen."""


class View(Protocol):
    """Shows a batch while it runs. A context manager."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End."""
        ...

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Show how things stand."""
        ...


class Quiet:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Show nothing."""


class Lines(Quiet):
    """One line now and then, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        self.console, self.speed = console, Speed()
        self._last, self._said_at = "", 0.0

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:  # noqa: ARG002 - View's
        """Write a line when something changed and the last one is old enough."""
        now = time.monotonic()
        speed = self.speed.update(status.bytes_done, now)
        line, news = summary(status), f"{summary(status)} {status.bytes_done}"
        if news == self._last or (now - self._said_at < LINE_S and status.unfinished):
            return
        self._last, self._said_at = news, now
        amount = f"{human_bytes(status.bytes_done)} of {human_bytes(status.bytes_total)}"
        left = status.bytes_total - status.bytes_done
        goes_on = speed and left > 0 and status.unfinished
        eta = f", {human_seconds(left / speed)} left" if goes_on else ""
        text = f"{line}; {amount}, {human_bytes(speed)}/s{eta}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Bars(Quiet):
    """A bar for the batch and one for each running download."""

    ROWS = 12
    """Running downloads shown at most."""

    def __init__(self, console: Console) -> None:
        """Draw on this console."""
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        # Without markup: a file may be called [/b].zip.
        total = TextColumn("{task.description}", style="bold", markup=False)
        name = TextColumn("  {task.description}", markup=False)
        self.total = Progress(total, *columns, console=console)
        self.files = Progress(name, *columns, console=console)
        self.line = Text()
        self._all = self.total.add_task("all", total=None)
        self._rows: dict[str, object] = {}
        self._live = Live(
            Group(self.files, self.total, self.line),
            console=console,
            refresh_per_second=8,
            transient=False,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw how things stand."""
        self.total.update(self._all, total=status.bytes_total, completed=status.bytes_done)
        self.line.plain = summary(status)
        shown = {one.download_id: one for one in running[: self.ROWS]}
        for gone in set(self._rows) - set(shown):
            self.files.remove_task(self._rows.pop(gone))  # type: ignore[arg-type] # an opaque id
        for identifier, one in shown.items():
            if identifier not in self._rows:
                self._rows[identifier] = self.files.add_task(shortened(one.title), total=None)
            self.files.update(
                self._rows[identifier],  # type: ignore[arg-type] # an opaque id
                total=one.size_bytes,
                completed=one.done_bytes,
            )


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
            self._end()
            return
        self._began = self._began if self._began is not None else now
        if now - self._began < LOAD_SHOWN_S:
            return
        left = human_seconds(loading.left_s)
        text = f"loading what earlier runs recorded: {loading.percent:.0f} %, {left} left"
        if self._status is not None:
            self._status.update(text)
        elif self._console.is_terminal:
            self._status = self._console.status(text)
            self._status.start()
        elif now - self._shown_at >= LINE_S:
            self._shown_at = now
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _end(self) -> None:
        if self._status is not None:
            self._status.stop()
        self._began = self._status = None


def load_view(console: Console, *, quiet: bool) -> LoadView | None:
    """Return what shows the loading of a private server; None shows nothing."""
    return None if quiet else LoadView(console)


def view(console: Console, *, quiet: bool) -> View:
    """Choose how to show progress."""
    if quiet:
        return Quiet()
    return Bars(console) if console.is_terminal else Lines(console)
