"""Batches in a terminal or a log: the full picture of a snapshot, progress bars, plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geodes_tasks.ledger import FailureGroup, Running, Wait
from geodes_tasks.model.formatting import human_bytes, human_seconds, shortened
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.snapshot import Snapshot, Speed
from geodes_tasks.monitoring.wording import (
    account_line,
    amount,
    clock,
    outcomes,
    resumes_at,
    summary,
    time_left,
    without_addresses,
)

BATCH_WIDTH, BAR_WIDTH, NAME_WIDTH = 22, 18, 30
"""Columns of a batch's name, of its bar and of a file's name, for a terminal of 80 columns."""
BATCHES, ROWS, ERRORS = 4, 10, 4
"""Lines of each kind shown at most."""
LINE_S = 5.0
"""Seconds between two progress lines in a log, at least."""
DAY_S = 86_400
"""Seconds of a day: an older time is shown as a date."""
REASON_WORDS: dict[str, str] = {
    Reason.BACKOFF: "after an error",
    Reason.QUOTA: "quota used up",
    Reason.THROTTLED: "the portal asked for patience",
    Reason.AUTH: "the key was refused",
    Reason.OFFLINE: "on tape",
    Reason.DISK: "a worker cannot write",
    Reason.OUTAGE: "its host cannot be reached",
    Reason.PAUSED: "its source is paused",
    Reason.WORKER_LOST: "its worker died",
    Reason.WORKER_STOPPED: "its worker stopped",
}


# --- progress of one batch -----------------------------------------------------------------------


class View(Protocol):
    """A display of one batch while it runs. A context manager."""

    def __enter__(self) -> Self:
        """Start the display."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop the display; the last picture stays."""
        ...

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw the batch and its running downloads."""
        ...


class Quiet:
    """A display that shows nothing."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw nothing."""


class Lines(Quiet):
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        self.console, self.speed = console, Speed()
        self._last, self._written_at = "", 0.0

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:  # noqa: ARG002 - View's
        """Write a line if something changed and the last line is LINE_S old, and at the end."""
        now = time.monotonic()
        speed = self.speed.update(status.bytes_done, now)
        line, news = summary(status), f"{summary(status)} {status.bytes_done}"
        if news == self._last or (now - self._written_at < LINE_S and status.unfinished):
            return
        self._last, self._written_at = news, now
        left = time_left(status, speed) if status.unfinished else ""
        eta = f", {left} left" if left else ""
        total = amount(status.bytes_done, status.bytes_total)
        text = f"{line}; {total}, {human_bytes(speed)}/s{eta}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Bars(Quiet):
    """A bar for the batch and one for each running download."""

    ROWS = 12
    """Number of running downloads shown at most."""

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
        self._rows: dict[str, TaskID] = {}
        self._live = Live(
            Group(self.files, self.total, self.line),
            console=console,
            # Enough for a bar that moves; each drawing is sent whole, also over ssh.
            refresh_per_second=8,
            transient=False,
        )

    def __enter__(self) -> Self:
        """Start to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to draw; the last picture stays on the screen."""
        self._live.stop()

    def show(self, status: BatchStatus, running: Sequence[Running]) -> None:
        """Draw the batch, and the first running downloads."""
        self.total.update(self._all, total=status.bytes_total, completed=status.bytes_done)
        self.line.plain = summary(status)
        shown = {one.download_id: one for one in running[: self.ROWS]}
        for gone in set(self._rows) - set(shown):
            self.files.remove_task(self._rows.pop(gone))
        for identifier, one in shown.items():
            # rich measures the speed of a row itself, so a row lives as long as its download.
            if identifier not in self._rows:
                self._rows[identifier] = self.files.add_task(shortened(one.title), total=None)
            row = self._rows[identifier]
            self.files.update(row, total=one.size_bytes, completed=one.done_bytes)


def view(console: Console, *, quiet: bool) -> View:
    """Return the display that fits a console: bars in a terminal, lines in a log, or nothing."""
    if quiet:
        return Quiet()
    return Bars(console) if console.is_terminal else Lines(console)


# --- picture of a snapshot -----------------------------------------------------------------------


def picture(snapshot: Snapshot, *, height: int | None = None, note: Text | None = None) -> Group:
    """Return the picture of a snapshot for a terminal of 80 columns or more.

    Args:
        snapshot: What to draw.
        height: Lines available; rows of running downloads are left out first. None: no limit.
        note: A last line: the result of the last key, or a question.
    """
    waits, errors = _waits(snapshot), _errors(snapshot.failures)
    # Drawn last but measured first: only rows of running downloads may be left out, for a wait
    # or an error below the edge of the terminal would never be seen.
    rest = [*waits, *errors, *_accounts(snapshot), *([note] if note else [])]
    batches = list(_batches(snapshot))
    room = ROWS if height is None else height - len(rest) - len(batches) - 2
    return Group(*batches, *_running(snapshot, max(min(room, ROWS), 2)), *rest)


def _batches(snapshot: Snapshot) -> Iterator[RenderableType]:
    pairs = list(zip(snapshot.batches, snapshot.batch_speeds, strict=True))
    for status, speed in pairs[:BATCHES]:
        yield _bar(status, speed)
        paused = "PAUSED (by hand), " if status.batch in snapshot.paused else ""
        yield _line(f"  {paused}{summary(status)}{outcomes(status)}")
    if len(pairs) > BATCHES:
        yield Text(f"and {len(pairs) - BATCHES} batches more", style="dim")


def _bar(status: BatchStatus, speed: float) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_column(no_wrap=True, width=BATCH_WIDTH)
    line.add_column(width=BAR_WIDTH)
    line.add_column(no_wrap=True)
    total = amount(status.bytes_done, status.bytes_total)
    pace = f" {human_bytes(speed)}/s" if speed else ""
    left = time_left(status, speed)
    eta = f" {left}" if left else ""
    # rich divides by the total (rich/progress_bar.py), and an empty batch has no bytes.
    size, done = max(status.bytes_total, 1), max(status.bytes_done, 0)
    bar = ProgressBar(total=size, completed=done, width=BAR_WIDTH)
    name = Text(shortened(status.batch, BATCH_WIDTH), style="bold")
    line.add_row(name, bar, Text(f"{total}{pace}{eta}"))
    return line


def _running(snapshot: Snapshot, most: int) -> Iterator[RenderableType]:
    count = len(snapshot.running)
    workers = f"{snapshot.workers} worker{'' if snapshot.workers == 1 else 's'}"
    total = f"{human_bytes(sum(snapshot.speeds))}/s" if count else "nothing"
    yield _heading("running", f"{count} on {workers}, {total}")
    if not snapshot.workers and not snapshot.over:
        yield Text("  no worker is alive: start one with `geodes-tasks worker`", style="red")
    lines = drawn = 0
    for worker, source, members in snapshot.running_groups():
        # A heading without a row below it is of no use.
        if lines + 2 > most:
            break
        speed = human_bytes(sum(speed for _, speed in members))
        yield Text(f"  {worker} from {source or '...'}: {len(members)} at {speed}/s", style="cyan")
        rows = members[: most - lines - 1]
        yield _rows(rows)
        lines, drawn = lines + 1 + len(rows), drawn + len(rows)
    if count > drawn:
        yield Text(f"    and {count - drawn} more", style="dim")


def _rows(rows: Iterable[tuple[Running, float]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=3)
    table.add_column(no_wrap=True, width=NAME_WIDTH)
    for _ in ("share", "speed", "time left"):
        table.add_column(justify="right", no_wrap=True)
    for one, speed in rows:
        size, done = one.size_bytes, one.done_bytes
        share = f"{100 * done / size:.0f} % of {human_bytes(size)}" if size else human_bytes(done)
        left = human_seconds((size - done) / speed) if size and speed else ""
        name = shortened(one.title, NAME_WIDTH)
        table.add_row("", Text(name), share, f"{human_bytes(speed)}/s", left)
    return table


def _waits(snapshot: Snapshot) -> Iterator[RenderableType]:
    if snapshot.waits:
        yield _heading("waiting", str(sum(wait.count for wait in snapshot.waits)))
    for wait in snapshot.waits:
        word = REASON_WORDS.get(wait.reason, wait.reason)
        since = ""
        if wait.since is not None:
            form = "%H:%M" if snapshot.at - wait.since < DAY_S else "%d %b"
            since = f" since {datetime.fromtimestamp(wait.since, UTC):{form}}"
        yield _line(f"  {wait.count:>6}  {wait.reason}: {word}{since}, {_until(wait, snapshot)}")


def _until(wait: Wait, snapshot: Snapshot) -> str:
    """Return when a wait ends, as far as the ledger knows."""
    accounts = snapshot.accounts
    ends = [account.paused_until for account in accounts if account.paused == wait.reason]
    if wait.reason == Reason.QUOTA:
        ends += [account.quota_reopens for account in accounts]
    # The first to end counts: each poll and each reopened window may start some of these.
    known = [end for end in [wait.next_due, *ends] if end is not None]
    if not known:
        by_hand = any(account.paused == wait.reason for account in accounts)
        return "until `geodes-tasks resume`" if by_hand else "for a free place"
    if wait.reason == Reason.OFFLINE:
        return f"asked again {clock(min(known))} (in {human_seconds(min(known) - snapshot.at)})"
    return resumes_at(min(known), snapshot.at)


def _errors(groups: Sequence[FailureGroup]) -> Iterator[RenderableType]:
    if groups:
        yield _heading("errors", f"{sum(one.count for one in groups)}")
    for one in groups[:ERRORS]:
        word, style = ("failed", "red") if one.state is State.FAILURE else ("waits", "yellow")
        problem = without_addresses(one.example.message)
        yield _line(f"  {one.count:>6}  {one.type} ({word}): {problem}", style)
        if one.example.hint:
            yield _line(f"          {one.example.hint}", "dim")
    if len(groups) > ERRORS:
        yield Text(f"  and {len(groups) - ERRORS} classes more: geodes-tasks report", style="dim")


def _accounts(snapshot: Snapshot) -> Iterator[RenderableType]:
    if snapshot.accounts:
        yield _heading("accounts", "")
    for one in snapshot.accounts:
        yield _line(f"  {one.name}: {account_line(one, snapshot.at)}")


def _heading(word: str, detail: str) -> Text:
    return Text.assemble((word, "bold"), f"  {detail}" if detail else "")


def _line(text: str, style: str = "") -> Text:
    """Return text that is cut at the edge of the terminal rather than wrapped."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
