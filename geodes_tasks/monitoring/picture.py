"""The picture of a snapshot: sections of rows, the same words and order in every view.

First each batch with its end, then what needs a person, then what continues by itself, then workers
with their files, then accounts. ``terminal`` and ``html`` only draw it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from geodes_tasks.errors import Reaction, for_reader, in_folder, reaction_of
from geodes_tasks.ledger import AccountState, FailureGroup, Running, Wait
from geodes_tasks.model.formatting import human_bytes, human_seconds, plural, printable
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.snapshot import SilentWorker, Snapshot, retry_command
from geodes_tasks.monitoring.wording import (
    WAIT_WORDS,
    clock,
    joined,
    summary,
    until,
    without_addresses,
)

_COMMAND = re.compile(r",? ?then(?: run)?: (?:geodes-tasks re|batch.re)[^.]*\.?| ?\(on one [^)]*\)")
"""The command in a hint: the picture has its own, with the name of the batch."""

MOST_CHARACTERS = 8192
"""Characters of a cell or a note, at most: paths have 4,095 bytes, rubbish may have more."""
COMMANDS = "geodes-tasks ", "geodes_tasks."
"""How a note begins that is a command or a call, which views show in another type."""


class Tone(StrEnum):
    """The meaning of a row, and so its colour."""

    DONE = "done"
    MOVES = "moves"
    WAITS = "waits"
    PERSON = "person"
    """Nothing happens before a user acts."""
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a section."""

    cells: tuple[str, ...]
    """The first one is the name or the number, the last one may be long."""
    tone: Tone = Tone.PLAIN
    share: float | None = None
    """The part that is done, 0 to 1, for a bar behind the first cell; None draws none."""
    notes: tuple[str, ...] = ()
    """Lines below: the counts, the hint, the command."""
    link: str = ""
    """Id of the task, for a page that can link to it."""

    def __post_init__(self) -> None:
        """Escape what a terminal would obey: every text of a view passes here."""
        object.__setattr__(
            self, "cells", tuple(printable(cell, MOST_CHARACTERS) for cell in self.cells)
        )
        # A command that no call in Python replaces is shown there too.
        notes = tuple(
            printable(for_reader(note) or note, MOST_CHARACTERS)
            for note in (note[: MOST_CHARACTERS + 1] for note in self.notes)
        )
        object.__setattr__(self, "notes", notes)


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind below a title."""

    title: str
    detail: str = ""
    rows: tuple[Row, ...] = ()
    is_named: bool = False
    """Whether the first cells are names, which give way where the line is short."""


def sections(snapshot: Snapshot) -> Iterator[Section]:
    """Yield the sections of a snapshot, without those that are empty."""
    # Those that move stand first: a low terminal has no room for all.
    batches = sorted(snapshot.batches, key=lambda one: one.bytes_per_second < 1)
    rows = tuple(batch_row(snapshot, status) for status in batches)
    now = clock(snapshot.at, snapshot.at)
    yield Section("batches", now, rows or (Row(("no batch in the ledger yet",)),), is_named=True)
    if person := tuple(needs_a_person(snapshot)):
        yield Section("needs you", rows=person)
    # What a user must resume does not continue by itself, nor does anything without a worker.
    free = [one for one in snapshot.batches if not (snapshot.standstill or snapshot.is_held(one))]
    reasons = {name for one in free for name in one.waiting} - {Reason.AUTH, Reason.PAUSED}
    if waits := [one for one in snapshot.waits if one.reason in reasons]:
        rows = tuple(wait_row(snapshot, one) for one in waits)
        yield Section("continues by itself", rows=rows)
    yield from worker_sections(snapshot)
    if snapshot.accounts:
        lines = (account_row(one, snapshot.at) for one in snapshot.accounts)
        yield Section("accounts", rows=tuple(lines))


def list_section(snapshot: Snapshot) -> Section:
    """Return the list of batches: beside end and bytes the owner and the age of each."""
    rows = []
    for status in snapshot.batches:
        row, words = batch_row(snapshot, status), [status.owner or "owner unknown"]
        if status.enqueued_at:
            began = datetime.fromisoformat(status.enqueued_at).timestamp()
            words.append(f"{human_seconds(snapshot.at - began)} ago")
        rows.append(replace(row, notes=(joined([*words, *row.notes]),)))
    return Section("batches", "the newest first", tuple(rows), is_named=True)


def batch_row(snapshot: Snapshot, status: BatchStatus) -> Row:
    """Return the row of a batch: its end, its bytes and its speed, and below it the counts."""
    states, total = status.states, status.bytes_total
    share = status.bytes_done / total if total else float(not status.unfinished)
    size = f"{human_bytes(status.bytes_done)} of {human_bytes(total)}"
    if status.has_unknown_sizes:
        share, size = states.get(State.SUCCESS, 0) / status.total, human_bytes(status.bytes_done)
    share = min(max(share, 0.0), 1.0)
    speed = f"{human_bytes(status.bytes_per_second)}/s" if status.unfinished else ""
    pauses = [f"{p.kind} {p.name}" for p in snapshot.pauses_of(status) if p.until is None]
    paused = f"PAUSED: {', '.join(pauses)}" if pauses and status.unfinished else ""
    end, why = end_text(snapshot, status)
    lost = snapshot.lost.get(status.batch, 0)
    moves = states.get(State.STARTED, 0) > lost and not snapshot.standstill
    tone = Tone.MOVES if moves else Tone.WAITS
    if not status.unfinished:
        rest = Tone.PERSON if states.get(State.FAILURE) else Tone.PLAIN
        tone = Tone.DONE if status.ok else rest
    return Row(
        (
            status.batch,
            f"{100 * share:.0f} %",
            end,
            size,
            speed,
        ),
        Tone.PERSON if paused else tone,
        share,
        (joined([paused, summary(status, lost), why]),),
    )


def end_text(snapshot: Snapshot, status: BatchStatus) -> tuple[str, str]:
    """Return the end expected, and what bounds it: ``about 11:21 CEST``, ``18 files``."""
    end = snapshot.ends.get(status.batch)
    if not status.unfinished or end is None:
        return "" if status.unfinished else "over", ""
    if end.before_tape is not None:
        return f"about {clock(end.before_tape, snapshot.at)}", "end without the tape"
    if end.at is None:
        return "end unknown", end.why
    return f"about {clock(end.at, snapshot.at)}", end.why


def needs_a_person(snapshot: Snapshot) -> Iterator[Row]:
    """Yield what stands still before a user acts, each with the command to paste."""
    if snapshot.standstill and not snapshot.is_idle and not snapshot.over:
        yield Row(("no worker is alive",), Tone.PERSON, notes=("geodes-tasks worker",))
    for worker in snapshot.workers or ():
        if worker.closed:
            text = f"{worker.name} cannot write to {worker.closed}: nothing for there starts on it"
            yield Row((text,), Tone.PERSON, notes=("make room there, or give it the right",))
    for words, found in settings_of(snapshot).items():
        if len(found) > 1:
            text = f"workers run with different {words}: {', '.join(sorted(found))}"
            yield Row((text,), Tone.PERSON, notes=("start all with the same",))
    unfinished = [status for status in snapshot.batches if status.unfinished]
    pauses = dict.fromkeys(one for status in unfinished for one in snapshot.pauses_of(status))
    keyless = {
        status.account
        for status in unfinished
        for group in snapshot.failures.get(status.batch, ())
        if group.state is State.RETRY and reaction_of(group.type) is Reaction.AUTH
    }
    for pause in pauses:
        # The pause for a missing key is shown with its error, where a batch here has it.
        if pause.until is None and not (pause.kind == "account" and pause.name in keyless):
            text = f"{pause.kind} {pause.name} is paused: {without_addresses(pause.reason)}"
            command = f"geodes-tasks resume --{pause.kind} {shlex.quote(pause.name)}"
            command = in_folder(command, snapshot.folder)
            yield Row((text,), Tone.PERSON, notes=(command,))
    for status in snapshot.batches:
        for group in snapshot.failures.get(status.batch, ()):
            if group.state is State.FAILURE or reaction_of(group.type) is Reaction.AUTH:
                yield failure_row(status, group, snapshot.folder)


def settings_of(snapshot: Snapshot) -> dict[str, set[str]]:
    """Return the versions and the limits of the workers: more than one of a kind is a mistake."""
    known = [one.limits for one in snapshot.workers or () if one.limits is not None]
    return {
        "versions": {one.version for one in snapshot.workers or () if one.version},
        "values of GEODES_TASKS_MAX_CONCURRENT": {str(one.concurrent) for one in known},
        "values of GEODES_TASKS_QUOTA": {
            f"{one.quota_count} in {human_seconds(one.quota_seconds)}" for one in known
        },
    }


def failure_row(status: BatchStatus, group: FailureGroup, folder: Path | None) -> Row:
    """Return the row of a class of errors that needs a person: count, class, example, command."""
    message = without_addresses(group.example.message)
    hint = hint_of(group)
    # A download that waits for a key is not retried but resumed, with its whole account.
    command = retry_command(status.batch, group, folder)
    if group.state is not State.FAILURE:
        command = f"geodes-tasks resume --account {shlex.quote(status.account or '')}"
        command = in_folder(command, folder)
    return Row(
        (str(group.count), f"{group.type}: {message}"),
        Tone.PERSON,
        notes=tuple(filter(None, (hint, command))),
    )


def hint_of(group: FailureGroup) -> str:
    """Return the hint of a class of errors as its state allows, without a command."""
    # The hint of a transient error promises a retry: untrue once it has failed.
    if group.state is State.FAILURE and reaction_of(group.type) not in {
        Reaction.FINAL,
        Reaction.AUTH,
    }:
        return "All attempts are used up: it is not retried by itself any more."
    return _COMMAND.sub(".", group.example.hint).replace("..", ".").strip(" .,")


def wait_row(snapshot: Snapshot, wait: Wait) -> Row:
    """Return the row of one reason to wait: how many, why, since when and until when."""
    names = {status.account for status in snapshot.batches if wait.reason in status.waiting}
    outage, is_quota = ("source", wait.reason), wait.reason == Reason.QUOTA
    tries = [one.until or 0.0 for one in snapshot.pauses if (one.kind, one.reason) == outage]
    due = max(wait.next_due or 0.0, min(tries, default=0.0))
    ends = [
        max(due, one.paused_until or 0.0, one.quota_reopens or 0.0 if is_quota else 0.0)
        for one in snapshot.accounts
        if one.name in names and (one.paused is None or one.paused_until)
    ]
    # The first account to go on counts. The portal is asked for files on tape during a pause too.
    when = due if wait.reason == Reason.OFFLINE else min(ends, default=due)
    since = f"since {clock(wait.since, snapshot.at)}" if wait.since is not None else ""
    words = WAIT_WORDS.get(wait.reason, wait.reason)
    if wait.reason == Reason.OFFLINE and when > snapshot.at:
        text = f"asked again at {clock(when, snapshot.at)} (in {human_seconds(when - snapshot.at)})"
    else:
        text = until(when, snapshot.at)
    return Row((str(wait.count), words, joined([text, since])), Tone.WAITS)


def worker_sections(snapshot: Snapshot) -> Iterator[Section]:
    """Yield the workers, silent ones first, with the files that they download."""
    if snapshot.workers is None and not snapshot.running:
        return
    gone = {one.name for one in snapshot.silent}
    moving = [one for one in snapshot.running if one.worker not in gone]
    # A small file is over before it has a speed, and one of two batches counts in both of them.
    running = sum(one.bytes_per_second for one in moving)
    speed = max(running, *(one.bytes_per_second for one in snapshot.batches), 0.0)
    slots = sum(worker.slots for worker in snapshot.alive)
    alive = f"{plural(len(snapshot.alive), 'worker')} alive with {plural(slots, 'slot')}"
    detail = joined(
        [
            alive if snapshot.workers is not None else "",
            f"{plural(len(moving), 'file')} at {human_bytes(speed)}/s",
        ]
    )
    silent = [Row((silent_text(one, snapshot.at),), Tone.WAITS) for one in snapshot.silent]
    yield Section("workers", detail, tuple(silent))
    files = sorted(snapshot.running, key=lambda one: (one.worker, one.source, one.started))
    if files:
        rows = (file_row(one, is_silent=one.worker in gone) for one in files)
        yield Section("files", rows=tuple(rows), is_named=True)


def silent_text(worker: SilentWorker, now: float) -> str:
    """Return since when a worker is silent, and when its files are taken over."""
    text = f"{worker.name} is silent since {clock(worker.since, now)}"
    if not worker.downloads:
        return text
    when = worker.taken_over_at
    end = "when another worker starts" if when is None else f"at {clock(when, now)}"
    return f"{text}: {plural(worker.downloads, 'file')} taken over {end if when != now else 'now'}"


def file_row(one: Running, *, is_silent: bool) -> Row:
    """Return the row of a running download."""
    speed, size = one.bytes_per_second, one.size_bytes
    # Without a size in the catalogue there is neither a share nor a time left.
    left = human_seconds((size - one.done_bytes) / speed) if size and speed else ""
    share = min(one.done_bytes / size, 1.0) if size else None
    # The worker of a private run is on this machine, and its name is as long as a bar.
    node = "" if one.worker.startswith("one-machine-") else one.worker.removeprefix("celery@")
    return Row(
        (
            one.title,
            "" if share is None else f"{100 * share:.0f} %",
            f"of {human_bytes(size)}" if size else human_bytes(one.done_bytes),
            "silent" if is_silent else f"{human_bytes(speed)}/s",
            "" if is_silent else left,
            joined([node, one.source], " "),
        ),
        Tone.WAITS if is_silent else Tone.MOVES,
        share,
        link=one.download_id,
    )


def account_row(one: AccountState, now: float) -> Row:
    """Return what an account may do now, as the workers' settings and the portal have it."""
    reason, words, tone = one.paused, list[str](), Tone.PLAIN
    if reason is not None:
        words = [WAIT_WORDS.get(reason, without_addresses(reason))]
        if one.paused_until:
            words, tone = [*words, until(one.paused_until, now)], Tone.WAITS
        else:
            words, tone = [f"PAUSED: {words[0]}"], Tone.PERSON
    if one.quota is None:
        words += [f"{one.running} running", "limits unknown: no worker has started yet"]
    elif one.quota_count and one.quota_reopens is not None:
        when = one.quota_reopens
        if reason == Reason.QUOTA and one.paused_until:
            # One wait, one time: the later of the window's and the portal's.
            when, words = max(when, one.paused_until), []
        words.append(f"quota {one.quota} used up, {until(when, now)}")
    elif one.quota_count:
        words.append(f"quota {one.quota}: {one.quota_left} left")
    else:
        words.append("quota off")
    if one.quota is not None:
        why = f" ({one.concurrent} of {one.most}: {one.why})" if one.concurrent < one.most else ""
        words.append(f"{one.running} of {one.concurrent} at once{why}")
    if one.portal_quota_left is not None:
        reported_at = clock(one.portal_quota_at or now, now)
        words.append(f"the portal reported {one.portal_quota_left} left at {reported_at}")
    if one.probing and reason is None:
        words.append("one download tests whether there is quota again")
    return Row((one.name, joined(words)), tone)
