"""The directory of a zip archive: its members judged before one is read, and those wanted of it."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from geodes_tasks.errors import ArchiveError, HostileNameError, NoMemberError, TooLargeError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.transfer.destination import refused_name
from geodes_tasks.transfer.disk import disk_errors, space_of

MAX_MEMBERS = 500_000
"""Number of members of an archive, at most: a Zarr store has some 100,000 files."""
MOST_RATIO = 200
"""Times that the members may be larger than the archive; deflate reaches 1,032 (zlib.net)."""
FREE_RATIO_BYTES = 1 << 30
"""Bytes of members up to which any ratio is accepted: products of empty pixels exist."""
NAMED_MEMBERS = 20
"""Number of members that a message names, at most."""


class KnownDirectories(Protocol):
    """KnownDirectories of archives that earlier downloads have read."""

    def find(self, asset: Asset) -> bytes:
        """Return the end of an archive from its directory on; b"" where it must be requested."""
        ...

    def keep(self, asset: Asset, content: bytes) -> None:
        """Keep the end of an archive from its directory on."""
        ...


@contextlib.contextmanager
def named_errors(title: str) -> Iterator[None]:
    """Raise the errors of ``zipfile`` in this block as ArchiveError."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        raise ArchiveError(title, f"is no sound zip archive: {error}") from error
    except RuntimeError as error:
        # zipfile has no class of its own for a member that wants a password.
        raise ArchiveError(title, str(error)) from error
    except KeyError as error:
        raise ArchiveError(title, str(error.args[0])) from error


def selected(
    files: Mapping[str, zipfile.ZipInfo], patterns: Sequence[str], title: str
) -> dict[str, zipfile.ZipInfo]:
    """Return the files whose path, path in the archive, or name matches one of some globs.

    Raises:
        NoMemberError: a glob matches none.
    """
    names = {path: info for path, info in files.items() if not info.is_dir()}
    # fnmatchcase: fnmatch would fold case on Windows only, and sets must be equal everywhere.
    found: dict[str, zipfile.ZipInfo] = {}
    for pattern in patterns:
        matched = {
            path: info
            for path, info in names.items()
            if any(
                fnmatch.fnmatchcase(name, pattern)
                for name in (path, info.filename, path.rpartition("/")[2])
            )
        }
        if not matched:
            shown = ", ".join(printable(name) for name in list(names)[:NAMED_MEMBERS])
            more = len(names) - NAMED_MEMBERS
            there = f"{shown} and {more} more" if more > 0 else shown
            raise NoMemberError(title, printable(pattern), there)
        found |= matched
    return found


def checked(
    archive: zipfile.ZipFile, stream: IO[bytes], asset: Asset, final: Path
) -> dict[str, zipfile.ZipInfo]:
    """Return the wanted members by their path below the folder; nothing is written yet.

    Raises:
        NoMemberError: a pattern of the asset matches none.
        ArchiveError: encrypted, too many members, or a bomb.
        HostileNameError: a member would leave the folder, is no file, or collides with another.
        TooLargeError: the volume can never take them.
    """
    infos, size = archive.infolist(), stream.seek(0, os.SEEK_END)
    if len(infos) > MAX_MEMBERS:
        raise ArchiveError(asset.title, f"has {len(infos)} members, the most is {MAX_MEMBERS}")
    total = sum(info.file_size for info in infos)
    # Members that share bytes: https://www.bamsoftware.com/hacks/zipbomb/
    if sum(info.compress_size for info in infos) > size or (
        total > max(size * MOST_RATIO, FREE_RATIO_BYTES)
    ):
        raise ArchiveError(asset.title, f"of {size} bytes claims to hold {total}: it is a bomb")
    names = [info.filename.rstrip("/") for info in infos]
    below = f"{final.name}/"
    is_doubled = all(
        name.startswith(below) or (name == final.name and info.is_dir())
        for name, info in zip(names, infos, strict=True)
    )
    files: dict[str, zipfile.ZipInfo] = {}
    taken: dict[str, bool] = {}
    for name, info in zip(names, infos, strict=True):
        if info.flag_bits & 1:
            raise ArchiveError(asset.title, f"its member {name!r} is encrypted")
        path = name.removeprefix(below) if is_doubled else name
        if is_doubled and name == final.name:
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        problem = refused_name(path)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            problem = "is a link or another special file"
        # Two names that are one on a file system that folds case or composes characters.
        folded = unicodedata.normalize("NFC", path).casefold()
        parents = [folded[:at] for at, letter in enumerate(folded) if letter == "/"]
        if (folded in taken and not (taken[folded] and info.is_dir())) or any(
            taken.get(parent) is False for parent in parents
        ):
            problem = "has the name of another member"
        if problem:
            raise HostileNameError(asset.title, f"its member {name!r} {problem}")
        taken |= dict.fromkeys(parents, True) | {folded: info.is_dir()}
        files[path] = info
    if asset.members:
        files = selected(files, asset.members, asset.title)
    total = sum(info.file_size for info in files.values())
    with disk_errors(final):
        space = space_of(next(parent for parent in final.parents if parent.exists()))
    if space.is_known and total > space.capacity_bytes:
        raise TooLargeError(str(final), f"{total} bytes needed, the volume has {space.total_bytes}")
    return files
