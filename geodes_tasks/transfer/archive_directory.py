"""The directory of a zip archive: its members judged before one is read, and those wanted of it."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import io
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from geodes_tasks.errors import ArchiveError, HostileNameError, NoMemberError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.transfer.destination import refused_name
from geodes_tasks.transfer.disk import open_file

MAX_MEMBERS = 500_000
"""Number of members of an archive, at most: a Zarr store has some 100,000 files."""
MEMBER_MARK = b"PK\x01\x02"
"""Bytes that begin the entry of a member in a directory (APPNOTE.TXT 4.3.12)."""
MAX_DIRECTORY_BYTES = 64 << 20
"""Bytes of a directory that are kept in memory, at most; 500,000 members have some 60 MB."""
MOST_RATIO = 200
"""Times that the members may be larger than the archive; deflate reaches 1,032 (zlib.net)."""
FREE_RATIO_BYTES = 1 << 30
"""Bytes of members up to which any ratio is accepted: products of empty pixels exist."""
NAMED_MEMBERS = 20
"""Number of members that a message names, at most."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Methods of compression that are undone. zipfile decompresses bzip2 and LZMA without a limit: of
1.6 kB come 4 GB in memory, whatever size the directory says."""
ENCRYPTED_FLAG = 1
"""Number of the bit that marks an encrypted member (APPNOTE.TXT 4.4.4), as a mask."""
MAX_OFFSET = 1 << 62
"""Position in an archive that is asked for, at most: the system takes 63 bits (lseek(2))."""


class Bounded(io.BufferedIOBase):
    """The bytes of an archive, of which no directory is read that would fill the memory.

    ``zipfile`` reads a directory at once and makes an object of each member, some 1 kB; so the
    members are counted in the bytes before that.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it.

        Raises:
            BadZipFile: it is beyond the end of any file.
        """
        # A field of zip64 has 64 bits: the position would be a ValueError.
        if abs(offset) > MAX_OFFSET:
            raise zipfile.BadZipFile("an offset is beyond the end of any file")
        return self.stream.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes.

        Raises:
            BadZipFile: they are a directory without measure.
        """
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {MAX_DIRECTORY_BYTES} bytes")
        content = self.stream.read(size)
        if content.count(MEMBER_MARK) > MAX_MEMBERS:
            raise zipfile.BadZipFile(f"it has more than {MAX_MEMBERS} members")
        return content


@contextlib.contextmanager
def open_archive(stream: io.BufferedIOBase, title: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive; a directory that would fill the memory is not read.

    Raises:
        ArchiveError: it is no sound zip archive, or its directory is without measure: also in
            place of the errors of ``zipfile`` in the block.
    """
    try:
        with zipfile.ZipFile(cast("IO[bytes]", Bounded(stream))) as archive:
            yield archive
    except (
        zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError, UnicodeDecodeError,
    ) as error:  # fmt: skip
        raise ArchiveError(title, f"is no sound zip archive: {error}") from error
    except OSError as error:
        # zipfile seeks where the archive says, before its start too (lseek(2), EINVAL).
        if error.errno != errno.EINVAL:
            raise
        raise ArchiveError(
            title, "is no sound zip archive: an offset is before its start"
        ) from error
    except KeyError as error:
        raise ArchiveError(title, str(error.args[0])) from error


def is_archive(path: Path) -> bool:
    """Return whether a file ends as a zip archive does.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as stream, contextlib.suppress(zipfile.BadZipFile):
        return zipfile.is_zipfile(stream)
    return False


def glob_matches(files: Mapping[str, zipfile.ZipInfo], pattern: str) -> dict[str, zipfile.ZipInfo]:
    """Return the files whose path, path in the archive, or name a glob matches.

    A slash in front is that of the archive's top; ``**/`` in front stands for any folders or none.
    """
    globs = {pattern, pattern.removeprefix("/"), pattern.removeprefix("**/")}
    # One expression for all: an archive may have 500,000 members. fnmatch.translate keeps case;
    # fnmatch itself would fold it on Windows only, and sets must be equal everywhere.
    matches = re.compile("|".join(fnmatch.translate(glob) for glob in sorted(globs))).match
    return {
        path: info
        for path, info in files.items()
        if not info.is_dir() and any(map(matches, (path, info.filename, path.rpartition("/")[2])))
    }


def selected(
    files: Mapping[str, zipfile.ZipInfo], patterns: Sequence[str], title: str
) -> dict[str, zipfile.ZipInfo]:
    """Return the files that one of some globs matches.

    Raises:
        NoMemberError: a glob matches none.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for pattern in patterns:
        matched = glob_matches(files, pattern)
        if not matched:
            raise no_member(files, pattern, title)
        found |= matched
    return found


def no_member(files: Mapping[str, zipfile.ZipInfo], pattern: str, title: str) -> NoMemberError:
    """Return the error of a name or pattern that none of some files has."""
    return NoMemberError(title, printable(pattern), some_names(files))


def some_names(files: Mapping[str, zipfile.ZipInfo]) -> str:
    """Return the first names of files in one line, and the number of the others."""
    names = [path for path, info in files.items() if not info.is_dir()] or ["no files"]
    shown = ", ".join(printable(name) for name in names[:NAMED_MEMBERS])
    more = len(names) - NAMED_MEMBERS
    return f"{shown} and {more} more" if more > 0 else shown


def is_readable(info: zipfile.ZipInfo) -> bool:
    """Return whether a member can be decompressed."""
    return not info.flag_bits & ENCRYPTED_FLAG and info.compress_type in METHODS


def check_readable(infos: Iterable[zipfile.ZipInfo], title: str) -> None:
    """Check that members can be decompressed.

    Raises:
        ArchiveError: one is encrypted, or compressed by another method than deflate.
    """
    for info in infos:
        name = printable(info.filename)
        if info.flag_bits & ENCRYPTED_FLAG:
            raise ArchiveError(title, f"its member {name!r} is encrypted")
        if info.compress_type not in METHODS:
            # Numbers of methods: APPNOTE.TXT 4.4.5; 9 is Deflate64, which Windows uses above 2 GB.
            problem = f"is compressed by method {info.compress_type}, which is not undone here"
            raise ArchiveError(title, f"its member {printable(name)!r} {problem}")


def checked(
    archive: zipfile.ZipFile, stream: io.BufferedIOBase, asset: Asset, folder_name: str
) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their path below a folder; nothing is written yet.

    Raises:
        ArchiveError: too many members, or a bomb.
        HostileNameError: a member would leave the folder, is no file, or collides with another.
    """
    infos, size = archive.infolist(), stream.seek(0, os.SEEK_END)
    if any(info.volume for info in infos):
        raise ArchiveError(asset.title, "is one part of a split archive")
    packed = sum(info.compress_size for info in infos)
    total = sum(info.file_size for info in infos)
    # Members that share bytes: https://www.bamsoftware.com/hacks/zipbomb/
    if packed > size:
        lie = f"of {size} bytes claims to hold {packed} packed ones: it was cut, or is a bomb"
        raise ArchiveError(asset.title, lie)
    if total > max(size * MOST_RATIO, FREE_RATIO_BYTES):
        raise ArchiveError(asset.title, f"of {size} bytes claims to hold {total}: it is a bomb")
    names = [info.filename.rstrip("/") for info in infos]
    below = f"{folder_name}/"
    is_doubled = all(
        name.startswith(below) or (name == folder_name and info.is_dir())
        for name, info in zip(names, infos, strict=True)
    )
    files: dict[str, zipfile.ZipInfo] = {}
    taken: dict[int, bool] = {}
    for name, info in zip(names, infos, strict=True):
        path = name.removeprefix(below) if is_doubled else name
        if is_doubled and name == folder_name:
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        problem = refused_name(path)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            problem = "is a link or another special file"
        if not problem and _is_taken(taken, path, is_folder=info.is_dir()):
            problem = "has the name of another member"
        if problem:
            raise HostileNameError(asset.title, f"its member {printable(name)!r} {problem}")
        if len(taken) > 2 * MAX_MEMBERS:
            raise ArchiveError(asset.title, f"has more than {MAX_MEMBERS} folders: it is a bomb")
        files[path] = info
    return files


def _is_taken(taken: dict[int, bool], path: str, *, is_folder: bool) -> bool:
    """Record the name of a member and those of its folders; return whether another has one."""
    # Two names that are one on a file system that folds case or composes characters.
    folded = unicodedata.normalize("NFC", path).casefold()
    for at, letter in enumerate(folded):
        # Numbers: the names of the 99 folders that one path can name have 0.2 MB.
        if letter == "/" and not taken.setdefault(hash(folded[:at]), True):
            return True
    whole = hash(folded)
    if whole in taken and not (taken[whole] and is_folder):
        return True
    taken[whole] = is_folder
    return False
