"""The command ``config show``: every setting, its value and where it comes from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geodes_tasks.cli.output import write_data
from geodes_tasks.settings.files import config_file
from geodes_tasks.settings.origins import settings_in_force


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    group = typer.Typer(help="Show the settings.")
    group.callback()(lambda: None)
    group.command()(show)
    app.add_typer(group, name="config")


def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="A file that wins over the environment.")
    ] = None,
) -> None:
    """Print every setting, its value and its origin; secrets as stars."""
    found = list(settings_in_force(config))
    if as_json:
        write_data([asdict(one) for one in found])
        return
    table = Table(box=None, pad_edge=False, caption=f"your own file: {config_file()}")
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(*(Text(text) for text in (one.name, one.value or "", one.origin)))
    Console().print(table)
