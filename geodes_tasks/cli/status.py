"""The commands ``status`` and ``batches``: how batches stand, for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from geodes_tasks.cli.options import AsJson, BatchName, open_batch
from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.client import batch as batches
from geodes_tasks.model.formatting import human_seconds
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.monitoring import wording
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.monitoring.terminal import picture


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: geodes-tasks status april --json")(status)
    app.command("batches", epilog="Example: geodes-tasks batches")(list_batches)


def status(
    batch_name: BatchName = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show how the limits of the account changed, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is done, running and waiting, and why: the picture of `watch`, once."""
    batch = open_batch(batch_name)
    counts = batch.status()
    if as_json:
        write_data(counts.to_dict() | wording.status_details(batch.ledger, counts))
        return
    Console().print(picture(SnapshotReader(batch.ledger, [batch.id]).read_with_speeds()))
    for line in wording.pause_lines(batch.ledger, counts, why=why):
        write_data(line)


def list_batches(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON list: the object of `status --json` of each.")
    ] = False,
) -> None:
    """List the batches, the newest first: owner, states, bytes and age."""
    found = [(one, one.status()) for one in batches.batches()]
    if as_json:
        rows = (
            counts.to_dict() | wording.status_details(one.ledger, counts) for one, counts in found
        )
        write_data(list(rows))
        return
    if not found:
        write_line("no batch in the ledger yet")
        raise typer.Exit(batches.NOTHING)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("BATCH", "OWNER", "STATES", "BYTES", "AGE"):
        table.add_column(name, overflow="fold")
    for _, counts in found:
        size = wording.amount(counts.bytes_done, counts.bytes_total)
        table.add_row(
            counts.batch, counts.owner or "unknown", wording.summary(counts), size, _age(counts)
        )
    Console().print(table, markup=False)


def _age(status: BatchStatus) -> str:
    """Return the time since a batch was enqueued, in words; empty where it is unknown."""
    if status.enqueued_at is None:
        return ""
    age = datetime.now(UTC) - datetime.fromisoformat(status.enqueued_at)
    return human_seconds(age.total_seconds())
