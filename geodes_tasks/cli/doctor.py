"""The command ``doctor``: check the set-up, and name what to do about each problem."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from geodes_tasks.cli.options import AsJson
from geodes_tasks.cli.output import write_data
from geodes_tasks.client.doctor import examine
from geodes_tasks.ledger.checks import Level
from geodes_tasks.model.formatting import escaped
from geodes_tasks.settings import config

PROBLEMS = 1
"""Exit code when a check found a problem; warnings alone give 0."""
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def doctor(
    as_json: AsJson = False,
) -> None:
    """Check Redis, workers, key, quota, S3, folder, clocks and TLS; no download is spent.

    Exit codes: 0 no problem, 1 problems
    """
    checks, console = [], Console(emoji=False)
    for check in examine(config.load()):
        checks.append(check)
        if not as_json:
            remedy = f". {check.mend}" if check.mend else ""
            text = f" {check.name}: {check.text.rstrip('.')}{remedy}"
            line = Text.assemble((f"{check.level:<8}", STYLES[check.level]), escaped(text))
            console.print(line, soft_wrap=True)
    if as_json:
        write_data([check.to_dict() for check in checks])
    raise typer.Exit(PROBLEMS if any(one.level is Level.PROBLEM for one in checks) else 0)
