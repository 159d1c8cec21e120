"""Options and output that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from geodes_tasks.client import batch as batches
from geodes_tasks.client.batch import Batch
from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from geodes_tasks.errors import GeodesTasksError

stderr = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
BatchName = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="Default: the newest.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A pygeodes-config.json elsewhere.")
]


def say(text: str) -> None:
    """Write one line to standard error, as it is."""
    stderr.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(error: GeodesTasksError) -> None:
    """Write an error and its remedy to standard error, in one line."""
    say(f"error: {str(error).rstrip('.')}. {error.hint}".rstrip())


def batch_of(name: str | None, ledger: Ledger | None = None) -> Batch:
    """Return the batch of a name, else the newest.

    Raises:
        typer.Exit: there is none at all.
    """
    ledger = ledger or Ledger.of(config.load())
    names = [name] if name else ledger.reading.batches()
    if not names:
        say("no batch in the ledger yet")
        raise typer.Exit(batches.NOTHING)
    return Batch(names[0], ledger)
