"""The command line ``geodes-tasks``."""

from __future__ import annotations

import os
import sys

from geodes_tasks.cli.command_table import COMPLETE_VARIABLE, USAGE, help_text
from geodes_tasks.model.version import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    # typer and rich take 0.1 s to import, the libraries of the commands 1 s: neither text waits.
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]) or not (arguments or COMPLETE_VARIABLE in os.environ):
        print(help_text())  # noqa: T201 - data goes to stdout
        sys.exit(0 if arguments else USAGE)
    if arguments in (["-V"], ["--version"]):
        print(f"geodes-tasks {__version__}")  # noqa: T201
        sys.exit(0)
    from geodes_tasks.cli.command_group import run

    sys.exit(run())
