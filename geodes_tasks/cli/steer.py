"""The commands ``retry``, ``cancel`` and ``forget``. All are idempotent.

They change only what is named, and an unknown name is an error.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from geodes_tasks.cli.options import (
    BatchNames,
    OutputDir,
    Yes,
    argument,
    complete_batch,
    open_ledger,
    option,
    write_effect,
)
from geodes_tasks.cli.output import write_error, write_line
from geodes_tasks.client.enqueue_admission import current_owner
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import (
    BatchUnfinishedError,
    ConfigError,
    LedgerUnavailableError,
    UnknownBatchError,
)
from geodes_tasks.model.formatting import plural, seconds_of
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.wording import summary

KEPT = 3
"""The exit code when a batch was not forgotten."""
SHOWN = 20
"""Number of batches that a confirmation names at most."""

OneBatch = Annotated[
    str | None, argument(metavar="BATCH", autocompletion=complete_batch, help="The batch.")
]
Items = Annotated[
    list[str] | None, argument(metavar="ITEM...", help="Items, file names or ids of downloads.")
]
All = Annotated[bool, typer.Option("--all", help="Every batch of the ledger.")]
Classes = Annotated[
    list[str] | None, option("--class", help="Only downloads with errors of this class.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    epilog = (
        "Examples: geodes-tasks retry april; geodes-tasks retry april --class NotFoundError; "
        "geodes-tasks retry --all --yes"
    )
    app.command(epilog=epilog)(retry)
    epilog = "Examples: geodes-tasks cancel april; geodes-tasks cancel april ITEM"
    app.command(epilog=epilog)(cancel)
    epilog = (
        "Examples: geodes-tasks forget april; geodes-tasks forget --all --older-than 30d. "
        "Exit code 3: a batch was kept, for it has unfinished downloads."
    )
    app.command(epilog=epilog)(forget)


def retry(
    batch: OneBatch = None,
    items: Items = None,
    everything: All = False,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed; the default.")] = False,
    kinds: Classes = None,
    yes: Yes = False,
    output_dir: OutputDir = None,
) -> None:
    """Retry failed downloads or, by name, cancelled and waiting ones too."""
    if items and (failed or kinds):
        raise ConfigError("ITEM", "name downloads, or use --failed or --class, not both")
    with open_ledger(output_dir, batch) as found:
        steering = Steering(found.conf)
        chosen = _chosen(steering, "retry", [batch] if batch else [], everything=everything)
        if everything:
            chosen = [status for status in chosen if status.states[State.FAILURE]]
        _confirm("retry", chosen, yes=yes)
        for status in chosen:
            begun = steering.retry(status.batch, kinds or (), items or ())
            write_line(f"{status.batch}: {plural(begun, 'download')} queued again")
        write_effect(found)


def cancel(
    batch: OneBatch = None,
    items: Items = None,
    everything: All = False,
    kinds: Classes = None,
    yes: Yes = False,
    output_dir: OutputDir = None,
) -> None:
    """Cancel a batch or some of it: queued downloads never start, running ones stop.

    Files that another batch also needs are not affected.
    """
    if items and kinds:
        raise ConfigError("ITEM", "name downloads, or use --class, not both")
    with open_ledger(output_dir, batch) as found:
        steering = Steering(found.conf)
        names = [batch] if batch else []
        if output_dir and not (batch or everything or found.is_idle):
            # One run at a time is under way in a folder, and its batch is the newest.
            names = found.ledger.reading.batches()[:1]
        chosen = _chosen(steering, "cancel", names, everything=everything)
        if everything:
            chosen = [status for status in chosen if status.unfinished]
        _confirm("cancel", chosen, yes=yes)
        for status in chosen:
            taken = steering.cancel(status.batch, items or (), kinds or ())
            write_line(f"{status.batch}: {taken}")
        write_effect(found)


def forget(
    names: BatchNames = None,
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
    output_dir: OutputDir = None,
) -> None:
    """Remove batches and their records from the ledger; files stay where they are.

    A file that is enqueued again is read once, to verify it.
    """
    try:
        age_s = seconds_of(older_than) if older_than is not None else None
    except ValueError as error:
        raise ConfigError("--older-than", str(error)) from error
    kept, first = 0, names[0] if names else None
    with open_ledger(output_dir, first) as found:
        steering = Steering(found.conf)
        chosen = _chosen(steering, "forget", names or [], everything=everything)
        if age_s is not None:
            old = set(steering.ledger.retention.older_batches(age_s))
            chosen = [status for status in chosen if status.batch in old]
        _confirm("forget", chosen, yes=yes)
        if not chosen:
            write_line("no batch is that old" if older_than else "no batch in the ledger yet")
        for status in chosen:
            name = status.batch
            try:
                swept = steering.forget(name, unfinished=force)
            except UnknownBatchError:
                write_line(f"{name}: was forgotten meanwhile")
            except BatchUnfinishedError as error:
                # A batch that is kept does not stop the others.
                write_error(error)
                kept += 1
            else:
                later = f"; {swept.left} more when a worker has cleaned up" if swept.left else ""
                write_line(f"{name}: forgotten with {plural(swept.removed, 'record')}{later}")
    raise typer.Exit(KEPT if kept else 0)


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
        with contextlib.suppress(LedgerUnavailableError):
            names = steering.ledger.reading.batches()[:1]
        example = shlex.quote(names[0]) if names else "BATCH"
        hint = f"Type `geodes-tasks {word} {example}`, or `geodes-tasks {word} --all`."
        raise ConfigError("BATCH", problem, hint)
    return steering.batches(names)


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
        write_line(f"{status.batch}: owner {status.owner or 'unknown'}, {summary(status)}")
    if len(chosen) > SHOWN:
        write_line(f"and {len(chosen) - SHOWN} more")
    what = f"{len(chosen)} batches" if len(chosen) > 1 else f"the batch {chosen[0].batch!r}"
    if others:
        count = f"{len(others)} of them " if len(chosen) > 1 else ""
        what += f", {count}not yours ({me})"
    if not sys.stdin.isatty():
        line = shlex.join(["geodes-tasks", *sys.argv[1:], "--yes"])
        raise ConfigError("--yes", f"to {word} {what} needs a confirmation", f"Type: {line}")
    typer.confirm(f"{word.capitalize()} {what}?", abort=True, err=True)
