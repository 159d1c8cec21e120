"""The folders below which a worker writes, whatever path a batch names.

The path of a download comes out of Redis: everyone who can write there could name any file that the
worker may write. A worker refuses every path outside its ``DOWNLOAD_ROOTS`` before it opens a file;
where these are not set, outside its ``DOWNLOAD_DIR``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from geodes_tasks.errors import OutsideRootsError


class AllowedFolders:
    """Folders below which files may be written."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Store the folders; reads no disk yet."""
        self.folders = tuple(folders)

    def checked(self, path: str) -> Path:
        """Return the path if this worker may write there.

        Raises:
            OutsideRootsError: the path is relative, no path at all, or outside all folders.
        """
        with contextlib.suppress(ValueError):  # realpath: "embedded null byte"
            # Symbolic links are resolved first, so that one below a folder cannot lead out of it.
            # Links that are changed after this check: `transfer` publishes relative to the folder
            # that it opened, and only while this path still leads there.
            real = Path(os.path.realpath(path))
            allowed = [os.path.realpath(folder) for folder in self.folders]
            if Path(path).is_absolute() and any(map(real.is_relative_to, allowed)):
                return Path(path)
        raise OutsideRootsError(path, os.pathsep.join(map(str, self.folders)))
