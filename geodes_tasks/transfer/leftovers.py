"""Part files that dead attempts at the same content left: find, order and remove them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from geodes_tasks.errors import DiskError
from geodes_tasks.transfer.destination import NAME_BYTES, PART_FOLDER
from geodes_tasks.transfer.disk import (
    FolderCheck,
    closing,
    create,
    disk_errors,
    open_below,
    open_file,
    open_folder,
    outside_part_folders,
    size_of,
)

ADOPT_MIN_BYTES = 64 * 1024
"""Size in bytes from which a leftover is adopted; fetching less costs no more than the copy."""
ETAG_BYTES = 4096
"""Bytes of a validator, at most: servers accept header lines of some 8 KiB."""
FOLDER_ENDING = "folder"
"""Suffix of the folder in which a product of many files grows."""
_ENDINGS = frozenset({"part", "adopted.part", "etag", "adopted.etag", FOLDER_ENDING})


def stem(final: Path, content: str) -> str:
    """Return what the names of all part files of one download begin with.

    A newer version of a file has the same name, so the name alone does not identify the content: a
    digest of both does. A long name is shortened so that token and suffix fit into 255 bytes.
    """
    digest = hashlib.sha256(f"{final.name}\n{content}".encode()).hexdigest()[:12]
    name = os.fsencode(final.name)[: NAME_BYTES - 64].decode(errors="ignore")
    return f"{name}.{digest}"


class Leftovers:
    """Part files that attempts with a lower token left for the same content.

    Tokens rise: an attempt that lost its lease must not rob the attempt that has it now.
    """

    def __init__(self, final: Path, content: str, token: int) -> None:
        """Take the identity of a part file; nothing is read yet."""
        self.final, self.token = final, token
        self.folder, self.stem = final.parent / PART_FOLDER, stem(final, content)
        self.is_first = False
        """Whether no earlier attempt had left anything at the first scan."""
        self.descriptor = -1
        """Of the folder of part files while a part file is open in it, else -1."""

    def __iter__(self) -> Iterator[Path]:
        """Yield all files and folders of earlier attempts.

        Raises:
            DiskError: the folder cannot be read.
        """
        with (
            disk_errors(self.final),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            if self.descriptor >= 0:
                yield from self._below(self.descriptor)
                return
            # Opened as no link: files elsewhere are not swept up.
            with closing(open_folder(self.folder)) as folder:
                yield from self._below(folder)

    def _below(self, folder: int) -> Iterator[Path]:
        prefix = f"{self.stem}."
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(prefix):
                    continue
                token, _, ending = entry.name.removeprefix(prefix).partition(".")
                is_number = token.isascii() and token.isdigit()
                if ending in _ENDINGS and is_number and int(token) < self.token:
                    yield self.folder / entry.name

    def longest(self) -> Path | None:
        """Return the longest part file that is worth adopting; None when there is none.

        Raises:
            DiskError: the folder cannot be read.
        """
        if self.is_first:
            return None
        others = list(self)
        parts = [(size_of(path), path) for path in others if path.name.endswith(".part")]
        # One scan is enough when it found nothing: what comes later is no dead attempt's.
        self.is_first = not others
        best = max(parts, default=None)
        return best[1] if best and best[0] >= ADOPT_MIN_BYTES else None

    def folders(self) -> list[Path]:
        """Return the product folders of earlier attempts, the latest first.

        Raises:
            DiskError: the folder cannot be read.
        """
        ending = f".{FOLDER_ENDING}"
        found = [path for path in self if path.name.endswith(ending) and not path.is_symlink()]
        return sorted(found, key=lambda path: int(path.name.split(".")[-2]), reverse=True)

    def sweep(self) -> None:
        """Remove all that earlier attempts left.

        Raises:
            DiskError: the folder cannot be read.
        """
        for path in list(self):
            remove_any(path)


def part_folder(folder: Path, check: FolderCheck) -> int:
    """Return a descriptor of a folder of part files, which is created where it is missing.

    No link in its place is followed. All users who may write to its parent may write to it.

    Args:
        folder: The folder.
        check: Called with the descriptor of the folder above it, before anything is created there.

    Raises:
        DiskError, NotAFileError: it cannot be created, or something else has its name.
        OSError: the folder above it cannot be opened or created.
        GeodesTasksError: what ``check`` raises.
    """
    with closing(_parent(folder.parent, check)) as parent, disk_errors(folder):
        # An attempt that ends removes the empty folder, possibly between our mkdir and open.
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                return open_below(parent, [folder.name])
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder.name, dir_fd=parent)
                # The umask decides on files. With 022 it would also close this folder to the users
                # who share the parent: they adopt and remove the parts of each other.
                shared = stat.S_IMODE(os.fstat(parent).st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
                if shared & (stat.S_IWGRP | stat.S_IWOTH):
                    with closing(open_below(parent, [folder.name])) as made:
                        os.fchmod(made, stat.S_IMODE(os.fstat(made).st_mode) | shared)
    raise DiskError(str(folder), "the folder vanishes as soon as it is made")


def _parent(folder: Path, check: FolderCheck) -> int:
    """Return a descriptor of the folder of a final file; it is created where it is missing."""
    # A product that grows in a folder of part files: no link is followed on the way from there.
    top, below = outside_part_folders(folder)
    try:
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        top.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    with closing(descriptor):
        check(descriptor)
        return open_below(descriptor, below, make=True)


def etag_path(part: Path) -> Path:
    """Return the file that keeps the validator of a part file's bytes."""
    return part.with_name(part.name.removesuffix(".part") + ".etag")


def read_etag(part: Path) -> str | None:
    """Return the validator that the server sent with those bytes; None when there is none."""
    # A link would send the first line of any file of this user to the server, in If-Range.
    with contextlib.suppress(OSError, ValueError), open_file(etag_path(part)) as stream:
        return stream.read(ETAG_BYTES).decode() or None
    return None


def write_etag(part: Path, etag: str, folder: int) -> None:
    """Record the validator of a part file's bytes in its folder, which is open; "" for none.

    Raises:
        OSError: it cannot be written, or another file of that name came in between.
    """
    path = etag_path(part)
    path.unlink(missing_ok=True)  # of this attempt, before it began anew
    if not etag:
        return
    with closing(create(path.name, folder)) as descriptor:
        os.write(descriptor, etag.encode()[:ETAG_BYTES])


def remove(part: Path) -> None:
    """Remove a part file and its validator; what cannot be removed is left without an error.

    The error that ended the attempt must not be hidden by one of the clean-up.
    """
    for path in (part, etag_path(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_any(path: Path) -> None:
    """Remove a file or a folder; what cannot be removed is left without an error."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # unlink(2) reports EISDIR for a folder, EPERM on some systems: try it as a folder.
        shutil.rmtree(path, ignore_errors=True)
