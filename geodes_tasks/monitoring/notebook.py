"""Where words and progress go: a terminal, a notebook, a log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from geodes_tasks.monitoring.html import Html, in_notebook
from geodes_tasks.monitoring.progress import view

if TYPE_CHECKING:
    from geodes_tasks.monitoring.progress import View


def console() -> Console:
    """Give the console for words to the user: stderr, but plain output in a notebook."""
    if in_notebook():
        # rich would draw its own HTML, and a notebook shows stderr as if it were a mistake.
        return Console(file=sys.stdout, force_jupyter=False, width=100, no_color=True)
    return Console(stderr=True)


def say(text: str) -> None:
    """Tell the user something, in one line."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def progress(*, quiet: bool = False) -> View:
    """Choose how to show progress here."""
    if not quiet and in_notebook():
        return Html()
    return view(console(), quiet=quiet)
