"""Options and arguments that several commands have, with the completion of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodes_tasks.cli.output import write_line
from geodes_tasks.client import batch as batches
from geodes_tasks.client.batch import Batch
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config


def complete_batch(incomplete: str) -> list[str]:
    """Return the names of batches for the completion of a shell; none where no Redis answers."""
    # The shell shows every line that is printed here as a completion: an error prints nothing.
    try:
        names = Ledger.of(config.load()).reading.batches()
    except GeodesTasksError:
        return []
    return [name for name in names if name.startswith(incomplete)]


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
BatchName = Annotated[
    str | None,
    typer.Argument(
        metavar="BATCH",
        show_default=False,
        autocompletion=complete_batch,
        help="Name of a batch [default: the newest].",
    ),
]
BatchNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="BATCH...",
        show_default=False,
        autocompletion=complete_batch,
        help="Names of batches.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", show_default=False, help="A configuration file to read."),
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Change without a confirmation; for scripts.")
]


def open_batch(name: str | None) -> Batch:
    """Return the batch of a name; without a name the newest, which a line names.

    Raises:
        UnknownBatchError: there is none of this name.
        typer.Exit: there is none at all.
    """
    if name:
        return batches.batch(name)
    known = batches.batches()
    if not known:
        write_line("no batch in the ledger yet")
        raise typer.Exit(batches.NOTHING)
    write_line(f"batch {known[0].id}, the newest")
    return known[0]
