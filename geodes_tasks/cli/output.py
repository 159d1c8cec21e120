"""Output that the commands share: data go to standard output, messages to standard error."""

from __future__ import annotations

import json

from rich.console import Console

from geodes_tasks.errors import GeodesTasksError

# One console for all: rich draws one live display at a time on each.
stderr = Console(stderr=True)


def write_line(text: str) -> None:
    """Write one line to standard error, as it is."""
    stderr.print(text, highlight=False, markup=False, soft_wrap=True)


def write_error(error: GeodesTasksError) -> None:
    """Write an error and its remedy to standard error, in one line."""
    write_line(f"error: {str(error).rstrip('.')}. {error.hint}".rstrip())


def write_data(data: object) -> None:
    """Write a line to standard output: text as it is, all else as JSON."""
    print(data if isinstance(data, str) else json.dumps(data))  # noqa: T201 - the one place
