"""The commands ``status`` and ``batches``: how batches stand, for people and for programs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from geodes_tasks.cli.options import AsJson, BatchName, OutputDir, open_batch, open_ledger
from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.client.exit_codes import NOTHING
from geodes_tasks.monitoring.history import changes_section, history_sections
from geodes_tasks.monitoring.picture import list_section, sections
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.monitoring.terminal import Picture


def status(
    batch_name: BatchName = None,
    item: Annotated[
        str | None, typer.Argument(help="Show the attempts at this item, file or download.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show how the limits of the account changed, and why.")
    ] = False,
    as_json: AsJson = False,
    output_dir: OutputDir = None,
) -> None:
    """Show what is done, running and waiting, and why: the picture of `watch`, once.

    Example: geodes-tasks status april --json
    """
    with open_ledger(output_dir, batch_name) as found:
        batch, ledger = open_batch(batch_name, found), found.ledger
        if item is not None:
            records = ledger.reading.read(ledger.reading.named(batch.id, [item]), batch.id)
            there = [record for record in records if record is not None]
            if as_json:
                write_data([record.to_dict() for record in there])
            else:
                drawn = [section for record in there for section in history_sections(record)]
                Console(emoji=False).print(Picture(drawn))
            return
        snapshot = SnapshotReader(ledger, [batch.id], folder=found.folder).read()
        if as_json:
            write_data(snapshot.status_object(snapshot.batches[0]))
            return
        account = snapshot.batches[0].account or ""
        changes = [changes_section(account, ledger.account.changes(account))] if why else []
        Console(emoji=False).print(Picture([*sections(snapshot), *changes]))
        if found.is_idle and not snapshot.over:
            resume = f"`geodes-tasks download ... -o {found.folder}` continues"
            write_line(f"no run is under way: {resume}")


def batches(as_json: AsJson = False, output_dir: OutputDir = None) -> None:
    """List the batches, the newest first: end expected, bytes, owner, age and states.

    Example: geodes-tasks batches
    """
    with open_ledger(output_dir) as found:
        names = found.ledger.reading.batches()
        if not names and not as_json:
            write_line("no batch in the ledger yet")
            raise typer.Exit(NOTHING)
        snapshot = SnapshotReader(found.ledger, names, folder=found.folder).read()
    if as_json:
        write_data(snapshot.status_objects())
    else:
        Console(emoji=False).print(Picture([list_section(snapshot)]))
