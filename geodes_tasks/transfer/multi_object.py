"""Products of many objects: one download, one folder, and every file in it verified.

Each file is verified by its size, and by its checksum where a manifest of the product lists it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from geodes_tasks.errors import (
    GeodesTasksError,
    HostileNameError,
    LeaseLostError,
    NotAFileError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import manifest
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER, refused_name
from geodes_tasks.transfer.disk import disk_errors
from geodes_tasks.transfer.growing_folder import growing_folder
from geodes_tasks.transfer.leftovers import Leftovers
from geodes_tasks.transports import Member, Source


def download_product(
    asset: Asset,
    final: Path,
    source: Source,
    callbacks: Callbacks,
    token: str,
    download: Callable[..., DownloadResult],
) -> DownloadResult:
    """Fetch all objects below an address into one folder, published when all are verified.

    Args:
        asset: Product to fetch.
        final: Path of the folder.
        source: Where the address is that of a folder.
        callbacks: Called by the transfer.
        token: A number higher than that of every earlier attempt.
        download: Fetches and verifies one file.

    Raises:
        HostileNameError: an object would leave the folder; nothing was fetched.
        LeaseLostError: another attempt has adopted the folder.
        NotAFileError: the final name is taken.
        GeodesTasksError: as for one file; what was fetched is kept for the next attempt.
    """
    callbacks.before_open(source.name)
    members = _ordered(asset, source.transport.members(source.href))
    if final.exists():
        raise NotAFileError(str(final), "folder")
    known: dict[str, Checksum] = {}
    done_bytes = received_bytes = 0
    with growing_folder(
        final, asset.content, token, callbacks.check_folder, is_kept=True
    ) as growing:
        for member in members:
            path, checksum = growing.path / member.name, known.get(member.name)
            # The download reads a file that is there to compare its checksum.
            if checksum is not None or not _has_size(path, member.size_bytes):
                result = download(
                    replace(
                        asset, title=member.name, hrefs={source.name: member.href},
                        size_bytes=member.size_bytes, checksum=checksum,
                    ),
                    path,
                    {source.name: source.transport},
                    callbacks=MemberCallbacks(callbacks, done_bytes),
                    token=token,
                )  # fmt: skip
                received_bytes += result.bytes_transferred
            with disk_errors(path):
                known |= manifest.checksums_of(growing.path, member.name, member.size_bytes)
            done_bytes += member.size_bytes
            callbacks.progress(done_bytes)
        callbacks.confirm()
        if not all(_has_size(growing.path / one.name, one.size_bytes) for one in members):
            raise LeaseLostError(str(final))
        # Folders of part files that broken attempts left below this one.
        for folder in list(growing.path.rglob(PART_FOLDER)):
            shutil.rmtree(folder, ignore_errors=True)
        if not growing.publish():
            raise NotAFileError(str(final), "folder")
    Leftovers(final, asset.content, int(token)).sweep()
    with contextlib.suppress(OSError):
        growing.path.parent.rmdir()
    with disk_errors(final):
        proof = proof_of(final)
    others = [one for one in members if not manifest.is_manifest(one.name)]
    return DownloadResult(
        outcome=Outcome.DOWNLOADED if received_bytes == done_bytes else Outcome.RESUMED,
        path=str(final),
        size_bytes=done_bytes,
        checksum=None,
        verified=bool(known) and all(one.name in known for one in others),
        bytes_transferred=received_bytes,
        source=source.name,
        sources={source.name: received_bytes} if received_bytes else {},
        proof=proof,
    )


def _ordered(asset: Asset, members: Sequence[Member]) -> list[Member]:
    """Return the objects in the order to fetch them: manifests first, then by name.

    Raises:
        HostileNameError: an object would leave the folder.
    """
    for member in members:
        if problem := refused_name(member.name):
            raise HostileNameError(asset.item_id, f"an object of it {problem}")
    return sorted(members, key=lambda one: (not manifest.is_manifest(one.name), one.name))


def _has_size(path: Path, size_bytes: int) -> bool:
    """Return whether a file is there with the right size."""
    with disk_errors(path):
        return path.is_file() and path.stat().st_size == size_bytes


class MemberCallbacks(Callbacks):
    """Callbacks of one file of a product: its progress is added to that of the files before."""

    def __init__(self, callbacks: Callbacks, before_bytes: int) -> None:
        """Take the callbacks of the product, and the bytes of its files before this one."""
        self._callbacks, self._before_bytes = callbacks, before_bytes

    def check_folder(self, descriptor: int) -> None:
        """Allow a folder if the product's callbacks do."""
        self._callbacks.check_folder(descriptor)

    def before_open(self, source: str) -> None:
        """Allow the request if the product's callbacks do."""
        self._callbacks.before_open(source)

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Report the bytes of the product so far."""
        self._callbacks.progress(self._before_bytes + done_bytes, received_bytes)

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Record the error with the product's callbacks."""
        self._callbacks.source_failed(source, error)


# --- on disk -----------------------------------------------------------------------------------


def proof_of(folder: Path) -> Proof:
    """Return the total size, the newest time and the inode of a folder, read by stat alone.

    Raises:
        OSError: the folder cannot be read.
    """
    size, newest = 0, 0
    for _, found in _stats(folder):
        size, newest = size + found.st_size, max(newest, found.st_mtime_ns)
    return Proof(size, newest, folder.stat().st_ino)


def sizes_in(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder, by its name below the folder.

    Raises:
        OSError: a folder or file cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    return {os.path.relpath(path, folder): found.st_size for path, found in _stats(folder, fail)}


def _stats(
    folder: Path, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, os.stat_result]]:
    for parent, _, names in os.walk(folder, onerror=on_error):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - a product may have 100,000 files
            yield path, os.stat(path)  # noqa: PTH116
