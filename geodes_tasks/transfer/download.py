"""One download, in a straight line: present, fetched, verified, published. No Redis, no Celery."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from geodes_tasks.errors import (
    CatalogueMismatchError,
    ChecksumMismatchError,
    DiskError,
    NotAFileError,
    UnexpectedAnswerError,
)
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import audit, multi_object
from geodes_tasks.transfer.archive_directory import is_archive
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import numbered
from geodes_tasks.transfer.disk import disk_errors
from geodes_tasks.transfer.download_archive import download_archive
from geodes_tasks.transfer.fallback import fetch_from_any
from geodes_tasks.transfer.fetch import Fetch
from geodes_tasks.transfer.partfile import PartFile
from geodes_tasks.transfer.unpack import Unpacked
from geodes_tasks.transports import Transport

EXPECTED_BYTES = 1 << 40
"""Bytes that are expected of a file at its final name where the catalogue has no size: 1 TiB."""
DEFAULT_ALGORITHM = "md5"
_LOCK, _LAST = threading.Lock(), [0]
"""The last token of this process, and the lock around it."""


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
    """Fetch one asset, verify it, and publish it at its final path.

    Nothing appears at ``final`` until size and checksum agree with the catalogue. A killed
    process leaves a part file that the next attempt adopts.

    Args:
        asset: What to fetch.
        final: Path of the file, or of the folder where the asset turns out to be many files.
        transports: By source name, the preferred one first; those that the asset has no href
            for are left out.
        callbacks: Called by the transfer; by default they allow everything.
        token: A number higher than that of every earlier attempt; by default the clock's.
        proof: Of the file as it was last verified; unchanged since, it is not read again.
        suspect: Digest of an earlier whole copy that did not agree with the catalogue.
        replace: Whether other bytes at ``final`` are replaced. If not, they stay, and the file is
            published with ``-1``, ``-2``, ... before its suffix: the result has its path.

    Raises:
        ChecksumMismatchError, SizeMismatchError: the part file has been deleted.
        TruncatedBodyError, TransferError: the part file is kept for the next attempt.
        CatalogueMismatchError: two whole copies agree against the catalogue; one is kept.
        DiskError, NotAFileError: the folder does not take the file.
        TooLargeError: the volume can never take it; the part file has been deleted.
        GeodesTasksError: what the transports and ``callbacks`` raise.
    """
    callbacks = callbacks or Callbacks()
    token = token or _new_token()
    if asset.unpack:
        options: dict[str, Any] = {"callbacks": callbacks, "token": token, "suspect": suspect}
        whole = partial(download, **options)
        return download_archive(asset, final, transports, callbacks, token, proof, whole)
    names = iter((final,)) if replace else numbered(final)
    for final in names:
        if (present := _present(asset, final, proof, callbacks)) is not None:
            return present
        if replace or not os.path.lexists(final):
            break
    algorithm = asset.checksum.algorithm if asset.checksum else DEFAULT_ALGORITHM
    with PartFile(final, asset.content, token, algorithm, callbacks.check_folder) as part:
        part.expect(asset.size_bytes)
        part.reserve(asset.size_bytes or 0, resumes=True)
        fetch = Fetch(asset, part, callbacks)
        folder = None if fetch.adopt_whole() else fetch_from_any(fetch, transports)
        if folder is None:
            checksum = _verified(fetch, suspect)
            try:
                part.sync()
            except DiskError:
                # After a failed sync only a checksum tells what the disk has (fsync(2), ERRORS).
                if asset.checksum is None:
                    part.discard()
                raise
            callbacks.confirm()
            # Where a kill follows the rename, no later attempt removes them.
            if not part.leftovers.is_first:
                part.leftovers.sweep()
            return _published(fetch, checksum, None if replace else names)
    return multi_object.download_product(asset, final, folder, callbacks, token, download)


def _new_token() -> str:
    """Return the time in milliseconds; threads that call at the same time get different numbers."""
    with _LOCK:
        _LAST[0] = max(_LAST[0] + 1, time.time_ns() // 1_000_000)
        return str(_LAST[0])


def discard(asset: Asset, final: Path, token: str) -> None:
    """Remove the part files of this attempt and of earlier ones."""
    if asset.unpack:
        folder = Unpacked(final, asset.content)
        plain = dataclasses.replace(asset, unpack=Unpack.NO, members=())
        discard(plain, folder.archive_of(asset), token)
        folder.drop_archive()
    part = PartFile(final, asset.content, token, DEFAULT_ALGORITHM)
    part.leftovers.sweep()
    part.discard()


# --- present -----------------------------------------------------------------------------------


def _present(
    asset: Asset, final: Path, proof: Proof | None, callbacks: Callbacks
) -> DownloadResult | None:
    """Return the result when the right bytes have the final name already, else None.

    A name alone proves nothing. A folder counts only with the proof of an earlier download.

    Raises:
        NotAFileError: a folder or a special file has the name.
        DiskError: it cannot be read.
    """
    with disk_errors(final):
        try:
            found = final.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            if asset.checksum is not None or proof is None or multi_object.proof_of(final) != proof:
                raise NotAFileError(str(final), "folder")
            size, current = proof.size_bytes, proof
        elif not stat.S_ISREG(found.st_mode):
            raise NotAFileError(str(final), "special file")
        elif _is_hollow(found, asset.size_bytes) and Proof.of(found) != proof:
            return None
        else:
            # Where there is a checksum it decides: sizes in catalogues are wrong at times.
            size_bytes = None if asset.checksum else asset.size_bytes
            expected = audit.Expected(str(final), size_bytes, asset.checksum)
            audited = audit.inspect(expected, found, proof, callbacks.progress)
            if audited.finding is not audit.Finding.RIGHT:
                return None
            size, current = found.st_size, Proof.of(found)
    return DownloadResult.present(asset, final, size, current)


def _is_hollow(found: os.stat_result, expected_bytes: int | None) -> bool:
    """Return whether a file has mostly holes, and more than twice the bytes that are expected.

    A sparse file of terabytes costs a user who plants it nothing, and takes hours to read.
    """
    # A block of st_blocks has 512 bytes (stat(2)). Files on compressed volumes have few, too.
    is_sparse = found.st_blocks * 512 < found.st_size // 2
    return is_sparse and found.st_size > 2 * (expected_bytes or EXPECTED_BYTES)


# --- verify and publish ------------------------------------------------------------------------


def _verified(fetch: Fetch, suspect: Checksum | None) -> Checksum:
    """Return the digest of the part file when it is the catalogue's, or there is none to match.

    Raises:
        ChecksumMismatchError: it is another; the part file has been deleted.
        CatalogueMismatchError: two whole copies have the same other one; the part file is kept
            under another name, as the catalogue must be wrong.
        UnexpectedAnswerError: a file named as a zip archive is none, or one of which nothing is
            known is empty; it has been deleted.
        DiskError: it cannot be read.
    """
    asset, part = fetch.asset, fetch.part
    actual = part.digest()
    if asset.checksum is not None and actual != asset.checksum:
        digests = str(part.final), str(asset.checksum), str(actual)
        if fetch.is_one_body and actual in {suspect, *fetch.wrong}:
            raise CatalogueMismatchError(*digests, str(part.quarantine()))
        part.discard()
        raise ChecksumMismatchError(*digests, fetch.is_one_body)
    if asset.checksum is None and asset.size_bytes is None and not part.offset:
        part.discard()
        raise UnexpectedAnswerError(asset.key, 200, "the body is empty")
    # Without a checksum the end of a zip archive is all that can be checked.
    is_zip = asset.title.lower().endswith(".zip")
    if asset.checksum is None and is_zip:
        with disk_errors(part.final):
            is_right = is_archive(part.path)
        if not is_right:
            part.discard()
            raise UnexpectedAnswerError(asset.key, 200, "the body is no zip archive")
    return actual


def _published(fetch: Fetch, checksum: Checksum, names: Iterator[Path] | None) -> DownloadResult:
    """Publish the part file and return the result.

    Args:
        fetch: The transfer.
        checksum: Of the bytes.
        names: Further names for a file that must not replace another one; another process may
            take a name at any time. None replaces the file that has the name.
    """
    asset, part, size = fetch.asset, fetch.part, fetch.part.offset
    final, proof = part.final, part.publish() if names is None else part.publish_new(part.final)
    while proof is None and names is not None:
        present = _present(asset, final, None, fetch.callbacks)
        if present is not None:
            part.discard()
            proof = present.proof
        else:
            final = next(names)
            proof = part.publish_new(final)
    assert proof is not None  # noqa: S101 - the loop ends with one
    return DownloadResult(
        outcome=Outcome.RESUMED if fetch.has_resumed else Outcome.DOWNLOADED,
        path=str(final),
        size_bytes=size,
        checksum=checksum,
        verified=asset.checksum is not None,
        bytes_transferred=fetch.received.total(),
        source=fetch.source,
        sources=dict(fetch.received),
        proof=proof,
    )
