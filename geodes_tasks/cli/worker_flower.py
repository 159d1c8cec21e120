"""The commands ``worker`` and ``flower``: Celery's own, with the application named."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from geodes_tasks.settings import config

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (worker, flower):
        app.command(context_settings=_PASS_ON)(command)


def worker(context: typer.Context) -> None:
    """Start a worker; further arguments go to `celery worker`."""
    _become_celery("worker", context.args)


def flower(context: typer.Context) -> None:
    """Start Flower; further arguments go to `celery flower`."""
    _become_celery("flower", context.args)


def _become_celery(command: str, arguments: list[str]) -> NoReturn:
    # Celery prints a traceback for wrong settings; here they become one line and exit code 2.
    config.load()
    os.execv(  # noqa: S606 - no shell
        sys.executable, [sys.executable, "-m", "celery", "-A", "worker", command, *arguments]
    )
