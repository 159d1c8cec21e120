"""A zip archive at a source: its directory and the bytes of wanted members, and nothing else."""

from __future__ import annotations

import bisect
import contextlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from geodes_tasks.errors import NoRangesError, SourceUnavailableError, TransferError
from geodes_tasks.model.asset import Asset
from geodes_tasks.transfer.archive_directory import (
    MAX_DIRECTORY_BYTES,
    check_readable,
    checked,
    glob_matches,
    open_archive,
    some_names,
)
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transports import Source

TAIL_BYTES = 32 * 1024
"""Bytes at the end of an archive that the first request reads: the directory of a Sentinel-2
product, some 120 members of 150 bytes each, fits into them."""
GAP_BYTES = 16 * 1024
"""Bytes between two wanted members up to which one range fetches both: at 10 MB a second they
take a tenth of the time of a request."""


@dataclass(frozen=True, slots=True)
class SetFacts:
    """The cost of a set of members, and its patterns without a match."""

    archive_bytes: int
    fetched_bytes: int
    """Bytes of the ranges that hold the members."""
    ranges: int
    """Number of these ranges."""
    unmatched: frozenset[str]
    there: str
    """Names of members, the first few."""


def facts_of(
    asset: Asset,
    folder_name: str,
    source: Source,
    callbacks: Callbacks,
) -> SetFacts:
    """Read the directory of an archive at a source, and return the facts of a set of its members.

    Raises:
        ArchiveError, HostileNameError: no member of it can be had.
        GeodesTasksError: as for :class:`RemoteArchive`.
    """
    with (
        RemoteArchive(asset, source, callbacks) as remote,
        open_archive(remote, asset.title) as archive,
    ):
        files = checked(archive, remote, asset, folder_name)
        matches = {pattern: glob_matches(files, pattern) for pattern in asset.members}
        for found in matches.values():
            check_readable(found.values(), asset.title)
        spans = remote.plan(archive, [one for found in matches.values() for one in found.values()])
        unmatched = frozenset(pattern for pattern, found in matches.items() if not found)
        spans = spans if len(unmatched) < len(matches) else []
        size = sum(end - start for start, end in spans)
        return SetFacts(remote.size_bytes, size, len(spans), unmatched, some_names(files))


class RemoteArchive(io.BufferedIOBase):
    """A zip archive at one source, as the file object that ``zipfile`` reads.

    Use: construct a ``ZipFile`` of it, which reads the directory; then :meth:`plan`; then read the
    members in the order of the archive. Memory does not depend on their sizes.
    """

    def __init__(
        self,
        asset: Asset,
        source: Source,
        callbacks: Callbacks,
        *,
        is_fresh: bool = False,
    ) -> None:
        """Take the archive and its source; nothing is requested yet.

        Args:
            asset: The archive.
            source: Where it is.
            callbacks: Called by the transfer; they may know its directory, and keep it.
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
        self._starts: list[int] = []
        self._ends: list[int] = []
        """First bytes, and bytes behind the last, of the ranges that hold members."""
        self._stack = contextlib.ExitStack()
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._at = self._end = self._position = 0
        if callbacks.directories and asset.size_bytes and not is_fresh:
            tail = callbacks.directories.find(asset)[-asset.size_bytes :]
            self._tail, self._tail_at = tail, asset.size_bytes - len(tail)
            self.knows_directory = bool(tail)

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

    def plan(
        self, archive: zipfile.ZipFile, wanted: Iterable[zipfile.ZipInfo] = ()
    ) -> list[tuple[int, int]]:
        """Compute the ranges that are requested, as first bytes and those behind the last.

        Neighbours among the wanted members share a range.
        """
        infos = archive.infolist()
        # zipfile looks for a comment further in front than where the directory begins.
        directories = self._callbacks.directories
        if directories and not self.knows_directory and not archive.comment:
            directories.keep(self._asset, self._tail[archive.start_dir - self._tail_at :])
        bounds = sorted({archive.start_dir, *(info.header_offset for info in infos)})
        chosen = {info.header_offset for info in wanted}
        self._starts, self._ends = [], []
        for start, end in pairwise(bounds):
            if chosen and self._ends and start in chosen and start - self._ends[-1] <= GAP_BYTES:
                self._ends[-1] = end
            elif start in chosen or not chosen:
                self._starts.append(start)
                self._ends.append(end)
        return list(zip(self._starts, self._ends, strict=True))

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position; nothing is requested."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self.size_bytes if base is None else base)
        if self._position < 0:
            raise OSError("before the start of the archive")
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes, fewer only at the end of the archive.

        Raises:
            NoRangesError: the source does not serve ranges.
            TransferError: the archive changed since its directory was read.
            BadZipFile: the directory is too large, or a member is not where it says.
            GeodesTasksError: what the transport and the callbacks raise.
        """
        first = self._position
        last = self.size_bytes if size is None or size < 0 else min(first + size, self.size_bytes)
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
