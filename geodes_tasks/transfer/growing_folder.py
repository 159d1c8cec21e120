"""Folders that grow under a temporary name, with one owner, and appear whole: as part files do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geodes_tasks.errors import DiskError, LeaseLostError
from geodes_tasks.transfer.disk import FolderCheck, closing, disk_errors, open_below
from geodes_tasks.transfer.leftovers import FOLDER_ENDING, Leftovers, part_folder, remove_any
from geodes_tasks.transfer.publish import parent_of


@dataclass(frozen=True, slots=True)
class GrowingFolder:
    """The folder of one attempt, which is open."""

    final: Path
    """Path of the folder once all its files are verified."""
    path: Path
    """Its temporary path."""
    hidden: int
    """Descriptor of the folder of part files, in which it grows."""
    descriptor: int
    check: FolderCheck
    """Called with the open folder of the final path before it is published there."""

    def publish(self) -> bool:
        """Rename the folder to its final name, in one step; return False where that is taken.

        Raises:
            LeaseLostError: another attempt has adopted this folder.
            DiskError: the disk does not take it, or something else has the temporary name.
        """
        with disk_errors(self.final), parent_of(self.hidden, self.final, self.check) as parent:
            try:
                named = os.stat(self.path.name, dir_fd=self.hidden, follow_symlinks=False)
                if not os.path.samestat(named, os.fstat(self.descriptor)):
                    raise DiskError(str(self.final.parent), "it was exchanged during the transfer")
                # rename(2) replaces an empty folder; ENOTEMPTY or ENOTDIR is another one.
                names = self.path.name, self.final.name
                os.rename(*names, src_dir_fd=self.hidden, dst_dir_fd=parent)
            except FileNotFoundError as error:
                raise LeaseLostError(str(self.final)) from error
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    raise
                return False
        return True


@contextlib.contextmanager
def growing_folder(
    final: Path, content: str, token: str, check: FolderCheck, *, is_kept: bool
) -> Iterator[GrowingFolder]:
    """Create the folder of an attempt, and close it at the end of the block.

    Args:
        final: Path of the folder once all its files are verified.
        content: Identity of the content; folders of other content are never adopted.
        token: Token of the attempt, a number higher than that of all attempts before it.
        check: Called with the open folder of the final path before something is created in it.
        is_kept: Whether the files stay for the next attempt, which adopts the folder.

    Raises:
        DiskError, NotAFileError: it cannot be created.
    """
    leftovers = Leftovers(final, content, int(token))
    path = leftovers.folder / f"{leftovers.stem}.{token}.{FOLDER_ENDING}"
    with contextlib.ExitStack() as stack:
        if not is_kept:
            leftovers.sweep()
            remove_any(path)
            stack.callback(remove_any, path)
        with disk_errors(final):
            hidden = stack.enter_context(closing(part_folder(path.parent, check)))
            for earlier in leftovers.folders() if is_kept else ():
                with contextlib.suppress(OSError):
                    earlier.rename(path)
                    break
            descriptor = stack.enter_context(closing(open_below(hidden, [path.name], make=True)))
        yield GrowingFolder(final, path, hidden, descriptor, check)
