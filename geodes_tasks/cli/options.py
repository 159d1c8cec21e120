"""Options and arguments that several commands have, with the completion of their values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from geodes_tasks.cli.output import stderr, write_line
from geodes_tasks.client import exit_codes, ledgers
from geodes_tasks.client.batch import Batch, batches
from geodes_tasks.client.ledgers import OpenLedger
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.monitoring.loading import LoadView
from geodes_tasks.settings import config


def complete_batch(incomplete: str) -> list[str]:
    """Return the names of batches for the completion of a shell; none where no Redis answers."""
    # The shell shows every line that is printed here as a completion: an error prints nothing.
    try:
        names = [one.id for one in batches()]
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


OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", "-o", show_default=False,
        help="The one-machine downloads to this folder [default: the cluster of "
        "GEODES_TASKS_REDIS_URL, else the last run on this machine].",
    ),
]  # fmt: skip


@contextlib.contextmanager
def open_ledger(output_dir: Path | None, batch: str | None = None) -> Iterator[OpenLedger]:
    """Yield the ledger that a command means; a line names one that the user did not name.

    Raises:
        ConfigError, UnknownBatchError: there is no such ledger.
    """
    conf, on_load = config.load(), LoadView(stderr)
    with ledgers.selected(conf, output_dir, batch, write_line, on_load) as found:
        yield found


def open_batch(name: str | None, found: OpenLedger) -> Batch:
    """Return the batch of a name; without a name the newest, which a line names.

    Raises:
        UnknownBatchError: there is none of this name.
        typer.Exit: there is none at all.
    """
    known = [] if name else found.ledger.reading.batches()
    if not (name or known):
        write_line("no batch in the ledger yet")
        raise typer.Exit(exit_codes.NOTHING)
    if not name:
        write_line(f"batch {known[0]}, the newest")
    opened = Batch(name or known[0], found.ledger, found.conf)
    opened.status()
    return opened


def write_effect(found: OpenLedger) -> None:
    """Write when a change takes effect, where no run is under way."""
    if found.is_idle:
        write_line(f"takes effect at the next `geodes-tasks download ... -o {found.folder}`")
