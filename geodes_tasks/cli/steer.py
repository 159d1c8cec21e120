"""The commands that steer: retry, cancel, pause, resume, forget. Each is safe to say twice."""

from __future__ import annotations

from typing import Annotated

import typer

from geodes_tasks import config
from geodes_tasks.cli.words import BatchName, batch_of, complain, say
from geodes_tasks.errors import BatchUnfinishedError, ConfigError, UnknownBatchError
from geodes_tasks.steering import Steering
from geodes_tasks.text import seconds_of

KEPT = 1
"""Exit code when a batch could not be forgotten."""
Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ITEM]...", help="Items, file names or ids of downloads."),
]
KINDS = ("account", "batch", "source")
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


def retry(
    batch_name: BatchName = None,
    items: Items = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that failed; so it is when nothing is named.")
    ] = False,
    kinds: Annotated[
        list[str] | None, typer.Option("--class", help="Only failures of this error class.")
    ] = None,
) -> None:
    """Ask again for what failed or, by name, for what was cancelled or waits, too."""
    if items and (failed or kinds):
        raise ConfigError("ITEM", "name downloads, or say --failed or --class, not both")
    begun = Steering(config.load()).retry(batch_of(batch_name).id, kinds or (), items or ())
    say(f"{begun} downloads begin anew")


def cancel(batch_name: BatchName = None, items: Items = None) -> None:
    """Cancel a batch or some of it: what has not started never will, what runs stops.

    What another batch asks for too goes on, and leaves this one.
    """
    say(str(Steering(config.load()).cancel(batch_of(batch_name).id, items or ())))


def forget(
    names: Annotated[list[str] | None, typer.Argument(metavar="[BATCH]...")] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="All asked for longer ago: 30d, 12h, 90min."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Unfinished ones too: what is left is cancelled.")
    ] = False,
) -> None:
    """Remove batches and their records from the ledger; files stay where they are.

    A file that is asked for again is read once, to prove it.
    """
    if bool(names) is (older_than is not None):
        raise ConfigError("BATCH", "name batches, or say --older-than, one of the two")
    steering = Steering(config.load())
    chosen = names or steering.ledger.older_batches(_age(older_than or ""))
    refused = 0
    for name in chosen:
        refused += not _forgotten(steering, name, force=force)
    if not chosen:
        say("no batch is that old")
    raise typer.Exit(KEPT if refused else 0)


def _age(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise ConfigError("--older-than", str(error)) from error


def _forgotten(steering: Steering, name: str, *, force: bool) -> bool:
    """Forget one batch, and tell; another one that cannot be forgotten stops nothing."""
    try:
        swept = steering.forget(name, unfinished=force)
    except UnknownBatchError:
        say(f"{name}: not in the ledger, or forgotten before")
    except BatchUnfinishedError as error:
        complain(error)
        return False
    else:
        later = f"; {swept.left} more go when a worker has swept up after them"
        say(f"{name}: forgotten with {swept.removed} records{later if swept.left else ''}")
    return True


def pause(
    what: What = None, account: OfAccount = None, batch: OfBatch = None, source: OfSource = None
) -> None:
    """Hold an account, a batch or a source: what runs ends by itself, nothing new starts."""
    steering = Steering(config.load())
    kind, name = _named(steering, what, account, batch, source)
    began = steering.pause(name) if kind == "account" else steering.hold(kind, name)
    say(f"{name}: {'paused' if began else 'was paused already'}")


def resume(
    what: What = None, account: OfAccount = None, batch: OfBatch = None, source: OfSource = None
) -> None:
    """Let what was paused go on, for example an account after its key was replaced."""
    steering = Steering(config.load())
    kind, name = _named(steering, what, account, batch, source)
    was = steering.resume(name) if kind == "account" else steering.let_go(kind, name)
    say(f"{name}: {'goes on' if was else 'was not paused'}")


def _named(steering: Steering, what: str | None, *named: str | None) -> tuple[str, str]:
    """Tell kind and name of what is meant: an option says so, else the name shows it."""
    options = [pair for pair in zip(KINDS, named, strict=True) if pair[1]]
    if len(options) + bool(what) > 1:
        raise ConfigError("WHAT", "name one account, one batch or one source at a time")
    if options:
        kind, name = options[0]
        return kind, str(name)
    name = what or config.load().account
    return steering.kind_of(name), name
