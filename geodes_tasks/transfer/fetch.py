"""The way of the bytes into a part file: over the first source that gives them, else the next.

The same checksum names the same bytes wherever they come from, so a file begun over one source
goes on over the other at the byte that was reached. Without a checksum only a source's own
validator can prove that, and another source begins at byte 0.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from geodes_tasks.errors import (
    AttemptEndedError,
    ChecksumMismatchError,
    DiskError,
    FolderError,
    GeodesTasksError,
    HrefRefusedError,
    LedgerUnavailableError,
    NotAFileError,
    Reaction,
    SizeMismatchError,
    SourceUnavailableError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.model.asset import GEODES
from geodes_tasks.transfer.partfile import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geodes_tasks.model.asset import Asset
    from geodes_tasks.model.checksum import Checksum
    from geodes_tasks.transfer.callbacks import Callbacks
    from geodes_tasks.transfer.partfile import PartFile
    from geodes_tasks.transports import Body, Member, Transport

logger = logging.getLogger(__name__)

GAIN_BYTES = 1024 * 1024
"""A source that broke after so many new bytes is asked once more before another one is."""

LOOK_BYTES = 64 * 1024 * 1024
"""Bytes of a body of unknown size after which the free space of the volume is checked again."""

CUT = 2**32
"""What a length of 32 bits has lost a multiple of."""

_NOT_OF_A_SOURCE = (AttemptEndedError, DiskError, LedgerUnavailableError, NotAFileError)
_WAITS = {Reaction.QUOTA, Reaction.THROTTLED, Reaction.AUTH, Reaction.OFFLINE}


class Fetch:
    """One file on its way into its part file."""

    def __init__(
        self,
        asset: Asset,
        part: PartFile,
        callbacks: Callbacks,
        transports: Mapping[str, Transport],
    ) -> None:
        """Prepare; nothing is asked for yet.

        Args:
            asset: What to fetch.
            part: Where the bytes go, entered.
            callbacks: Called by the transfer.
            transports: By source name, the preferred one first.
        """
        self.asset, self.part, self.callbacks = asset, part, callbacks
        self.source: str | None = None
        """Which source gave the last byte."""
        self.received: Counter[str] = Counter()
        """Bytes that came over the network, by source."""
        self.resumed = False
        """Whether bytes of an earlier attempt are in the part."""
        self.whole = True
        """Whether all bytes are of one body: a wrong one then tells who is wrong."""
        self.wrong: list[Checksum] = []
        """Digests of whole copies in this attempt that the catalogue does not agree with."""
        self._left = [(name, transports[name]) for name in transports if name in asset.hrefs]
        self._etags: dict[str, str | None] = {}
        self._errors: list[GeodesTasksError] = []
        self._trusts_leftovers = True
        self._look_at = 0
        """Offset from which on the free space of the volume is checked again."""
        self._members: dict[str, str] = {}
        """Where the file is by source, when that is within a folder."""
        self.folder: tuple[str, Transport] | None = None
        """The source for which the address is a folder of its own, not of this one file."""

    def run(self) -> None:
        """Bring the part to its end.

        Raises:
            GeodesTasksError: no source could; of several errors the one that waits is raised,
                and those that say the least last.
        """
        if not self._left:
            known = ", ".join(self.asset.hrefs) or "none"
            raise HrefRefusedError(self.asset.key, f"no source in use has it (it has: {known})")
        if not self._adopted_whole():
            while self._left:
                self._from_next()

    def _from_next(self) -> None:
        """Fetch over the next source; when that ends the matter, no source is left."""
        name, transport = self._left.pop(0)
        try:
            self._over(name, transport)
            self._check()
            self._left.clear()
        except FolderError as error:
            self._errors.append(error)
            self._look_into(name, transport)
            if not self._left:
                raise error from None
        except _NOT_OF_A_SOURCE:
            raise
        except GeodesTasksError as error:
            self._errors.append(error)
            answer = min(reversed(self._errors), key=_weight)
            if self._left or answer is not error:
                self.callbacks.source_failed(name, error)
            if not self._left:
                raise answer from (None if answer is error else error)
            logger.info(
                "%s; going on over %s at byte %d",
                error,
                self._left[0][0],
                self.part.offset,
                extra={"action": "source_changed"},
            )

    def _look_into(self, name: str, transport: Transport) -> None:
        """Find the file within the folder that its address turned out to be."""
        if self.asset.checksum is None and len(self.asset.hrefs) == 1:
            self.folder = name, transport
            return
        with contextlib.suppress(SourceUnavailableError):
            found = _the_file(self.asset, transport.members(self.asset.hrefs[name]))
            if found is not None:
                self._members[name] = found.href
                self._left.insert(0, (name, transport))

    def _adopted_whole(self) -> bool:
        """Take over a dead attempt's part that lacks nothing but its proof."""
        leftover = self.part.leftover()
        size = self.asset.size_bytes
        if leftover is None or size is None or size_of(leftover) != size:
            return False
        self.part.adopt(leftover, self.callbacks.progress)
        if self.part.offset != size:
            return False
        self.resumed, self.whole = True, False
        return True

    def _over(self, name: str, transport: Transport) -> None:
        """Fetch over one source. Where it breaks with another left, it has one more chance.

        Never without a gain: a source that always breaks at the same byte must not be asked
        for ever. The portal never: each request costs quota, and the other source none.
        """
        best = self.part.offset
        while True:
            try:
                return self._stream(name, transport)
            except (TransferError, TruncatedBodyError):
                gained = self.part.offset >= best + GAIN_BYTES
                if not self._left or not gained or name == GEODES:
                    raise
                best = self.part.offset

    def _stream(self, name: str, transport: Transport) -> None:
        self.source = name
        leftover = self._resumable()
        etag = _own(self.part.etag_of(leftover), name) if leftover else self._etags.get(name)
        if self.asset.checksum is None and etag is None:
            leftover = None
            if self.part.offset:
                self._restart()
        offset = self.part.offset or (size_of(leftover) if leftover else 0)
        self._open(transport, offset, etag, leftover)

    def _resumable(self) -> Path | None:
        """Find bytes worth going on from: shorter than the file."""
        leftover = self.part.leftover()
        if leftover is None or self.part.offset or not self._trusts_leftovers:
            return None
        size = self.asset.size_bytes
        return None if size is not None and size_of(leftover) >= size else leftover

    def _open(
        self, transport: Transport, offset: int, etag: str | None, leftover: Path | None
    ) -> None:
        assert self.source is not None  # noqa: S101 - set by the caller
        self.callbacks.before_open(self.source)
        href = self._members.get(self.source, self.asset.hrefs[self.source])
        with transport.open(href, offset=offset, etag=etag) as opened:
            body = self._seen_through(opened)
            self._refuse_other_size(body, href)
            fits = not body.offset or self._fits(body, leftover)
            if fits:
                if not body.offset and self.part.offset:
                    self._restart()
                self.whole = body.offset == 0
                self._drain(body, href)
        if not fits:
            self._open(transport, 0, None, None)

    def _seen_through(self, body: Body) -> Body:
        """See through a length that was cut to 32 bits, as some servers do above 4 GiB."""
        total, size = body.total_bytes, self.asset.size_bytes
        if body.lengthen is None or body.offset or total is None or size is None:
            return body
        if size <= total or (size - total) % CUT:
            return body
        body.lengthen(size)
        return replace(body, total_bytes=size)

    def _refuse_other_size(self, body: Body, href: str) -> None:
        """Leave an object of another size alone as long as there is another source."""
        total, size = body.total_bytes, self.asset.size_bytes
        if self._left and None not in {total, size} and total != size:
            assert self.source is not None  # noqa: S101 - a body has a source
            problem = f"it has {total} bytes there, the catalogue says {size}"
            raise SourceUnavailableError(self.source, href, problem)

    def _fits(self, body: Body, leftover: Path | None) -> bool:
        """Bring the part to where the body starts; False when that is impossible."""
        if body.total_bytes is not None and self.asset.size_bytes not in (None, body.total_bytes):
            return False
        if leftover is not None and self.part.offset == 0:
            self.part.adopt(leftover, self.callbacks.progress)
            self.resumed = self.part.offset > 0
        if self.part.offset != body.offset:
            self._restart()
            return False
        return True

    def _restart(self) -> None:
        self.part.restart()
        self.resumed, self.whole = False, True

    def _drain(self, body: Body, href: str) -> None:
        assert self.source is not None  # noqa: S101 - a body has a source
        part, progress, name = self.part, self.callbacks.progress, self.source
        self._etags[name] = body.etag
        if body.etag:
            part.note_etag(f"{name} {body.etag}")
        limit = self.asset.size_bytes
        expected = limit if limit is not None else body.total_bytes
        if expected is not None and (limit is None or part.leftover() is not None):
            part.reserve(expected)
        self._look_at = 0
        write = self._write_unbounded if expected is None else part.write
        for chunk in body.chunks:
            write(chunk)
            self.received[name] += len(chunk)
            if expected is not None and part.offset > expected:
                got = part.offset
                self._restart()
                raise SizeMismatchError(str(part.final), expected, got)
            progress(part.offset, len(chunk))
        if expected is not None and part.offset < expected:
            raise TruncatedBodyError(href, expected, part.offset)

    def _write_unbounded(self, chunk: bytes) -> None:
        """Write a piece of a body of unknown size when the volume has room for it.

        Raises:
            TooLargeError, DiskError: it has none; the part was emptied.
        """
        part = self.part
        try:
            if part.offset + len(chunk) > self._look_at:
                # Half of the room at most: other files grow on the same volume.
                left = part.room_left(len(chunk))
                step = LOOK_BYTES if left is None else min(LOOK_BYTES, left // 2)
                self._look_at = part.offset + step
            part.write(chunk)
        except DiskError:
            self._restart()
            raise

    def _check(self) -> None:
        """Throw wrong bytes away as long as another source may have the right ones.

        Raises:
            ChecksumMismatchError: they are wrong, and were thrown away.
        """
        expected = self.asset.checksum
        if not self._left or expected is None or (actual := self.part.digest()) == expected:
            return
        if self.whole:
            self.wrong.append(actual)
        error = ChecksumMismatchError(str(self.part.final), str(expected), str(actual), self.whole)
        self._restart()
        self.part.expect(self.asset.size_bytes)
        self._trusts_leftovers = False
        raise error


def _own(noted: str | None, name: str) -> str | None:
    """Give the validator that was noted beside a part if it is of this source."""
    source, _, etag = (noted or "").partition(" ")
    return etag or None if source == name else None


def _weight(error: GeodesTasksError) -> int:
    """Order errors by how much the caller has to do with them, the most telling one first."""
    if isinstance(error, SourceUnavailableError):
        return 3
    if error.reaction in _WAITS:
        return 0
    return 2 if error.reaction is Reaction.FINAL else 1


def _the_file(asset: Asset, members: Sequence[Member]) -> Member | None:
    """Find the one object of a folder that is the asset: by its name, else by its size."""
    named = [one for one in members if one.name.rpartition("/")[2] == asset.title]
    sized = [one for one in members if one.size_bytes == asset.size_bytes]
    for found in (named, sized):
        if len(found) == 1 and asset.size_bytes in (None, found[0].size_bytes):
            return found[0]
    return None
