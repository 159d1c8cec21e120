"""The command ``watch``: the live view, and the keys that steer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from geodes_tasks.cli.keyboard import keyboard
from geodes_tasks.cli.options import AsJson, BatchNames, OutputDir, open_ledger
from geodes_tasks.cli.output import stderr, write_data, write_line
from geodes_tasks.client import exit_codes
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import GeodesTasksError, LedgerUnavailableError, UnknownBatchError
from geodes_tasks.ledger import Ledger, Withdrawn
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader
from geodes_tasks.monitoring.terminal import Lines, Picture
from geodes_tasks.monitoring.wording import summary

PERIOD_S = 0.5
"""Seconds between two readings of the ledger."""
CONFIRMED = 2
"""Number of batches that a confirmation names at most."""
KEYS = "p pause  r resume  t retry failed  c cancel  e errors  f files  ? help  q quit"
HELP = "y confirms p and c; e, f again: all; q ends the view and leaves everything running"
PAGES = {"e": ("batches", "needs you", "continues by itself"), "f": ("batches", "files")}
"""Key to the titles of the sections that it alone shows."""


def watch(
    batch: BatchNames = None,
    once: Annotated[bool, typer.Option("--once", help="Draw once, then end.")] = False,
    as_json: AsJson = False,
    output_dir: OutputDir = None,
) -> None:
    """Watch batches until they are finished; keys pause, resume, retry and cancel.

    With --json the state of the moment is written, and the command ends.

    Example: geodes-tasks watch april. On a terminal, `?` names the keys.
    """
    with open_ledger(output_dir, batch[0] if batch else None) as found:
        names = chosen(found.ledger, batch or [])
        reader = SnapshotReader(found.ledger, names, folder=found.folder)
        if as_json:
            write_data(reader.read().to_dict())
        elif once:
            Console(emoji=False).print(Picture([*sections(reader.read())]))
        elif stderr.is_interactive:
            finish(live(reader, KeyActions(Steering(found.conf), reader.batches)), reader)
        else:
            finish(in_lines(reader), reader)


def chosen(ledger: Ledger, names: Sequence[str]) -> list[str]:
    """Return the batches that are named, else those not over, else the newest."""
    if names:
        for name in names:
            ledger.reading.status(name)  # an unknown one is an error, not one less
        return list(dict.fromkeys(names))
    known = ledger.reading.batches()
    if not known:
        write_line("no batch in the ledger yet")
        raise typer.Exit(exit_codes.NOTHING)
    return [name for name in known if ledger.reading.status(name).unfinished] or known[:1]


def in_lines(reader: SnapshotReader) -> Snapshot:
    """Write a line a batch now and then, until all are over."""
    views = {name: Lines(Console(stderr=True, emoji=False), name) for name in reader.batches}
    while True:
        snapshot = reader.read()
        for status in snapshot.batches:
            views[status.batch].show(status, lambda: snapshot)  # noqa: B023 - called at once
        if snapshot.over:
            return snapshot
        time.sleep(PERIOD_S)


def live(reader: SnapshotReader, actions: KeyActions) -> Snapshot:
    """Draw until all batches are over or the user quits."""
    # The alternate screen, as less(1) and htop(1) use it: nothing stays above after a resize, and
    # the shell's own lines are back at the end.
    snapshot = reader.read()
    with keyboard() as key, Live(console=stderr, auto_refresh=False, screen=True) as screen:
        while True:
            text, style = actions.note, actions.style
            try:
                snapshot = reader.read()
            except LedgerUnavailableError:
                text, style = "Redis does not answer; the picture is old; trying again", "bold red"
            except UnknownBatchError:  # forgotten while it was watched
                return snapshot
            note = Text(text, style=style)
            drawn = [
                one for one in sections(snapshot) if one.title in (actions.titles or one.title)
            ]
            screen.update(Picture(drawn, stderr.height, note), refresh=True)
            if snapshot.over or actions.press(key(PERIOD_S), snapshot):
                return snapshot


class KeyActions:
    """The actions of the keys on the batches shown. Pause and cancel need a confirming key."""

    def __init__(self, steering: Steering, names: Sequence[str]) -> None:
        """Begin with no action that waits for its confirmation."""
        self.steering, self.names = steering, names
        self.note, self.style = KEYS, "dim"
        self.titles: tuple[str, ...] = ()
        """The sections that are drawn; empty: all."""
        self._confirmed: Callable[[], str] | None = None

    def press(self, key: str, snapshot: Snapshot) -> bool:
        """Run the action of a key. Return whether to end; an error of the action does not."""
        # Those that were forgotten meanwhile are not shown any more.
        self.names = [one.batch for one in snapshot.batches]
        try:
            return bool(key) and self._act(key, snapshot)
        except GeodesTasksError as error:
            self.note = f"{error}; {KEYS}"
            return False

    def _act(self, key: str, snapshot: Snapshot) -> bool:
        if self._confirmed is not None:
            act, self._confirmed = self._confirmed, None
            self.note = act() if key == "y" else f"nothing changed; {KEYS}"
            return False
        actions: dict[str, Callable[[], str]] = {
            "p": lambda: self._await_yes("pause", self._pause, snapshot),
            "r": self._resume,
            "t": self._retry,
            "c": lambda: self._await_yes("cancel", self._cancel, snapshot),
        }
        if key in actions:
            self.note, self.style = actions[key](), "bold"
        if key in PAGES:
            self.titles = () if self.titles == PAGES[key] else PAGES[key]
        if key == "?":
            self.note = HELP if self.note != HELP else KEYS
        return key == "q"

    def _await_yes(self, word: str, act: Callable[[], str], snapshot: Snapshot) -> str:
        """Return the question that the key `y` confirms: verb, batches, owners and counts."""
        self._confirmed = act
        batches = ", ".join(
            f"{one.batch} of {one.owner or 'unknown'} ({plural(one.unfinished, 'download')})"
            for one in snapshot.batches[:CONFIRMED]
        )
        more = len(snapshot.batches) - CONFIRMED
        others = f" and {more} more" if more > 0 else ""
        return f"{word} {batches}{others}? y confirms"

    def _pause(self) -> str:
        for name in self.names:
            self.steering.pause("batch", name)
        return f"{', '.join(self.names)}: paused; {KEYS}"

    def _resume(self) -> str:
        names = [name for name in self.names if self.steering.resume("batch", name)]
        return f"{', '.join(names)}: resumed; {KEYS}" if names else f"no batch was paused; {KEYS}"

    def _retry(self) -> str:
        begun = sum(self.steering.retry(name) for name in self.names)
        return f"{plural(begun, 'failed download')} queued again; {KEYS}"

    def _cancel(self) -> str:
        return f"{sum(map(self.steering.cancel, self.names), Withdrawn())}; {KEYS}"


def finish(snapshot: Snapshot, reader: SnapshotReader) -> NoReturn:
    """Print each batch and its errors, and exit with the first code that is not 0."""
    codes = []
    for status in snapshot.batches:
        write_line(f"{status.batch}: {summary(status)}")
        has_failed = status.states[State.FAILURE] > 0
        failures = reader.ledger.reading.failures(status.batch) if has_failed else []
        codes.append(exit_codes.exit_code(status, failures))
    for section in sections(snapshot):
        if section.title == "needs you":
            Console(stderr=True, emoji=False).print(Picture([section]))
    raise typer.Exit(next((code for code in codes if code), 0))
