"""The folders below which a worker writes, whatever path a batch names.

The path of a download comes out of Redis: everyone who can write there could name any file that the
worker may write. A worker refuses every path outside its ``DOWNLOAD_ROOTS`` before it opens a file;
where these are not set, outside its ``DOWNLOAD_DIR``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from geodes_tasks.errors import OutsideRootsError
from geodes_tasks.transfer import disk

FRESH_S = 1.0
"""Seconds for which it is remembered where a folder is: most files go where the last one went."""
FOLDERS = 1000
"""Number of folders that are remembered, at most."""

_ABOVE = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
"""Flags of open(2) for a folder that is passed through: with O_PATH it need not be readable."""


class AllowedFolders:
    """Folders below which files may be written."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Store the folders; reads no disk yet."""
        self.folders = tuple(folders)
        self._real: dict[tuple[str, bool], tuple[float, str]] = {}
        """Path of a folder, and whether its mount is checked, to when and what it was resolved."""
        self._inside: dict[tuple[int, int], float] = {}
        """Device and inode of a folder to when it was found to be an allowed one."""

    def checked(self, path: str) -> Path:
        """Return the path if this worker may write there.

        Raises:
            OutsideRootsError: the path is relative, no path at all, or outside all folders.
            DiskError: the file system that was there is not mounted any more.
        """
        # realpath: "embedded null byte"; a link that became a folder meanwhile (EINVAL).
        with contextlib.suppress(ValueError, OSError):
            # Symbolic links are resolved first, so that one below a folder cannot lead out of it.
            # Links that are changed after this check: see ``check_open``.
            parent, name = os.path.split(path)
            is_plain = name not in {"", ".", ".."} and not is_link(path)
            real = (
                Path(self._resolved(parent, is_checked=True), name)
                if is_plain
                else Path(os.path.realpath(path))
            )
            # A folder that is not mounted concerns only what is below it.
            allowed = map(self._resolved, self.folders)
            if (wanted := Path(path)).is_absolute() and any(map(real.is_relative_to, allowed)):
                return wanted
        raise self._refusal(path)

    def check_open(self, path: str, descriptor: int) -> None:
        """Check that an open folder is one of the folders, or below one.

        The names on a path may be links by now, and folders a moment later: what is open stays.

        Raises:
            OutsideRootsError: it is elsewhere; its path is named as it was given.
            OSError: a folder above it cannot be opened.
        """
        folder = os.fstat(descriptor)
        # Where a folder was a moment ago: a link in the place of its name leads to another one.
        key, now = (folder.st_dev, folder.st_ino), time.monotonic()
        if now - self._inside.get(key, float("-inf")) < FRESH_S:
            return
        self._walk_up(path, descriptor)
        if len(self._inside) >= FOLDERS:
            self._inside.clear()
        self._inside[key] = now

    def _walk_up(self, path: str, descriptor: int) -> None:
        """Open the folders above an open one until one is allowed; raises as ``check_open``."""
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

    def _resolved(self, folder: str | Path, *, is_checked: bool = False) -> str:
        """Return the real path of a folder, as it was up to ``FRESH_S`` ago; raises DiskError."""
        key, now = (str(folder), is_checked), time.monotonic()
        known = self._real.get(key)
        if known is None or now - known[0] >= FRESH_S:
            if len(self._real) >= FOLDERS:
                self._real.clear()
            real = os.path.realpath(folder)
            if is_checked:
                disk.check_mounted(real)
            known = self._real[key] = now, real
        return known[1]

    def _refusal(self, path: str) -> OutsideRootsError:
        return OutsideRootsError(path, os.pathsep.join(map(str, self.folders)))


def is_link(path: str) -> bool:
    """Return whether a path is a symbolic link.

    Raises:
        ValueError: it is no path: it has a null character.
    """
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False
