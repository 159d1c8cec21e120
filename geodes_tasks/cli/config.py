"""The command ``config show``: every setting, its value and where it comes from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geodes_tasks.cli.output import write_data
from geodes_tasks.settings import files
from geodes_tasks.settings.origins import settings_in_force


def config(
    show: Annotated[Literal["show"], typer.Argument(help="What to do.")],  # noqa: ARG001
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="A file that wins over the environment.")
    ] = None,
) -> None:
    """Print every setting, its value and its origin; secrets as stars."""
    found = list(settings_in_force(config_file))
    if as_json:
        write_data([asdict(one) for one in found])
        return
    table = Table(box=None, pad_edge=False, caption=f"your own file: {files.config_file()}")
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(*(Text(text) for text in (one.name, one.value or "", one.origin)))
    Console(emoji=False).print(table)
