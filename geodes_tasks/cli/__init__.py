"""The command line as a whole: logging, the groups of commands, and what an error becomes."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.logging import RichHandler

from geodes_tasks.cli import (
    deployment,
    doctor,
    download,
    metrics,
    report,
    search,
    status,
    steer,
    verify,
    watch,
    worker_flower,
)
from geodes_tasks.cli.options import complain, stderr
from geodes_tasks.client import batch as batches
from geodes_tasks.errors import (
    ConfigError,
    DeploymentError,
    GeodesTasksError,
    NoItemsError,
    SourceError,
    UnknownNameError,
)
from geodes_tasks.model.version import __version__

USAGE, UNCLASSIFIED = 2, 1

app = typer.Typer(
    name="geodes-tasks",
    help="Download items from GEODES: all of them, proven by checksum, without minding a script.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group in (
    download, search, status, watch, report, steer, verify, doctor,
    metrics, worker_flower, deployment,
):  # fmt: skip
    group.register(app)


@app.callback()
def frame(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log more.")] = 0,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda on: print_version(on=on))
    ] = False,
) -> None:
    """Set up logging for all commands."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    pretty = RichHandler(console=stderr, show_path=False)
    lines_only: logging.Handler = pretty if stderr.is_terminal else logging.StreamHandler()
    logging.basicConfig(level=level, format="%(message)s", handlers=[lines_only])


def print_version(*, on: bool) -> None:
    """Print the version and exit."""
    if on:
        print(f"geodes-tasks {__version__}")  # noqa: T201 - data goes to stdout
        raise typer.Exit


def main() -> None:
    """Run the command line; every expected error is one clear line, never a traceback."""
    try:
        app()
    except NoItemsError as error:
        complain(error)
        sys.exit(batches.NOTHING)
    except (ConfigError, DeploymentError, SourceError, UnknownNameError) as error:
        complain(error)
        sys.exit(USAGE)
    except GeodesTasksError as error:
        complain(error)
        sys.exit(UNCLASSIFIED)
