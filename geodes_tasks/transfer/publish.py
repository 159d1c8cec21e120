"""Publication under a name that no other file has: an existing file is never replaced."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from geodes_tasks.errors import DiskError
from geodes_tasks.transfer.disk import closing

logger = logging.getLogger(__name__)

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}
)
"""Errors of ``os.link`` on a volume without hard links: EPERM on Linux (link(2)), others elsewhere.
"""


@contextlib.contextmanager
def parent_of(folder: int, final: Path) -> Iterator[int]:
    """Open the parent of an open folder of part files, if the final name still leads there.

    Raises:
        DiskError: another folder, or a link, has its name now.
    """
    with closing(os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)) as parent:
        # rename(2) takes names relative to an open folder: no link that is put in the way of the
        # path after this check leads the file elsewhere.
        if not os.path.samestat(os.fstat(parent), final.parent.stat()):
            raise DiskError(str(final.parent), "it was exchanged during the transfer")
        yield parent


def link_new(path: Path, name: Path) -> None:
    """Move a file to a free name of the same volume, safe against other processes.

    Raises:
        FileExistsError: the name is taken; both files stay as they are.
        OSError: the folder does not take it.
    """
    try:
        os.link(path, name, follow_symlinks=False)
    except FileExistsError:
        # The reply to a LINK over NFS may be lost and the client sends it again: the name then
        # exists and is this file (link(2), BUGS).
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = os.path.samestat(path.lstat(), name.lstat())
        if not is_ours:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT, FAT and some FUSE file systems: an empty file claims the name first (O_EXCL).
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            path.replace(name)
        except OSError:
            name.unlink(missing_ok=True)
            raise
        return
    path.unlink(missing_ok=True)


def warn_of_other_name(wanted: Path, what: str, final: Path) -> None:
    """Log that a file was published under another name than the wanted one, and why."""
    logger.warning(
        "%s exists and is not a proven copy of %s: it was not replaced; the new file is %s",
        wanted, what, final.name,
    )  # fmt: skip
