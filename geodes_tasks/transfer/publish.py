"""Publication under a name that no other file has: an existing file is never replaced."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from geodes_tasks.errors import DiskError
from geodes_tasks.transfer.disk import FolderCheck, closing, create

logger = logging.getLogger(__name__)

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}
)
"""Errors of ``os.link`` on a volume without hard links: EPERM on Linux (link(2)), others elsewhere.
"""


@contextlib.contextmanager
def parent_of(folder: int, final: Path, check: FolderCheck) -> Iterator[int]:
    """Open the parent of an open folder of part files, if the final name still leads there.

    Args:
        folder: Descriptor of the folder of part files.
        final: Final path of a file in its parent.
        check: Called with the descriptor of the parent.

    Raises:
        DiskError: another folder, or a link, has its name now.
        GeodesTasksError: what ``check`` raises.
    """
    with closing(os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)) as parent:
        # rename(2) takes names relative to an open folder: no link that is put in the way of the
        # path after this check leads the file elsewhere.
        is_there = False
        with contextlib.suppress(FileNotFoundError):
            is_there = os.path.samestat(os.fstat(parent), final.parent.stat())
        if not is_there:
            raise DiskError(str(final.parent), "it was exchanged during the transfer")
        check(parent)
        yield parent


def link_new(part: str, folder: int, name: str, parent: int) -> None:
    """Move a file to a free name of the same volume, safe against other processes.

    Args:
        part: Name of the file in its folder.
        folder: Descriptor of this folder.
        name: Its new name.
        parent: Descriptor of the folder of that name.

    Raises:
        FileExistsError: the name is taken; both files stay as they are.
        OSError: the folder does not take it.
    """
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        # The reply to a LINK over NFS may be lost and the client sends it again: the name then
        # exists and is this file (link(2), BUGS).
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = os.path.samestat(
                os.stat(part, dir_fd=folder, follow_symlinks=False),
                os.stat(name, dir_fd=parent, follow_symlinks=False),
            )
        if not is_ours:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT, FAT and some FUSE file systems: an empty file claims the name first (O_EXCL).
        os.close(create(name, parent))
        try:
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=parent)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            raise
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)


def warn_of_other_name(wanted: Path, what: str, final: Path) -> None:
    """Log that a file was published under another name than the wanted one, and why."""
    logger.warning(
        "%s exists and is not a proven copy of %s: it was not replaced; the new file is %s",
        wanted, what, final.name,
    )  # fmt: skip
