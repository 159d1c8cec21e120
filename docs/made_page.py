"""The command line of a script that makes a page: write it, or check that it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def main(page: Callable[[], str], target: Path, arguments: list[str]) -> int:
    """Write the page, or check it; 1 when it is out of date.

    Args:
        page: Returns the text of the page.
        target: The page of the documentation.
        arguments: ``--check``, and a file in place of ``target``.
    """
    files = [Path(name) for name in arguments if name != "--check"]
    target = files[0] if files else target
    if "--check" not in arguments:
        target.write_text(page())
    elif not target.is_file() or target.read_text() != page():
        script = f"docs/{Path(sys.argv[0]).name}"
        sys.stderr.write(f"{target} is out of date: run python {script}\n")
        return 1
    return 0
