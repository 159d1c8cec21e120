"""The live view as a picture: one look, drawn for a terminal of 80 columns or more."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geodes_tasks.model.formatting import human_bytes, human_seconds, shortened
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.account_text import clock, moment, stands
from geodes_tasks.monitoring.batch_text import outcomes, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from geodes_tasks.ledger import FailureGroup, Running, Wait
    from geodes_tasks.model.results import BatchStatus
    from geodes_tasks.monitoring.snapshot import Look

NAME_WIDTH = 30
BATCHES, ROWS, ERRORS = 4, 10, 4
"""So many of each are shown at most."""
# A line is short, and the address is the same for most.
# The whole word each time, so that a text of many addresses takes linear time.
_ADDRESS = re.compile(r"https?://\S+ ?")
WORDS: dict[str, str] = {
    Reason.BACKOFF: "after an error",
    Reason.QUOTA: "quota used up",
    Reason.THROTTLED: "the portal asked for patience",
    Reason.AUTH: "the key was refused",
    Reason.OFFLINE: "on tape",
    Reason.DISK: "a worker cannot write",
    Reason.HELD: "its source is held",
    Reason.WORKER_LOST: "its worker died",
    Reason.WORKER_STOPPED: "its worker stopped",
}


def picture(look: Look, *, height: int | None = None, note: Text | None = None) -> Group:
    """Draw a look.

    Args:
        look: How things stand.
        height: Lines that may be used; rows of running downloads give way first. None: no bound.
        note: What the last key did, or what is being asked.
    """
    rest = [*_waits(look), *_errors(look.failures), *_accounts(look), *([note] if note else [])]
    batches = list(_batches(look))
    room = ROWS if height is None else height - len(rest) - len(batches) - 2
    return Group(*batches, *_running(look, max(min(room, ROWS), 2)), *rest)


# --- batches -------------------------------------------------------------------------------------


def _batches(look: Look) -> Iterator[RenderableType]:
    pairs = list(zip(look.batches, look.batch_speeds, strict=True))
    for status, speed in pairs[:BATCHES]:
        yield _bar(status, speed)
        paused = "PAUSED (by hand), " if status.batch in look.paused else ""
        words = f"  {paused}{summary(status)}{outcomes(status)}"
        yield Text(words, no_wrap=True, overflow="ellipsis")
    if len(pairs) > BATCHES:
        yield Text(f"and {len(pairs) - BATCHES} batches more", style="dim")


def _bar(status: BatchStatus, speed: float) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_column(no_wrap=True, width=22)
    line.add_column(width=18)
    line.add_column(no_wrap=True)
    left = max(status.bytes_total - status.bytes_done, 0)
    amount = f"{human_bytes(status.bytes_done)} of {human_bytes(status.bytes_total)}"
    pace = f" {human_bytes(speed)}/s" if speed else ""
    eta = f" {human_seconds(left / speed)}" if speed and left else ""
    bar = ProgressBar(
        total=max(status.bytes_total, 1), completed=max(status.bytes_done, 0), width=18
    )
    line.add_row(Text(shortened(status.batch, 22), style="bold"), bar, Text(f"{amount}{pace}{eta}"))
    return line


# --- running -------------------------------------------------------------------------------------


def _running(look: Look, most: int) -> Iterator[RenderableType]:
    rows = sorted(
        zip(look.moving, look.speeds, strict=True), key=lambda row: (row[0].worker, row[0].source)
    )
    workers = f"{look.workers} worker{'' if look.workers == 1 else 's'}"
    total = f"{human_bytes(sum(look.speeds))}/s" if rows else "nothing"
    yield _heading("running", f"{len(rows)} on {workers}, {total}")
    if not look.workers and not look.over:
        yield Text("  no worker is alive: start one with `geodes-tasks worker`", style="red")
    shown = 0
    for (worker, source), group in groupby(rows, key=lambda row: (row[0].worker, row[0].source)):
        members = list(group)
        if shown + 2 > most:
            break
        speed = human_bytes(sum(speed for _, speed in members))
        yield Text(f"  {worker} from {source or '...'}: {len(members)} at {speed}/s", style="cyan")
        room = most - shown - 1
        yield _rows(members[:room])
        shown += 1 + min(len(members), room)
    drawn = _drawn(rows, most)
    if len(rows) > drawn:
        yield Text(f"    and {len(rows) - drawn} more", style="dim")


def _drawn(rows: list[tuple[Running, float]], most: int) -> int:
    """Count the downloads that have a row of their own."""
    shown = drawn = 0
    for _, group in groupby(rows, key=lambda row: (row[0].worker, row[0].source)):
        if shown + 2 > most:
            break
        here = min(len(list(group)), most - shown - 1)
        shown, drawn = shown + 1 + here, drawn + here
    return drawn


def _rows(rows: Iterable[tuple[Running, float]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=3)
    table.add_column(no_wrap=True, width=NAME_WIDTH)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for one, speed in rows:
        size, done = one.size_bytes, one.done_bytes
        share = f"{100 * done / size:.0f} % of {human_bytes(size)}" if size else human_bytes(done)
        left = human_seconds((size - done) / speed) if size and speed else ""
        name = shortened(one.title, NAME_WIDTH)
        table.add_row("", Text(name), share, f"{human_bytes(speed)}/s", left)
    return table


# --- waiting, errors, accounts -------------------------------------------------------------------


def _waits(look: Look) -> Iterator[RenderableType]:
    if look.waits:
        yield _heading("waiting", str(sum(wait.count for wait in look.waits)))
    for wait in look.waits:
        word = WORDS.get(wait.reason, wait.reason)
        since = f" since {_day(wait.since, look.at)}" if wait.since is not None else ""
        text = f"  {wait.count:>6}  {wait.reason}: {word}{since}, {_until(wait, look)}"
        yield Text(text, no_wrap=True, overflow="ellipsis")


def _day(when: float, now: float) -> str:
    """Write a time of the last day as a time of day, an older one as a date."""
    return f"{datetime.fromtimestamp(when, UTC):{'%H:%M' if now - when < 86400 else '%d %b'}}"


def _until(wait: Wait, look: Look) -> str:
    """Say when a wait ends, as far as anything tells."""
    ends = [account.paused_until for account in look.accounts if account.paused == wait.reason]
    if wait.reason == Reason.QUOTA:
        ends += [account.quota_reopens for account in look.accounts]
    known = [end for end in [wait.next_due, *ends] if end is not None]
    if not known:
        by_hand = any(account.paused == wait.reason for account in look.accounts)
        return "until `geodes-tasks resume`" if by_hand else "for a free place"
    if wait.reason == Reason.OFFLINE:
        return f"asked again {clock(min(known))} (in {human_seconds(min(known) - look.at)})"
    return moment(min(known), look.at)


def _without_address(message: str) -> str:
    """Remove the addresses that stand before a colon."""
    return _ADDRESS.sub(lambda found: "" if found[0].endswith(": ") else found[0], message)


def _errors(groups: Iterable[FailureGroup]) -> Iterator[RenderableType]:
    found = list(groups)
    if found:
        yield _heading("errors", f"{sum(one.count for one in found)}")
    for one in found[:ERRORS]:
        word, style = ("failed", "red") if one.state is State.FAILURE else ("waits", "yellow")
        problem = _without_address(one.example.message)
        line = f"  {one.count:>6}  {one.type} ({word}): {problem}"
        yield Text(line, style=style, no_wrap=True, overflow="ellipsis")
        if one.example.hint:
            hint = f"          {one.example.hint}"
            yield Text(hint, style="dim", no_wrap=True, overflow="ellipsis")
    if len(found) > ERRORS:
        yield Text(f"  and {len(found) - ERRORS} classes more: geodes-tasks report", style="dim")


def _accounts(look: Look) -> Iterator[RenderableType]:
    if look.accounts:
        yield _heading("accounts", "")
    for one in look.accounts:
        yield Text(f"  {one.name}: {stands(one, look.at)}", no_wrap=True, overflow="ellipsis")


def _heading(word: str, detail: str) -> Text:
    return Text.assemble((word, "bold"), f"  {detail}" if detail else "")
