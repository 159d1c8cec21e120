"""One download, in a straight line: look, fetch, prove, publish. Knows no Redis and no Celery."""

from __future__ import annotations

import stat
import time
import zipfile
from typing import TYPE_CHECKING, Protocol

from geodes_tasks import checksum as checksums
from geodes_tasks.errors import (
    CatalogueMismatchError,
    ChecksumMismatchError,
    HrefRefusedError,
    NotAFileError,
    SizeMismatchError,
    SourceUnavailableError,
    TruncatedBodyError,
    UnexpectedAnswerError,
)
from geodes_tasks.partfile import PartFile, local_errors
from geodes_tasks.results import DownloadResult, Proof
from geodes_tasks.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geodes_tasks.asset import Asset
    from geodes_tasks.checksum import Checksum
    from geodes_tasks.transports import Body, Transport

DEFAULT_ALGORITHM = "md5"


class Attempt(Protocol):
    """Who watches a download. Each method may raise to stop it."""

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Hear how many bytes are on disk, and how many of them just came over the network."""
        ...

    def before_open(self, source: str) -> None:
        """Hear that a request is about to be made; the place to spend quota."""
        ...

    def confirm(self) -> None:
        """Be asked, just before a file is published, whether the right to do so still holds."""
        ...


class Unwatched:
    """Nobody watches: a notebook, a unit test, a benchmark."""

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Ignore it."""

    def before_open(self, source: str) -> None:
        """Allow it."""

    def confirm(self) -> None:
        """Allow it."""


def download(
    asset: Asset,
    final: Path,
    transports: Mapping[str, Transport],
    *,
    attempt: Attempt | None = None,
    token: str | None = None,
    proof: Proof | None = None,
    suspect: Checksum | None = None,
) -> DownloadResult:
    """Fetch one asset, prove it, and publish it at its final path.

    Nothing appears at ``final`` until size and checksum agree with the catalogue. A killed
    process leaves a part file that the next attempt adopts.

    Args:
        asset: What to fetch.
        final: Where it goes.
        transports: By source name, the preferred one first; those that the asset has no href
            for are passed over.
        attempt: Who watches.
        token: A number higher than that of every earlier attempt; by default the clock's.
        proof: Of the file as it was last proven; unchanged since, it is not read again.
        suspect: Digest of an earlier whole copy that did not agree with the catalogue.

    Raises:
        ChecksumMismatchError, SizeMismatchError: the part file has been deleted.
        TruncatedBodyError, TransferError: the part file is kept for the next attempt.
        CatalogueMismatchError: two whole copies agree against the catalogue; one is kept.
        DiskError, NotAFileError: the folder does not take the file.
        GeodesTasksError: what the transports and ``attempt`` raise.
    """
    attempt = attempt or Unwatched()
    token = token or str(time.time_ns() // 1_000_000)
    present = _present(asset, final, proof, attempt)
    if present is not None:
        return present
    algorithm = asset.checksum.algorithm if asset.checksum else DEFAULT_ALGORITHM
    with PartFile(final, _content(asset), token, algorithm) as part:
        part.expect(asset.size_bytes)
        part.reserve(asset.size_bytes or 0)
        fetched = _Fetch(asset, part, attempt, transports)
        fetched.run()
        return _publish(fetched, suspect)


def discard(asset: Asset, final: Path, token: str) -> None:
    """Remove whatever this attempt and earlier ones have left beside the final name."""
    part = PartFile(final, _content(asset), token, DEFAULT_ALGORITHM)
    part.sweep()
    part.discard()


def _content(asset: Asset) -> str:
    return str(asset.checksum) if asset.checksum else " ".join(sorted(asset.hrefs.values()))


# --- is it there? ----------------------------------------------------------------------------


def _present(
    asset: Asset, final: Path, proof: Proof | None, attempt: Attempt
) -> DownloadResult | None:
    """Tell whether the right bytes are at the final name already; a name alone proves nothing."""
    with local_errors(final):
        try:
            found = final.stat()
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "special file"
        raise NotAFileError(str(final), kind)
    if asset.checksum is None and Proof.of(found) != proof:
        return None
    if asset.size_bytes not in (None, found.st_size):
        return None
    if Proof.of(found) != proof and not _hashes_right(asset, final, attempt):
        return None
    return DownloadResult(
        outcome=Outcome.ALREADY_PRESENT,
        path=str(final),
        size_bytes=found.st_size,
        checksum=asset.checksum,
        verified=asset.checksum is not None,
        bytes_transferred=0,
        source=None,
        proof=Proof.of(found),
    )


def _hashes_right(asset: Asset, final: Path, attempt: Attempt) -> bool:
    assert asset.checksum is not None  # noqa: S101 - the caller has looked
    with local_errors(final):
        return asset.checksum == checksums.hash_file(
            final, asset.checksum.algorithm, attempt.progress
        )


# --- fetch -----------------------------------------------------------------------------------


class _Fetch:
    """The way of the bytes into the part file, over the first source that can give them."""

    def __init__(
        self,
        asset: Asset,
        part: PartFile,
        attempt: Attempt,
        transports: Mapping[str, Transport],
    ) -> None:
        self.asset, self.part, self.attempt = asset, part, attempt
        self.sources = [(name, transports[name]) for name in transports if name in asset.hrefs]
        self.source: str | None = None
        self.transferred = 0
        self.resumed = False

    def run(self) -> None:
        if not self.sources:
            known = ", ".join(self.asset.hrefs) or "none"
            raise HrefRefusedError(self.asset.key, f"no source in use has it (it has: {known})")
        if not self._adopted_whole():
            self._from_first_able(self.sources)

    def _from_first_able(self, sources: Sequence[tuple[str, Transport]]) -> None:
        (name, transport), *others = sources
        try:
            self._stream(name, transport)
        except SourceUnavailableError:
            if not others:
                raise
            self._from_first_able(others)

    def _adopted_whole(self) -> bool:
        """Take over a dead attempt's part that lacks nothing but its proof."""
        leftover = self.part.leftover()
        size = self.asset.size_bytes
        if leftover is None or size is None or leftover.stat().st_size != size:
            return False
        self.part.adopt(leftover, self.attempt.progress)
        self.resumed = self.part.offset == size
        return self.resumed

    def _stream(self, name: str, transport: Transport) -> None:
        self.source = name
        leftover = self._resumable()
        offset = self.part.offset or (leftover.stat().st_size if leftover else 0)
        etag = self.part.etag_of(leftover) if leftover else None
        self._open(transport, offset, etag, leftover)

    def _resumable(self) -> Path | None:
        """Find bytes worth going on from: shorter than the file, and provable afterwards."""
        leftover = self.part.leftover()
        if leftover is None or self.part.offset:
            return None
        size = self.asset.size_bytes
        if size is not None and leftover.stat().st_size >= size:
            return None
        provable = self.asset.checksum is not None or self.part.etag_of(leftover) is not None
        return leftover if provable else None

    def _open(
        self, transport: Transport, offset: int, etag: str | None, leftover: Path | None
    ) -> None:
        assert self.source is not None  # noqa: S101 - set by the caller
        self.attempt.before_open(self.source)
        href = self.asset.hrefs[self.source]
        with transport.open(href, offset=offset, etag=etag) as body:
            fits = not body.offset or self._fits(body, leftover)
            if fits:
                if not body.offset and self.part.offset:
                    self.part.restart()
                self.resumed = body.offset > 0
                self._drain(body)
        if not fits:
            self._open(transport, 0, None, None)

    def _fits(self, body: Body, leftover: Path | None) -> bool:
        """Bring the part to where the body starts; False when that is impossible."""
        if body.total_bytes is not None and self.asset.size_bytes not in (None, body.total_bytes):
            return False
        if leftover is not None and self.part.offset == 0:
            self.part.adopt(leftover, self.attempt.progress)
        if self.part.offset != body.offset:
            self.part.restart()
            return False
        return True

    def _drain(self, body: Body) -> None:
        part, progress = self.part, self.attempt.progress
        part.note_etag(body.etag)
        limit = self.asset.size_bytes
        for chunk in body.chunks:
            part.write(chunk)
            self.transferred += len(chunk)
            if limit is not None and part.offset > limit:
                part.discard()
                raise SizeMismatchError(str(part.final), limit, part.offset)
            progress(part.offset, len(chunk))
        expected = limit if limit is not None else body.total_bytes
        if expected is not None and part.offset < expected:
            assert self.source is not None  # noqa: S101 - a body has a source
            raise TruncatedBodyError(self.asset.hrefs[self.source], expected, part.offset)


# --- prove and publish -------------------------------------------------------------------------


def _publish(fetched: _Fetch, suspect: Checksum | None) -> DownloadResult:
    asset, part = fetched.asset, fetched.part
    size = part.offset
    digest = part.digest()
    if asset.checksum is not None and digest != asset.checksum:
        _refuse(part, asset.checksum, digest, suspect, whole=not fetched.resumed)
    if asset.checksum is None:
        _look_at_archive(part, asset)
    part.sync()
    fetched.attempt.confirm()
    part.sweep()
    proof = part.publish()
    return DownloadResult(
        outcome=Outcome.RESUMED if fetched.resumed else Outcome.DOWNLOADED,
        path=str(part.final),
        size_bytes=size,
        checksum=digest,
        verified=asset.checksum is not None,
        bytes_transferred=fetched.transferred,
        source=fetched.source,
        proof=proof,
    )


def _refuse(
    part: PartFile, expected: Checksum, actual: Checksum, suspect: Checksum | None, *, whole: bool
) -> None:
    """Throw the bytes away, or keep them when it is the catalogue that must be wrong."""
    if whole and suspect == actual:
        kept = part.quarantine()
        raise CatalogueMismatchError(str(part.final), str(expected), str(actual), str(kept))
    part.discard()
    raise ChecksumMismatchError(str(part.final), str(expected), str(actual), whole)


def _look_at_archive(part: PartFile, asset: Asset) -> None:
    """Refuse what is announced as a zip and has no zip's end; all that can be said of it."""
    if asset.title.lower().endswith(".zip") and not zipfile.is_zipfile(part.path):
        part.discard()
        raise UnexpectedAnswerError(asset.key, 200, "the body is no zip archive")
