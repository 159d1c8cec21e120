"""Members of a remote zip archive: listed and fetched with range requests, over any transport."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from remotezip import PartialBuffer, RemoteZip, RemoteZipError

from geodes_tasks.errors import (
    ArchiveError,
    HostileNameError,
    NoRangesError,
    SourceUnavailableError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import READ_BYTES
from geodes_tasks.model.formatting import printable
from geodes_tasks.transfer.destination import PART_FOLDER, numbered, refused_name
from geodes_tasks.transfer.disk import disk_errors
from geodes_tasks.transfer.publish import link_new, warn_of_other_name
from geodes_tasks.transports import Body, Transport


@contextlib.contextmanager
def remote(asset: Asset, transports: Mapping[str, Transport]) -> Iterator[zipfile.ZipFile]:
    """Open a remote archive; only the list of its members is read yet.

    Raises:
        NoRangesError: the server does not serve ranges.
        ArchiveError: no zip archive.
        GeodesTasksError: what the transports raise.
    """
    fetcher = _Fetcher(asset, transports)
    with _named_errors(asset.title), RemoteZip(asset.key, fetcher=fetcher.reused) as archive:
        yield archive


@contextlib.contextmanager
def local(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive on disk.

    Raises:
        ArchiveError: no zip archive.
    """
    with _named_errors(path.name), zipfile.ZipFile(path) as archive:
        yield archive


@contextlib.contextmanager
def _named_errors(title: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, RemoteZipError, NotImplementedError, zlib.error, EOFError) as error:
        raise ArchiveError(title, f"is no sound zip archive: {error}") from error
    except RuntimeError as error:
        # zipfile has no class of its own for a member that wants a password.
        raise ArchiveError(title, str(error)) from error
    except KeyError as error:
        raise ArchiveError(title, str(error.args[0])) from error


def members(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of all members, folders included, in the order of the archive."""
    return archive.namelist()


def matching(archive: zipfile.ZipFile, pattern: str) -> list[str]:
    """Return the names that a regular expression, or a glob, matches as a whole."""
    try:
        matches = re.compile(pattern).fullmatch
    except re.error:
        # `*.tif` is no regular expression ("nothing to repeat") and a usual glob.
        matches = re.compile(fnmatch.translate(pattern)).fullmatch
    return [name for name in archive.namelist() if matches(name)]


def extract(archive: zipfile.ZipFile, names: Iterable[str], folder: Path) -> list[Path]:
    """Extract members of an archive; each appears whole, its CRC proven, or not at all.

    An existing file is never replaced: if it is a copy of the member, it is left as it is; if not,
    the member is published with ``-1``, ``-2``, ... before its suffix.

    Args:
        archive: From :func:`remote` or :func:`local`.
        names: Names of members; folders among them are skipped.
        folder: Target folder; members keep their path in the archive, which cannot lead out of it.

    Returns:
        The path of each file, in the order of ``names``.

    Raises:
        ArchiveError: there is no such member, or it is damaged.
        HostileNameError: its name cannot be a file name everywhere.
        DiskError: the folder does not take it.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Not in the folder of part files: a download that ends may remove it at any time.
        with tempfile.TemporaryDirectory(prefix=f"{PART_FOLDER}-members-", dir=folder) as hidden:
            wanted = [name for name in names if not name.endswith("/")]
            return [_extracted(archive, name, Path(hidden), folder) for name in wanted]


def _extracted(archive: zipfile.ZipFile, name: str, hidden: Path, folder: Path) -> Path:
    member = archive.getinfo(name)
    # As ZipFile.extract does: neither a root nor `..` leads out of the folder (CVE-2007-4559
    # describes what archives without this check can overwrite).
    parts = [part for part in member.filename.split("/") if part not in {"", ".", ".."}]
    if problem := refused_name("/".join(parts)):
        raise HostileNameError(folder.name, f"the member {printable(name)!r} {problem}")
    wanted, found = folder.joinpath(*parts), None
    for final in numbered(wanted):
        if _is_copy(final, member):
            break
        if os.path.lexists(final):
            continue
        found = found or Path(archive.extract(member, hidden))
        final.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link_new(found, final)
            break
    if final != wanted:
        warn_of_other_name(wanted, name, final)
    return final


def _is_copy(path: Path, member: zipfile.ZipInfo) -> bool:
    """Return whether a file has the size and the CRC of a member."""
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    crc = 0
    with path.open("rb") as stream:
        while piece := stream.read(READ_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc == member.CRC


class _Fetcher:
    """Fetcher of remotezip that opens ranges with the transports of a download."""

    def __init__(self, asset: Asset, transports: Mapping[str, Transport]) -> None:
        self._asset = asset
        self._sources = [(name, transports[name]) for name in transports if name in asset.hrefs]
        self._size = asset.size_bytes

    def reused(self, *_: object, **__: object) -> _Fetcher:
        """Return this fetcher where remotezip would construct one of its own."""
        return self

    def fetch(self, data_range: tuple[int, int | None], stream: bool = False) -> PartialBuffer:
        """Return the bytes of a range, both ends included; a negative start counts from the end."""
        size = self._total()
        first, last = data_range
        if first < 0:
            first, last = max(size + first, 0), size - 1
        length = (size if last is None else last + 1) - first
        return PartialBuffer(self._opened(first, length), first, length, stream)

    def _opened(self, first: int, length: int) -> _Bytes:
        for position, (name, transport) in enumerate(self._sources, start=1):
            try:
                opened = _Bytes(transport, self._asset.hrefs[name], first, length)
            except SourceUnavailableError:
                if position == len(self._sources):
                    raise
            else:
                if opened.offset == first:
                    return opened
                opened.close()
        raise NoRangesError(self._asset.title)

    def _total(self) -> int:
        if self._size is None:
            for name, transport in self._sources:
                with (
                    contextlib.suppress(SourceUnavailableError),
                    transport.open(self._asset.hrefs[name]) as body,
                ):
                    self._size = self._size or body.total_bytes
        if self._size is None:
            raise NoRangesError(self._asset.title)
        return self._size


class _Bytes:
    """A body as the file object that remotezip reads; bytes behind the range are never read."""

    def __init__(self, transport: Transport, href: str, first: int, length: int) -> None:
        self._stack = contextlib.ExitStack()
        body: Body = self._stack.enter_context(transport.open(href, offset=first))
        self.offset = body.offset
        self._chunks, self._rest, self._left = body.chunks, b"", length
        self._position = 0
        self.closed = False

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end."""
        size = min(size, self._left)
        gathered = bytearray(self._rest)
        while len(gathered) < size and (chunk := next(self._chunks, b"")):
            gathered += chunk
        self._rest = bytes(gathered[size:])
        self._left -= size
        self._position += size
        return bytes(gathered[:size])

    def tell(self) -> int:
        """Return the position within the range, in bytes."""
        return self._position

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._stack.close()
