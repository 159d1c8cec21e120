"""The command ``status``: how a batch stands, for people and for programs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from geodes_tasks import standing
from geodes_tasks.cli_words import AsJson, BatchName, batch_of
from geodes_tasks.summaries import outcomes, summary
from geodes_tasks.text import human_bytes


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
    """Count what is done, running, waiting and why."""
    batch = batch_of(batch_name)
    counts = batch.status()
    if as_json:
        print(json.dumps(counts.to_dict() | standing.details(batch.ledger, counts)))  # noqa: T201 - data goes to stdout
        return
    amount = f"{human_bytes(counts.bytes_done)} of {human_bytes(counts.bytes_total)}"
    print(f"{batch.id}: {summary(counts)}{outcomes(counts)}; {amount}")  # noqa: T201
    for line in standing.lines(batch.ledger, counts, why=why):
        print(line)  # noqa: T201 - data goes to stdout
