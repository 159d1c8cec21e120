"""The command ``report``: one record a download, in the format that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from geodes_tasks.cli.options import BatchName, batch_of, say
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.footprint import footprint
from geodes_tasks.monitoring.reports import Format, lines
from geodes_tasks.settings import config
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import readers


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(report)


def report(
    batch: BatchName = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="The format.")] = Format.JSONL,
    items: Annotated[
        list[str] | None,
        typer.Option("--items", help="For stac: STAC JSON files with place and time of the items."),
    ] = None,
) -> None:
    """Write one record a download, or a summary of them."""
    ledger = Ledger.of(config.load())
    name = batch_of(batch, ledger).id
    left_out: list[str] = []
    given = _footprints(items or [])
    for line in lines(
        ledger.reading.records(name), form, batch=name, footprint_of=given.get, left_out=left_out
    ):
        print(line)  # noqa: T201 - data goes to stdout
    if left_out:
        say(
            f"{len(left_out)} items are left out: their place and time are not in the ledger, "
            f"the first is {left_out[0]}. Give the files they came from: --items FILE"
        )


def _footprints(names: list[str]) -> dict[str, str | None]:
    """Read place and time of the items in files."""
    given: dict[str, str | None] = {}
    for name in names:
        for item in readers.read(name):
            if isinstance(item, Mapping):
                # Records bear the name that items go by in this program.
                given |= dict.fromkeys(
                    (stac_assets.item_name(item), str(item.get("id"))), footprint(item)
                )
    return given
