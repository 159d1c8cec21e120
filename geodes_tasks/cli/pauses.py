"""The commands ``pause``, ``resume`` and ``limit``: idempotent, and no unknown name is taken."""

from __future__ import annotations

from typing import Annotated

import typer

from geodes_tasks.cli.options import (
    OutputDir,
    argument,
    complete_batch,
    open_ledger,
    option,
    write_effect,
)
from geodes_tasks.cli.output import write_line
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import ConfigError
from geodes_tasks.model.formatting import plural
from geodes_tasks.settings import config

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


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Examples: geodes-tasks pause april; geodes-tasks pause --source s3")(pause)
    app.command(epilog="Example: geodes-tasks resume april")(resume)
    epilog = "Examples: geodes-tasks limit default 2; geodes-tasks limit default auto"
    app.command(epilog=epilog)(limit)


def pause(
    what: What = None,
    account: OfAccount = None,
    batch: OfBatch = None,
    source: OfSource = None,
    output_dir: OutputDir = None,
) -> None:
    """Pause an account, a batch or a source: running downloads end, no new ones start."""
    with open_ledger(output_dir, batch) as found:
        steering = Steering(found.conf)
        kind, name = _named(steering, what, account, batch, source)
        began = steering.pause(kind, name)
        write_line(f"{name}: {'paused' if began else 'was paused already'}")
        write_effect(found)


def resume(
    what: What = None,
    account: OfAccount = None,
    batch: OfBatch = None,
    source: OfSource = None,
    output_dir: OutputDir = None,
) -> None:
    """Resume what was paused, for example an account after its key was replaced."""
    with open_ledger(output_dir, batch) as found:
        steering = Steering(found.conf)
        kind, name = _named(steering, what, account, batch, source)
        was = steering.resume(kind, name)
        write_line(f"{name}: {'resumed' if was else 'was not paused'}")
        write_effect(found)


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
    """Set the concurrency limit of an account by hand, until `auto`."""
    if number != "auto" and not number.isdecimal():
        raise ConfigError("N", f"{number!r} is neither a number nor auto", "Give 4, or auto.")
    with open_ledger(output_dir) as found:
        given = None if number == "auto" else int(number)
        in_force = Steering(found.conf).limit(account, given)
        by_hand = ", by hand" if given else ""
        write_line(f"{account}: at most {plural(in_force, 'transfer')} at once{by_hand}")
        write_effect(found)


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
