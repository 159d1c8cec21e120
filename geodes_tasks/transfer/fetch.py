"""Bytes of one source on their way into a part file: resumed where that is proven, else from 0.

The same checksum identifies the same bytes in every source, so a file begun from one source is
resumed from another at the byte that was reached. Without a checksum only the validator of the same
source proves that the object did not change, and another source starts at byte 0.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from geodes_tasks.errors import (
    ChecksumMismatchError,
    DiskError,
    SizeMismatchError,
    SourceUnavailableError,
    TruncatedBodyError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.disk import size_of
from geodes_tasks.transfer.leftovers import read_etag
from geodes_tasks.transfer.partfile import PartFile
from geodes_tasks.transports import Body, Source

CHECK_BYTES = 64 * 1024 * 1024
"""Number of bytes of a body of unknown size after which the free space is checked again."""

LENGTH_MODULUS = 2**32
"""Servers that store a length in 32 bits announce the number of bytes modulo this value."""


class Fetch:
    """One file on its way into its part file."""

    def __init__(self, asset: Asset, part: PartFile, callbacks: Callbacks) -> None:
        """Take the asset and its part file, which is open; nothing is requested yet."""
        self.asset, self.part, self.callbacks = asset, part, callbacks
        self.source: str | None = None
        """Name of the source that gave the last byte."""
        self.received: Counter[str] = Counter()
        """Bytes that came over the network, by source."""
        self.has_resumed = False
        """Whether bytes of an earlier attempt are in the part file."""
        self.is_one_body = True
        """Whether all bytes are of one body: only then a wrong checksum accuses its source."""
        self.wrong: list[Checksum] = []
        """Digests of whole copies in this attempt that do not match the catalogue."""
        self._etags: dict[str, str | None] = {}
        self._leftover: Path | None = None
        """Part file to adopt when the body continues its bytes."""
        self._trusts_leftovers = True
        self._expected: int | None = None
        """Size of the file in bytes, by the catalogue or else by the body; None if unknown."""
        self._announced: int | None = None
        """Size of the object in bytes, by the source; None if unknown."""
        self._limit: int | None = None
        """Most bytes that the body may have; None if unknown."""
        self._next_check = 0
        """Offset from which on the free space of the volume is checked again."""

    # --- before a request ------------------------------------------------------------------------

    def adopt_whole(self) -> bool:
        """Adopt a dead attempt's part file that has all bytes; return whether there was one."""
        leftover, size = self.part.leftovers.longest(), self.asset.size_bytes
        if leftover is None or size is None or size_of(leftover) != size:
            return False
        self.part.adopt(leftover, self.callbacks.progress)
        if self.part.offset != size:
            return False
        self.has_resumed, self.is_one_body = True, False
        return True

    def fetch(self, source: Source, *, has_other: bool) -> None:
        """Fetch the missing bytes from one source.

        Args:
            source: Where the asset is.
            has_other: Whether another source is left, which may have what this one has not.

        Raises:
            ChecksumMismatchError: the bytes are wrong and were removed; another source is left.
            GeodesTasksError: what the transport and the callbacks raise.
        """
        point = self._resume_point(source)
        while True:
            offset, etag = point
            self.callbacks.before_open(source.name)
            opened = source.transport.open(source.href, offset=offset, etag=etag, asset=self.asset)
            with opened as body:
                if self._begin(body, source, has_other=has_other):
                    for chunk in body.chunks:
                        self._write(chunk)
                    self._check_size(source)
                    break
            point = 0, None
        if has_other:
            self._check_digest()

    def _resume_point(self, source: Source) -> tuple[int, str | None]:
        """Return the offset and the validator for the next request.

        Nothing is copied yet: bytes of a dead attempt are adopted once the server has proven that
        it continues them.
        """
        self.source, self._leftover = source.name, None
        if not self.part.offset and self._trusts_leftovers:
            longest, size = self.part.leftovers.longest(), self.asset.size_bytes
            # A leftover that is not shorter than the file is of no use: its last bytes are wrong.
            if longest is not None and (size is None or size_of(longest) < size):
                self._leftover = longest
        etag = self._etags.get(source.name)
        if self._leftover is not None:
            # An ETag is unique within its own resource only (RFC 9110 8.8.3): it is kept with the
            # name of its source, and means nothing to another one.
            noted, _, kept = (read_etag(self._leftover) or "").partition(" ")
            etag = kept or None if noted == source.name else None
        if self.asset.checksum is None and etag is None:
            self._leftover = None
            if self.part.offset:
                self._restart()
        leftover_bytes = size_of(self._leftover) if self._leftover else 0
        return self.part.offset or leftover_bytes, etag

    # --- with a body -----------------------------------------------------------------------------

    def _begin(self, body: Body, source: Source, *, has_other: bool) -> bool:
        """Prepare the part file for a body; return False when it continues other bytes.

        In that case the source must be opened again, at byte 0.

        Raises:
            SourceUnavailableError: the object has another size there, and another source is left.
            DiskError: the volume has no room for it.
        """
        total, size = self._total_of(body), self.asset.size_bytes
        if has_other and None not in {total, size} and total != size:
            problem = f"it has {total} bytes there, the catalogue says {size}"
            raise SourceUnavailableError(source.name, source.href, problem)
        if body.offset:
            is_same = self.asset.checksum is not None or None in {total, size} or total == size
            if is_same and self._leftover is not None and not self.part.offset:
                self.part.adopt(self._leftover, self.callbacks.progress)
                self.has_resumed = self.part.offset > 0
            # 206 may start elsewhere than requested, and those bytes would be written to the
            # wrong place (RFC 9110 14.4).
            if not is_same or self.part.offset != body.offset:
                self._restart()
                return False
        elif self.part.offset:
            self._restart()
        self.is_one_body = body.offset == 0
        self._etags[source.name] = body.etag
        self.part.note_etag(f"{source.name} {body.etag}" if body.etag else "")
        self._announced, self._next_check = total, 0
        self._expected = size if size is not None else total
        # The checksum decides: a catalogue whose size is too small does not cut the file.
        decides = self.asset.checksum is not None and None not in {size, total}
        self._limit = max(size or 0, total or 0) if decides else self._expected
        if self._expected is not None and (size is None or self.part.leftovers.longest()):
            self.part.reserve(self._expected)
        return True

    def _total_of(self, body: Body) -> int | None:
        """Return the size of the object in bytes, corrected where it was cut to 32 bits.

        Some servers announce a Content-Length modulo 2**32 for objects of 4 GiB and more.
        """
        total, size = body.total_bytes, self.asset.size_bytes
        if body.lengthen is None or body.offset or total is None or size is None:
            return total
        if size <= total or (size - total) % LENGTH_MODULUS:
            return total
        body.lengthen(size)
        return size

    def _write(self, chunk: bytes) -> None:
        """Write and hash one chunk, and report it.

        Raises:
            SizeMismatchError: more bytes came than the file has; they have been removed.
            TooLargeError, DiskError: the volume has no room left.
            GeodesTasksError: what the callbacks raise.
        """
        part, limit = self.part, self._limit
        if limit is None:
            self._write_unbounded(chunk)
        else:
            part.write(chunk)
        self.received[str(self.source)] += len(chunk)
        if limit is not None and part.offset > limit:
            got = part.offset
            self._restart()
            raise SizeMismatchError(str(part.final), limit, got)
        self.callbacks.progress(part.offset, len(chunk))

    def _write_unbounded(self, chunk: bytes) -> None:
        """Write a chunk of a body of unknown size if the volume has room for it.

        Raises:
            TooLargeError, DiskError: it has none; the part file was emptied.
        """
        part = self.part
        try:
            if part.offset + len(chunk) > self._next_check:
                left = part.room_left(len(chunk))
                # Half of the room at most: other files grow on the same volume.
                step = CHECK_BYTES if left is None else min(CHECK_BYTES, left // 2)
                self._next_check = part.offset + step
            part.write(chunk)
        except DiskError:
            self._restart()
            raise

    def _check_size(self, source: Source) -> None:
        """Check that the body brought all bytes.

        Raises:
            SizeMismatchError: the source has fewer than the catalogue; they have been removed.
            TruncatedBodyError: it did not; the part file is kept.
        """
        expected = self._expected
        if expected is None or self.part.offset >= expected:
            return
        # A catalogue whose size is too large does not make the file short: its checksum decides.
        if self.part.digest() != self.asset.checksum:
            got = self.part.offset
            # With a checksum these may be the first bytes of the file, to be continued.
            if got == self._announced and self.asset.checksum is None:
                self._restart()
                raise SizeMismatchError(str(self.part.final), expected, got)
            raise TruncatedBodyError(source.href, expected, got)

    def _check_digest(self) -> None:
        """Remove wrong bytes while another source may have the right ones.

        Raises:
            ChecksumMismatchError: they were wrong, and were removed.
        """
        expected = self.asset.checksum
        if expected is None or (actual := self.part.digest()) == expected:
            return
        is_whole = self.is_one_body
        if is_whole:
            self.wrong.append(actual)
        self._restart()
        self.part.expect(self.asset.size_bytes)
        self._trusts_leftovers = False
        raise ChecksumMismatchError(str(self.part.final), str(expected), str(actual), is_whole)

    def _restart(self) -> None:
        self.part.restart()
        self.has_resumed, self.is_one_body = False, True
