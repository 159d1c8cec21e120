"""Output that the commands share: data go to standard output, messages to standard error."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.model.formatting import escaped
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.monitoring.wording import in_words

# One console for all: rich draws one live display at a time on each. Without `emoji=False`, here
# and at every other console, it would draw a picture in place of `:id:` in a URN.
stderr = Console(stderr=True, emoji=False)


def write_line(text: str) -> None:
    """Write text to standard error; what a terminal would obey is escaped."""
    stderr.print(escaped(text, "\n"), highlight=False, markup=False, soft_wrap=True)


def write_error(error: GeodesTasksError) -> None:
    """Write an error and its remedy to standard error, in one line."""
    write_line(in_words("error", ErrorInfo.of(error)))


def write_data(data: object) -> None:
    """Write a line to standard output: text as it is, all else as JSON.

    On a terminal text is escaped, as `ls` does it with names; a pipe gets it as it is.
    """
    text = data if isinstance(data, str) else json.dumps(data)
    print(escaped(text, "\n") if sys.stdout.isatty() else text)  # noqa: T201 - the one place
