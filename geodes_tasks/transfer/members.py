"""Members of a zip archive at a source: its directory and their bytes, and nothing else of it."""

from __future__ import annotations

import bisect
import contextlib
import fnmatch
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from geodes_tasks.errors import (
    HostileNameError,
    NoRangesError,
    SourceUnavailableError,
    TransferError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.results import MemberFile
from geodes_tasks.transfer.archive_directory import KnownDirectories, named_errors, selected
from geodes_tasks.transfer.callbacks import Callbacks, NoCallbacks
from geodes_tasks.transfer.destination import PART_FOLDER, numbered, refused_name
from geodes_tasks.transfer.disk import disk_errors
from geodes_tasks.transfer.fallback import Source
from geodes_tasks.transfer.publish import link_new, warn_of_other_name
from geodes_tasks.transfer.unpack import is_member
from geodes_tasks.transports import Transport

TAIL_BYTES = 32 * 1024
"""Bytes at the end of an archive that the first request reads: the directory of a Sentinel-2
product, some 120 members of 150 bytes each, fits into them."""
MAX_DIRECTORY_BYTES = 64 << 20
"""Bytes of a directory that are kept in memory, at most; 500,000 members have some 60 MB."""
GAP_BYTES = 16 * 1024
"""Bytes between two wanted members up to which one range fetches both: at 10 MB a second they
take a tenth of the time of a request."""


@contextlib.contextmanager
def remote(asset: Asset, transports: Mapping[str, Transport]) -> Iterator[zipfile.ZipFile]:
    """Open a remote archive; only the list of its members is read yet.

    Raises:
        NoRangesError: the server does not serve ranges.
        ArchiveError: no zip archive.
        GeodesTasksError: what the transports raise.
    """
    error: NoRangesError | SourceUnavailableError = NoRangesError(asset.title)
    for name in (name for name in transports if name in asset.hrefs):
        source = Source(name, transports[name], asset.hrefs[name])
        with contextlib.ExitStack() as stack:
            stack.enter_context(named_errors(asset.title))
            opened = stack.enter_context(RemoteArchive(asset, source, NoCallbacks()))
            try:
                archive = stack.enter_context(zipfile.ZipFile(opened))
            except (NoRangesError, SourceUnavailableError) as failed:
                error = failed
                continue
            opened.plan(archive)
            yield archive
            return
    raise error


@contextlib.contextmanager
def local(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive on disk.

    Raises:
        ArchiveError: no zip archive.
    """
    with named_errors(path.name), zipfile.ZipFile(path) as archive:
        yield archive


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


def globbed(archive: zipfile.ZipFile, patterns: Sequence[str], title: str) -> list[str]:
    """Return the names of the files that one of some globs matches, by their path or their name.

    Raises:
        NoMemberError: a glob matches none.
    """
    files = {info.filename: info for info in archive.infolist()}
    return list(selected(files, patterns, title))


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
    if not wanted.parent.resolve().is_relative_to(folder.resolve()):
        raise HostileNameError(folder.name, f"the member {printable(name)!r} is behind a link")
    for final in numbered(wanted):
        if is_member(final, MemberFile("", member.file_size, f"{member.CRC:08x}"), lambda: None):
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


class RemoteArchive:
    """A zip archive at one source, as the file object that ``zipfile`` reads.

    Use: construct a ``ZipFile`` of it, which reads the directory; then :meth:`plan`; then read the
    members in the order of the archive. Memory does not depend on their sizes.
    """

    def __init__(
        self,
        asset: Asset,
        source: Source,
        callbacks: Callbacks,
        directories: KnownDirectories | None = None,
        *,
        is_fresh: bool = False,
    ) -> None:
        """Take the archive and its source; nothing is requested yet.

        Args:
            asset: The archive.
            source: Where it is.
            callbacks: Called by the transfer.
            directories: May know its directory, and keep it.
            is_fresh: Whether the directory is requested though it is known.
        """
        self._asset, self._source, self._callbacks = asset, source, callbacks
        self.knows_directory = False
        """Whether the directory was read by an earlier download."""
        self.received_bytes = 0
        """Bytes that came over the network."""
        self._size = asset.size_bytes
        self._etag: str | None = None
        self._tail, self._tail_at = b"", 0
        self._directories = directories
        if directories and asset.size_bytes and not is_fresh:
            tail = directories.find(asset)[-asset.size_bytes :]
            self._tail, self._tail_at = tail, asset.size_bytes - len(tail)
            self.knows_directory = bool(tail)
        self._starts: list[int] = []
        self._ends: list[int] = []
        """First bytes, and bytes behind the last, of the ranges that hold members."""
        self._stack = contextlib.ExitStack()
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._at = self._end = self._position = 0

    def __enter__(self) -> RemoteArchive:
        """Return the archive itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connection."""
        self.close()

    @property
    def size_bytes(self) -> int:
        """Return the size of the archive, by the catalogue or else by the source.

        Raises:
            GeodesTasksError: as :meth:`read`.
        """
        if self._size is None:
            self._open(0, 1)
        assert self._size is not None  # noqa: S101 - set by the answer to every range
        return self._size

    def plan(self, archive: zipfile.ZipFile, wanted: Iterable[zipfile.ZipInfo] = ()) -> None:
        """Compute the ranges that are requested: neighbours among the wanted members share one."""
        infos = archive.infolist()
        # zipfile looks for a comment further in front than where the directory begins.
        if self._directories and not self.knows_directory and not archive.comment:
            self._directories.keep(self._asset, self._tail[archive.start_dir - self._tail_at :])
        bounds = sorted({archive.start_dir, *(info.header_offset for info in infos)})
        chosen = {info.header_offset for info in wanted}
        self._starts, self._ends = [], []
        for start, end in pairwise(bounds):
            if chosen and self._ends and start in chosen and start - self._ends[-1] <= GAP_BYTES:
                self._ends[-1] = end
            elif start in chosen or not chosen:
                self._starts.append(start)
                self._ends.append(end)

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position; nothing is requested."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self.size_bytes if base is None else base)
        if self._position < 0:
            raise OSError("before the start of the archive")
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, fewer only at the end of the archive.

        Raises:
            NoRangesError: the source does not serve ranges.
            TransferError: the archive changed since its directory was read.
            BadZipFile: the directory is too large, or a member is not where it says.
            GeodesTasksError: what the transport and the callbacks raise.
        """
        first = self._position
        last = self.size_bytes if size < 0 else min(first + size, self.size_bytes)
        if first >= last:
            return b""
        if not self._starts and (not self._tail or first < self._tail_at):
            self._keep(first)
        if self._tail and first >= self._tail_at:
            found = self._tail[first - self._tail_at : last - self._tail_at]
        else:
            found = self._streamed(first, last)
        self._position += len(found)
        return found

    def close(self) -> None:
        """Close the connection."""
        # A few bytes behind the last member: read, they leave the connection open for the next.
        with contextlib.suppress(TransferError):
            while 0 < self._end - self._at <= GAP_BYTES and self._take(GAP_BYTES):
                pass
        self._stack.close()
        self._at = self._end = 0

    def _keep(self, first: int) -> None:
        """Read from a byte, at the latest that of a usual directory, to what is kept already."""
        stop = self._tail_at if self._tail else self.size_bytes
        first = first if self._tail else min(first, max(self.size_bytes - TAIL_BYTES, 0))
        # The field of APPNOTE.TXT 4.3.16 is 64 bits wide in zip64: a lie must not fill the memory.
        if self.size_bytes - first > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {MAX_DIRECTORY_BYTES} bytes")
        self._open(first, stop - first)
        self._tail = self._streamed(first, stop) + self._tail
        self._tail_at = first

    def _streamed(self, first: int, last: int) -> bytes:
        if not self._at <= first < self._end:
            span = bisect.bisect_right(self._starts, first) - 1
            if span < 0 or first >= self._ends[span]:
                raise zipfile.BadZipFile("a member is not where the directory says")
            self._open(first, self._ends[span] - first)
        while self._at < first:
            self._take(first - self._at)
        # Past the end of a range zipfile finds too few bytes, and names the member.
        gathered = bytearray()
        while self._at < min(last, self._end):
            gathered += self._take(min(last, self._end) - self._at)
        return bytes(gathered)

    def _take(self, most: int) -> bytes:
        """Return the next bytes of the range; a transport raises where there are none."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
            self.received_bytes += len(self._rest)
            self._callbacks.progress(self.received_bytes, len(self._rest))
            if not self._rest:
                raise TransferError(self._asset.title, f"no byte {self._at} came")
        taken, self._rest = self._rest[:most], self._rest[most:]
        self._at += len(taken)
        return taken

    def _open(self, first: int, length: int) -> None:
        self.close()
        source, asset = self._source, self._asset
        if not source.transport.serves_ranges(source.href):
            raise NoRangesError(asset.title)
        # Spent before the request: the portal counts it whatever comes back.
        self._callbacks.before_open(source.name)
        is_first = not self.received_bytes
        opened = source.transport.open_range(
            source.href, first, length, etag=self._etag, asset=asset
        )
        try:
            body = self._stack.enter_context(opened)
        except NoRangesError as error:
            if is_first:
                raise
            raise TransferError(asset.title, "changed while its members were read") from error
        if self._size not in {None, body.total_bytes}:
            problem = f"{body.total_bytes} bytes there, {self._size} in the catalogue"
            raise SourceUnavailableError(source.name, asset.title, problem)
        self._size, self._etag = body.total_bytes, body.etag
        self._chunks, self._rest, self._at, self._end = body.chunks, b"", first, first + length
