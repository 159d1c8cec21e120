"""The command ``report``: one record for each download, in several formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from geodes_tasks.cli.options import BatchName, OutputDir, open_batch, open_ledger
from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.model.footprint import footprint
from geodes_tasks.model.formatting import plural
from geodes_tasks.monitoring.reports import Format, lines
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import readers


def report(
    batch_name: BatchName = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="The format.")] = Format.JSONL,
    items: Annotated[
        list[str] | None,
        typer.Option("--items", help="For stac: STAC JSON files with place and time of the items."),
    ] = None,
    output_dir: OutputDir = None,
) -> None:
    """Write one record for each download, or a summary of them.

    Examples: geodes-tasks report april -f csv > april.csv;
    geodes-tasks report april -f md5sums | (cd DIR && md5sum -c)
    """
    # Records have the product's name as their item, or the id of the item.
    given = {
        name: footprint(item)
        for file in items or ()
        for item in readers.read(file)
        if isinstance(item, Mapping)
        for name in (stac_assets.item_name(item), str(item.get("id")))
    }
    left_out: list[str] = []
    with open_ledger(output_dir, batch_name) as found:
        name = open_batch(batch_name, found).id
        records = found.ledger.reading.records(name)
        for line in lines(
            records, form, batch=name, folder=found.folder, footprint_of=given.get,
            left_out=left_out,
        ):  # fmt: skip
            write_data(line)
    if left_out:
        write_line(
            f"{plural(len(left_out), 'item')} left out, the first is {left_out[0]}: the ledger has "
            "no place and time of them. Name the files they came from: --items FILE"
        )
