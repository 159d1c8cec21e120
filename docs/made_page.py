"""The command line of a script that makes files of this folder: write them, or check them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def main(make: Callable[[Path], Mapping[Path, str]], target: Path, arguments: list[str]) -> int:
    """Write the files, or check that they are up to date; 1 when one is not.

    Args:
        make: Returns the text of each file; its argument is the page, or the folder of the files.
        target: The page, or the folder.
        arguments: ``--check``, and a path in place of ``target``.
    """
    paths = [Path(name) for name in arguments if name != "--check"]
    files = make(paths[0] if paths else target)
    if "--check" not in arguments:
        for path, text in files.items():
            path.write_text(text)
        return 0
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        script = f"docs/{Path(sys.argv[0]).name}"
        sys.stderr.write(f"{path} is out of date: run python {script}\n")
    return 1 if stale else 0
