"""The command ``status``: how a batch stands, for people and for programs."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from geodes_tasks.cli.options import AsJson, BatchName, batch_of
from geodes_tasks.monitoring import wording
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.monitoring.terminal import picture


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(status)


def status(
    batch_name: BatchName = None,
    why: Annotated[
        bool, typer.Option("--why", help="Tell how the limits of the account changed, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is done, running, waiting and why: the picture of `watch`, once."""
    batch = batch_of(batch_name)
    counts = batch.status()
    if as_json:
        print(json.dumps(counts.to_dict() | wording.status_details(batch.ledger, counts)))  # noqa: T201 - data goes to stdout
        return
    Console().print(picture(SnapshotReader(batch.ledger, [batch.id]).read_with_speeds()))
    for line in wording.pause_lines(batch.ledger, counts, why=why):
        print(line)  # noqa: T201 - data goes to stdout
