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

_ABOVE = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
"""Flags of open(2) for a folder that is passed through: with O_PATH it need not be readable."""


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
        # realpath: "embedded null byte"; a link that became a folder meanwhile (EINVAL).
        with contextlib.suppress(ValueError, OSError):
            # Symbolic links are resolved first, so that one below a folder cannot lead out of it.
            # Links that are changed after this check: see ``check_open``.
            real = Path(os.path.realpath(path))
            allowed = [os.path.realpath(folder) for folder in self.folders]
            if Path(path).is_absolute() and any(map(real.is_relative_to, allowed)):
                return Path(path)
        raise self._refusal(path)

    def check_open(self, path: str, descriptor: int) -> None:
        """Check that an open folder is one of the folders, or below one.

        The names on a path may be links by now, and folders a moment later: what is open stays.

        Raises:
            OutsideRootsError: it is elsewhere; its path is named as it was given.
            OSError: a folder above it cannot be opened.
        """
        roots = list[os.stat_result]()
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                roots.append(folder.stat())
        current = os.dup(descriptor)
        try:
            found = os.fstat(current)
            while not any(os.path.samestat(found, root) for root in roots):
                above = os.open("..", _ABOVE, dir_fd=current)
                os.close(current)
                current, below, found = above, found, os.fstat(above)
                if os.path.samestat(below, found):  # the root of the file system
                    raise self._refusal(path)
        finally:
            os.close(current)

    def _refusal(self, path: str) -> OutsideRootsError:
        return OutsideRootsError(path, os.pathsep.join(map(str, self.folders)))
