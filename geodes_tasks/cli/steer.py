"""The commands that steer: ``retry``, ``cancel``, ``forget``, ``pause``, ``resume``, ``limit``.

All are idempotent. They change only what is named, and an unknown name is an error.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
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
)
from geodes_tasks.cli.output import write_error, write_line
from geodes_tasks.client.enqueue_admission import current_owner
from geodes_tasks.client.ledgers import OpenLedger
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import (
    BatchUnfinishedError,
    ConfigError,
    LedgerUnavailableError,
    UnknownBatchError,
    in_folder,
)
from geodes_tasks.model.formatting import plural, seconds_of
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.wording import summary
from geodes_tasks.settings import config

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
KINDS = ("account", "batch", "source")
What = Annotated[
    str | None,
    argument(
        metavar="WHAT",
        autocompletion=complete_batch,
        help="A source (geodes, s3), a batch or an account [default: the configured account].",
    ),
]
OfAccount = Annotated[str | None, option("--account", help="An account by this name.")]
OfBatch = Annotated[
    str | None, option("--batch", autocompletion=complete_batch, help="A batch by this name.")
]
OfSource = Annotated[str | None, option("--source", help="A source: geodes or s3.")]


@contextlib.contextmanager
def steered(output_dir: Path | None, batch: str | None) -> Iterator[tuple[OpenLedger, Steering]]:
    """Yield the ledger that a command means and its verbs; a line names when they take effect."""
    with open_ledger(output_dir, batch) as found:
        yield found, Steering(found.conf)
        if found.is_idle:
            write_line(f"takes effect at the next `geodes-tasks download ... -o {found.folder}`")


def retry(
    batch: OneBatch = None,
    items: Items = None,
    everything: All = False,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed; the default.")] = False,
    kinds: Classes = None,
    yes: Yes = False,
    output_dir: OutputDir = None,
) -> None:
    """Retry failed downloads or, by name, cancelled and waiting ones too.

    Examples: geodes-tasks retry april; geodes-tasks retry april --class NotFoundError;
    geodes-tasks retry --all --yes
    """
    if items and (failed or kinds):
        raise ConfigError("ITEM", "name downloads, or use --failed or --class, not both")
    with steered(output_dir, batch) as (_, steering):
        chosen = _chosen(steering, "retry", [batch] if batch else [], everything=everything)
        if everything:
            chosen = [status for status in chosen if status.states[State.FAILURE]]
        _confirm("retry", chosen, yes=yes)
        if not chosen:
            write_line("no batch has a failed download")
            raise typer.Exit
        for status in chosen:
            begun = steering.retry(status.batch, kinds or (), items or ())
            write_line(f"{status.batch}: {plural(begun, 'download')} queued again")


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

    Examples: geodes-tasks cancel april; geodes-tasks cancel april ITEM
    """
    if items and kinds:
        raise ConfigError("ITEM", "name downloads, or use --class, not both")
    with steered(output_dir, batch) as (found, steering):
        names = [batch] if batch else []
        if output_dir and not (batch or everything or found.is_idle):
            # One run at a time is under way in a folder, and its batch is the newest.
            names = found.ledger.reading.batches()[:1]
        chosen = _chosen(steering, "cancel", names, everything=everything)
        if everything:
            chosen = [status for status in chosen if status.unfinished]
        _confirm("cancel", chosen, yes=yes)
        if not chosen:
            write_line("no batch is unfinished")
            raise typer.Exit
        for status in chosen:
            taken = steering.cancel(status.batch, items or (), kinds or ())
            write_line(f"{status.batch}: {taken}")


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

    Examples: geodes-tasks forget april; geodes-tasks forget --all --older-than 30d. Exit code 3: a
    batch was kept, for it has unfinished downloads.
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
                steering.forget(name, unfinished=force)
            except UnknownBatchError:
                write_line(f"{name}: was forgotten meanwhile")
            except BatchUnfinishedError as error:
                # A batch that is kept does not stop the others.
                error.remedy = in_folder(error.remedy, found.folder)
                write_error(error)
                kept += 1
            else:
                what = plural(status.total, "download")
                write_line(f"{name}: forgotten with its {what}; files stay")
    raise typer.Exit(KEPT if kept else 0)


def pause(
    what: What = None,
    account: OfAccount = None,
    batch: OfBatch = None,
    source: OfSource = None,
    output_dir: OutputDir = None,
) -> None:
    """Pause an account, a batch or a source: running downloads finish, no new ones start.

    Examples: geodes-tasks pause april; geodes-tasks pause --source s3
    """
    with steered(output_dir, batch) as (_, steering):
        kind, name = _named(steering, what, account, batch, source)
        began = steering.pause(kind, name)
        write_line(f"{name}: {'paused' if began else 'was paused already'}")


def resume(
    what: What = None,
    account: OfAccount = None,
    batch: OfBatch = None,
    source: OfSource = None,
    output_dir: OutputDir = None,
) -> None:
    """Resume what was paused, for example an account after its key was replaced.

    Example: geodes-tasks resume april
    """
    with steered(output_dir, batch) as (_, steering):
        kind, name = _named(steering, what, account, batch, source)
        was = steering.resume(kind, name)
        write_line(f"{name}: {'resumed' if was else 'was not paused'}")


def limit(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name of the account.")],
    number: Annotated[
        str,
        typer.Argument(
            metavar="N|auto",
            help="Transfers at once over all workers, 1 to GEODES_TASKS_MAX_CONCURRENT; auto gives "
            "the limit back to the reaction to HTTP 429.",
        ),
    ],
    output_dir: OutputDir = None,
) -> None:
    """Set the concurrency limit of an account by hand, until `auto`.

    Examples: geodes-tasks limit default 2; geodes-tasks limit default auto
    """
    if number != "auto" and not number.isdecimal():
        raise ConfigError("N", f"{number!r} is neither a number nor auto", "Give 4, or auto.")
    with steered(output_dir, None) as (_, steering):
        given = None if number == "auto" else int(number)
        in_force = steering.limit(account, given)
        by_hand = ", by hand" if given else ""
        write_line(f"{account}: at most {plural(in_force, 'transfer')} at once{by_hand}")


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
            write_line(f"{what} is also the name of a {other}: use --{other} {what} for that one")
        return kind, what
    return "account", config.load().account
