"""The folders that a worker writes below, whatever a batch asks for.

The path of a download comes out of Redis: whoever can write there could name any file that the
worker may write. A worker that knows its roots refuses everything else, before it touches a disk.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from geodes_tasks.errors import OutsideRootsError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Roots:
    """Folders below which files may lie; none named is anywhere."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Take the folders; looks at no disk yet."""
        self.folders = tuple(folders)

    def checked(self, path: str) -> Path:
        """Give the path, when this worker may write there.

        Links are followed first, so that one below a root does not lead out of it. Whoever can
        make links there has the right to write on the machine already.

        Raises:
            OutsideRootsError: it may not.
        """
        if not self.folders:
            return Path(path)
        with contextlib.suppress(ValueError):  # a NUL in it: no path at all
            real = Path(os.path.realpath(path))
            if Path(path).is_absolute() and any(map(real.is_relative_to, self._real())):
                return Path(path)
        raise OutsideRootsError(path, os.pathsep.join(map(str, self.folders)))

    def _real(self) -> list[str]:
        return [os.path.realpath(folder) for folder in self.folders]
