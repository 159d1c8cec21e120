"""The command ``doctor``: say what is wrong with the set-up, and how to mend it."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from geodes_tasks.client.doctor import examine
from geodes_tasks.ledger.checks import Check, Level
from geodes_tasks.settings import config

PROBLEMS = 1
"""The exit code when a check found a problem; warnings alone give 0."""
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Check Redis, workers, key, quota, S3, folder, clocks and TLS; no download is spent."""
    checks = []
    console = Console()
    for check in examine(config.load()):
        checks.append(check)
        if not as_json:
            console.print(line_of(check), soft_wrap=True)
    if as_json:
        print(json.dumps([check.to_dict() for check in checks]))  # noqa: T201 - data goes to stdout
    raise typer.Exit(PROBLEMS if any(one.level is Level.PROBLEM for one in checks) else 0)


def line_of(check: Check) -> Text:
    """Write one check as a line."""
    mend = f". {check.mend}" if check.mend else ""
    return Text.assemble(
        (f"{check.level:<8}", STYLES[check.level]), f" {check.name}: {check.text.rstrip('.')}{mend}"
    )
