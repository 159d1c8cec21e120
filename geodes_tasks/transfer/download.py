"""One download, in a straight line: look, fetch, prove, publish. Knows no Redis and no Celery."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from typing import TYPE_CHECKING

from geodes_tasks.errors import (
    CatalogueMismatchError,
    ChecksumMismatchError,
    FolderError,
    LeaseLostError,
    NotAFileError,
    TooLargeError,
    UnexpectedAnswerError,
)
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import multi_object
from geodes_tasks.transfer.callbacks import Callbacks, NoCallbacks
from geodes_tasks.transfer.destination import numbered
from geodes_tasks.transfer.fetch import Fetch
from geodes_tasks.transfer.partfile import PartFile, local_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from geodes_tasks.model.asset import Asset
    from geodes_tasks.model.checksum import Checksum
    from geodes_tasks.transports import Transport

DEFAULT_ALGORITHM = "md5"


def download(
    asset: Asset,
    final: Path,
    transports: Mapping[str, Transport],
    *,
    callbacks: Callbacks | None = None,
    token: str | None = None,
    proof: Proof | None = None,
    suspect: Checksum | None = None,
    replace: bool = True,
) -> DownloadResult:
    """Fetch one asset, prove it, and publish it at its final path.

    Nothing appears at ``final`` until size and checksum agree with the catalogue. A killed
    process leaves a part file that the next attempt adopts.

    Args:
        asset: What to fetch.
        final: Where it goes.
        transports: By source name, the preferred one first; those that the asset has no href
            for are passed over.
        callbacks: Called by the transfer; by default they allow everything.
        token: A number higher than that of every earlier attempt; by default the clock's.
        proof: Of the file as it was last proven; unchanged since, it is not read again.
        suspect: Digest of an earlier whole copy that did not agree with the catalogue.
        replace: Whether other bytes at ``final`` give way. If not, they stay, and the file is
            published with ``-1``, ``-2``, ... before its suffix: the result has its path.

    Raises:
        ChecksumMismatchError, SizeMismatchError: the part file has been deleted.
        TruncatedBodyError, TransferError: the part file is kept for the next attempt.
        CatalogueMismatchError: two whole copies agree against the catalogue; one is kept.
        DiskError, NotAFileError: the folder does not take the file.
        TooLargeError: the volume can never take it; the part file has been deleted.
        GeodesTasksError: what the transports and ``callbacks`` raise.
    """
    callbacks = callbacks or NoCallbacks()
    token = token or str(time.time_ns() // 1_000_000)
    names = iter((final,)) if replace else numbered(final)
    for name in names:
        present = _present(asset, name, proof, callbacks)
        if present is not None:
            return present
        final = name
        if replace or not os.path.lexists(name):
            break
    algorithm = asset.checksum.algorithm if asset.checksum else DEFAULT_ALGORITHM
    with PartFile(final, _content(asset), token, algorithm) as part:
        part.expect(asset.size_bytes)
        part.reserve(asset.size_bytes or 0, resumes=True)
        fetched = Fetch(asset, part, callbacks, transports)
        try:
            fetched.run()
            return _publish(fetched, suspect, None if replace else names)
        except FolderError:
            if fetched.folder is None:
                raise
        except LeaseLostError:
            # The attempt that has the lease looks for leftovers before it publishes, not later.
            if final.exists():
                part.discard()
            raise
        except TooLargeError:
            part.discard()
            raise
    return multi_object.fetch(
        asset,
        final,
        fetched.folder,
        callbacks=callbacks,
        token=token,
        content=_content(asset),
        download=download,
    )


def discard(asset: Asset, final: Path, token: str) -> None:
    """Remove whatever this attempt and earlier ones have left beside the final name."""
    part = PartFile(final, _content(asset), token, DEFAULT_ALGORITHM)
    part.sweep()
    part.discard()


def _content(asset: Asset) -> str:
    return str(asset.checksum) if asset.checksum else " ".join(sorted(asset.hrefs.values()))


# --- is it there? ----------------------------------------------------------------------------


def _present(
    asset: Asset, final: Path, proof: Proof | None, callbacks: Callbacks
) -> DownloadResult | None:
    """Tell whether the right bytes are at the final name already; a name alone proves nothing."""
    with local_errors(final):
        try:
            found = final.stat()
        except FileNotFoundError:
            return None
    if stat.S_ISDIR(found.st_mode) and asset.checksum is None and proof is not None:
        return multi_object.present(final, proof)
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "special file"
        raise NotAFileError(str(final), kind)
    if asset.checksum is None and Proof.of(found) != proof:
        return None
    if asset.size_bytes not in (None, found.st_size):
        return None
    if Proof.of(found) != proof and not _hashes_right(asset, final, callbacks):
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


def _hashes_right(asset: Asset, final: Path, callbacks: Callbacks) -> bool:
    assert asset.checksum is not None  # noqa: S101 - the caller has looked
    with local_errors(final):
        return asset.checksum == checksums.hash_file(
            final, asset.checksum.algorithm, callbacks.progress
        )


# --- prove and publish -------------------------------------------------------------------------


def _publish(
    fetched: Fetch, suspect: Checksum | None, names: Iterator[Path] | None
) -> DownloadResult:
    """Prove the bytes and publish them.

    Args:
        fetched: The bytes.
        suspect: As for :func:`download`.
        names: Other names, for when the final one is taken meanwhile; None replaces what has it.
    """
    asset, part = fetched.asset, fetched.part
    size = part.offset
    digest = part.digest()
    if asset.checksum is not None and digest != asset.checksum:
        _refuse(fetched, digest, suspect)
    if asset.checksum is None:
        _look_at_archive(part, asset)
    part.sync()
    fetched.callbacks.confirm()
    part.sweep()
    if names is None:
        final, proof = part.final, part.publish()
    else:
        final, proof = _publish_new(fetched, names)
    return DownloadResult(
        outcome=Outcome.RESUMED if fetched.resumed else Outcome.DOWNLOADED,
        path=str(final),
        size_bytes=size,
        checksum=digest,
        verified=asset.checksum is not None,
        bytes_transferred=fetched.received.total(),
        source=fetched.source,
        sources=dict(fetched.received),
        proof=proof,
    )


def _publish_new(fetched: Fetch, names: Iterator[Path]) -> tuple[Path, Proof]:
    """Publish under the first name that is free; another process may take names meanwhile."""
    part, name = fetched.part, fetched.part.final
    while (proof := part.publish_new(name)) is None:
        present = _present(fetched.asset, name, None, fetched.callbacks)
        if present is not None:
            part.discard()
            return name, present.proof
        name = next(names)
    return name, proof


def _refuse(fetched: Fetch, actual: Checksum, suspect: Checksum | None) -> None:
    """Throw the bytes away, or keep them when it is the catalogue that must be wrong."""
    part, expected = fetched.part, str(fetched.asset.checksum)
    if fetched.whole and actual in {suspect, *fetched.wrong}:
        kept = part.quarantine()
        raise CatalogueMismatchError(str(part.final), expected, str(actual), str(kept))
    part.discard()
    raise ChecksumMismatchError(str(part.final), expected, str(actual), fetched.whole)


def _look_at_archive(part: PartFile, asset: Asset) -> None:
    """Refuse what is announced as a zip and has no zip's end; all that can be said of it."""
    if asset.title.lower().endswith(".zip") and not zipfile.is_zipfile(part.path):
        part.discard()
        raise UnexpectedAnswerError(asset.key, 200, "the body is no zip archive")
