"""The commands that steer: retry, cancel, forget, pause, resume. All are idempotent.

None of the first three acts on what was not named, and none of the five on a name that is unknown.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from geodes_tasks.cli.options import complain, say
from geodes_tasks.client.enqueue_admission import current_owner
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import (
    BatchUnfinishedError,
    ConfigError,
    LedgerUnavailableError,
    UnknownBatchError,
)
from geodes_tasks.model.formatting import seconds_of
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.wording import summary
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.model.results import BatchStatus

KEPT = 3
"""The exit code when a batch was not forgotten."""
SHOWN = 20
"""Batches that a confirmation names, at most."""
KINDS = ("account", "batch", "source")

OneBatch = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="The batch meant.")]
Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ITEM]...", help="Items, file names or ids of downloads."),
]
All = Annotated[bool, typer.Option("--all", help="Every batch of the ledger.")]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask about several batches, or a batch of another owner."
    ),
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Only downloads with errors of this class.")
]
What = Annotated[
    str | None,
    typer.Argument(
        metavar="[WHAT]", help="A source (geodes, s3), a batch or an account; default: the account."
    ),
]
OfAccount = Annotated[str | None, typer.Option("--account", help="An account by this name.")]
OfBatch = Annotated[str | None, typer.Option("--batch", help="A batch by this name.")]
OfSource = Annotated[str | None, typer.Option("--source", help="A source: geodes or s3.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (retry, cancel, pause, resume, forget):
        app.command()(command)


# --- retry, cancel, forget -----------------------------------------------------------------------


def retry(
    batch: OneBatch = None,
    items: Items = None,
    everything: All = False,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed; the default.")] = False,
    kinds: Classes = None,
    yes: Yes = False,
) -> None:
    """Retry what failed or, by name, what was cancelled or waits."""
    if items and (failed or kinds):
        raise ConfigError("ITEM", "name downloads, or use --failed or --class, not both")
    steering = Steering(config.load())
    chosen = _chosen(steering, "retry", [batch] if batch else [], everything=everything)
    if everything:
        chosen = [status for status in chosen if status.states[State.FAILURE]]
    _confirm("retry", chosen, yes=yes)
    for status in chosen:
        begun = steering.retry(status.batch, kinds or (), items or ())
        say(f"{status.batch}: {begun} downloads start again")


def cancel(
    batch: OneBatch = None,
    items: Items = None,
    everything: All = False,
    kinds: Classes = None,
    yes: Yes = False,
) -> None:
    """Cancel a batch or some of it: queued downloads never start, running ones stop.

    Files that another batch also needs are not affected.
    """
    if items and kinds:
        raise ConfigError("ITEM", "name downloads, or use --class, not both")
    steering = Steering(config.load())
    chosen = _chosen(steering, "cancel", [batch] if batch else [], everything=everything)
    if everything:
        chosen = [status for status in chosen if status.unfinished]
    _confirm("cancel", chosen, yes=yes)
    for status in chosen:
        say(f"{status.batch}: {steering.cancel(status.batch, items or (), kinds or ())}")


def forget(
    names: Annotated[list[str] | None, typer.Argument(metavar="[BATCH]...")] = None,
    everything: All = False,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="Only those enqueued longer ago: 30d, 12h, 90min.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Unfinished ones too: what is left is cancelled.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove batches and their records from the ledger; files stay where they are.

    A file that is enqueued again is read once, to verify it.
    """
    try:
        age_s = seconds_of(older_than) if older_than is not None else None
    except ValueError as error:
        raise ConfigError("--older-than", str(error)) from error
    steering = Steering(config.load())
    chosen = _chosen(steering, "forget", names or [], everything=everything)
    if age_s is not None:
        old = set(steering.ledger.retention.older_batches(age_s))
        chosen = [status for status in chosen if status.batch in old]
    _confirm("forget", chosen, yes=yes)
    refused = 0
    for status in chosen:
        refused += not _forgotten(steering, status.batch, force=force)
    if not chosen:
        say("no batch is that old" if older_than else "no batch in the ledger yet")
    raise typer.Exit(KEPT if refused else 0)


def _forgotten(steering: Steering, name: str, *, force: bool) -> bool:
    """Forget one batch and report it; a batch that is kept does not stop the others."""
    try:
        swept = steering.forget(name, unfinished=force)
    except UnknownBatchError:
        say(f"{name}: was forgotten meanwhile")
    except BatchUnfinishedError as error:
        complain(error)
        return False
    else:
        later = f"; {swept.left} more go when a worker has swept up after them"
        say(f"{name}: forgotten with {swept.removed} records{later if swept.left else ''}")
    return True


def _chosen(
    steering: Steering, word: str, names: Sequence[str], *, everything: bool
) -> list[BatchStatus]:
    """Return the batches that are meant; none is ever meant by default.

    Raises:
        ConfigError: neither names nor --all were given, or both.
        UnknownBatchError: one of the names is not in the ledger; nothing was changed.
    """
    if bool(names) is everything:
        problem = "names and --all were given" if everything else f"{word} needs a batch or --all"
        example = _newest(steering)
        hint = f"Type `geodes-tasks {word} {example}`, or `geodes-tasks {word} --all`."
        raise ConfigError("BATCH", problem, hint)
    return steering.batches(names)


def _newest(steering: Steering) -> str:
    """Return the newest batch as one word of a shell, for an example."""
    try:
        known = steering.ledger.reading.batches()
    except LedgerUnavailableError:
        known = []
    return shlex.quote(known[0]) if known else "BATCH"


def _confirm(word: str, chosen: Sequence[BatchStatus], *, yes: bool) -> None:
    """Ask before more than one batch, or a batch of another owner, is changed.

    Raises:
        ConfigError: an answer is needed, and standard input is no terminal.
        typer.Abort: the answer is no.
    """
    me = current_owner()
    others = [status for status in chosen if status.owner != me]
    if yes or (len(chosen) < 2 and not others):
        return
    for status in chosen[:SHOWN]:
        say(f"{status.batch}: owner {status.owner or 'unknown'}, {summary(status)}")
    if len(chosen) > SHOWN:
        say(f"and {len(chosen) - SHOWN} more")
    what = f"{len(chosen)} batches" if len(chosen) > 1 else f"the batch {chosen[0].batch!r}"
    if others:
        what += (
            f", {len(others)} of them not yours ({me})"
            if len(chosen) > 1
            else f", not yours ({me})"
        )
    if not sys.stdin.isatty():
        line = shlex.join(["geodes-tasks", *sys.argv[1:], "--yes"])
        raise ConfigError("--yes", f"to {word} {what} needs a confirmation", f"Type: {line}")
    typer.confirm(f"{word.capitalize()} {what}?", abort=True, err=True)


# --- pause and resume ----------------------------------------------------------------------------


def pause(
    what: What = None, account: OfAccount = None, batch: OfBatch = None, source: OfSource = None
) -> None:
    """Pause an account, a batch or a source: running downloads end, no new ones start."""
    steering = Steering(config.load())
    kind, name = _named(steering, what, account, batch, source)
    began = steering.pause(name) if kind == "account" else steering.pause_part(kind, name)
    say(f"{name}: {'paused' if began else 'was paused already'}")


def resume(
    what: What = None, account: OfAccount = None, batch: OfBatch = None, source: OfSource = None
) -> None:
    """Resume what was paused, for example an account after its key was replaced."""
    steering = Steering(config.load())
    kind, name = _named(steering, what, account, batch, source)
    was = steering.resume(name) if kind == "account" else steering.resume_part(kind, name)
    say(f"{name}: {'resumed' if was else 'was not paused'}")


def _named(steering: Steering, what: str | None, *named: str | None) -> tuple[str, str]:
    """Return kind and name of what is meant; without any name it is the configured account."""
    options = [(kind, name) for kind, name in zip(KINDS, named, strict=True) if name]
    if len(options) + bool(what) > 1:
        raise ConfigError("WHAT", "name one account, one batch or one source at a time")
    if options:
        return options[0]
    if what:
        kind, *others = steering.kinds_of(what)
        for other in others:
            say(f"{what} is the name of the {kind} and of a {other}: --{other} {what} for that")
        return kind, what
    return "account", config.load().account
