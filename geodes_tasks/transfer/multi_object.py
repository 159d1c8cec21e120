"""Products of many objects: one download, one folder, and every file in it verified.

Each file is verified by its size, and by its checksum where a manifest of the product lists it.
Like a part file the folder has a temporary name and one owner, a next attempt adopts it by renaming
it, and it is published whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
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
from geodes_tasks.transfer.leftovers import FOLDER_ENDING, Leftovers, make_folder
from geodes_tasks.transports import Member


class ProductFolder:
    """The files of one attempt at a product of many objects."""

    def __init__(self, asset: Asset, final: Path, content: str, token: str, source: str) -> None:
        """Compute the name of the folder; nothing is created yet.

        Args:
            asset: Product to fetch.
            final: Path of the folder once all its files are verified.
            content: Identity of the content; folders of other content are never adopted.
            token: Token of the attempt, a number higher than that of all attempts before it.
            source: Name of the source of its objects.
        """
        self.asset, self.final, self.source = asset, final, source
        self.done_bytes = 0
        """Bytes of the files that are verified."""
        self.received_bytes = 0
        """Bytes that came over the network."""
        self._leftovers = Leftovers(final, content, int(token))
        parent = self._leftovers.folder
        self.path = parent / f"{self._leftovers.stem}.{token}.{FOLDER_ENDING}"
        self._sizes: dict[str, int] = {}
        self._known: dict[str, Checksum] = {}
        self._verified = 0

    def create(self) -> None:
        """Create the folder, or adopt the one that a dead attempt left.

        Raises:
            NotAFileError: the final name is taken.
            DiskError: it cannot be created.
        """
        with disk_errors(self.final):
            if self.final.exists():
                raise NotAFileError(str(self.final), "folder")
            make_folder(self.path.parent)
            for folder in self._leftovers.folders():
                with contextlib.suppress(OSError):
                    folder.rename(self.path)
                    return
            self.path.mkdir(exist_ok=True)

    def ordered(self, members: Sequence[Member]) -> list[Member]:
        """Return the objects in the order to fetch them: manifests first, then by name.

        Raises:
            HostileNameError: an object would leave the folder; nothing must be fetched.
        """
        for member in members:
            if problem := refused_name(member.name):
                raise HostileNameError(self.asset.item_id, f"an object of it {problem}")
        return sorted(members, key=lambda one: (not manifest.is_manifest(one.name), one.name))

    def asset_of(self, member: Member) -> Asset:
        """Return one object as an asset, with its checksum if a manifest listed it."""
        return Asset(
            item_id=self.asset.item_id,
            collection=self.asset.collection,
            key=self.asset.key,
            title=member.name,
            hrefs={self.source: member.href},
            size_bytes=member.size_bytes,
            checksum=self._known.get(member.name),
        )

    def has(self, member: Member) -> bool:
        """Return whether an object without checksum is there, with the right size.

        One with a checksum is left to the download, which reads the file.
        """
        path = self.path / member.name
        if member.name in self._known:
            return False
        with disk_errors(path):
            try:
                return path.stat().st_size == member.size_bytes
            except FileNotFoundError:
                return False

    def add(self, member: Member) -> None:
        """Count an object whose file is verified, and read it if it is a manifest.

        Raises:
            DiskError: it cannot be read.
        """
        self._verified += member.name in self._known or manifest.is_manifest(member.name)
        with disk_errors(self.path / member.name):
            self._known |= manifest.checksums_of(self.path, member.name, member.size_bytes)
        self._sizes[member.name] = member.size_bytes
        self.done_bytes += member.size_bytes

    def publish(self) -> DownloadResult:
        """Rename the folder to its final name, in one step, when every file is in it.

        Raises:
            LeaseLostError: another attempt has adopted this folder.
            NotAFileError: something else has the final name.
            DiskError: the disk does not take it.
        """
        with disk_errors(self.final):
            try:
                sizes = {name: (self.path / name).stat().st_size for name in self._sizes}
            except FileNotFoundError as error:
                raise LeaseLostError(str(self.final)) from error
            if sizes != self._sizes:
                raise LeaseLostError(str(self.final))
            # Folders of part files that broken attempts left below this one.
            for folder in list(self.path.rglob(PART_FOLDER)):
                shutil.rmtree(folder, ignore_errors=True)
            try:
                self.path.rename(self.final)
            except OSError as error:
                # rename(2) replaces an empty folder; ENOTEMPTY or ENOTDIR is another product.
                if self.final.exists():
                    raise NotAFileError(str(self.final), "folder") from error
                raise
            proof = proof_of(self.final)
        self._leftovers.sweep()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
        return DownloadResult(
            outcome=(
                Outcome.DOWNLOADED if self.received_bytes == self.done_bytes else Outcome.RESUMED
            ),
            path=str(self.final),
            size_bytes=self.done_bytes,
            checksum=None,
            verified=bool(self._known) and self._verified == len(self._sizes),
            bytes_transferred=self.received_bytes,
            source=self.source,
            sources={self.source: self.received_bytes} if self.received_bytes else {},
            proof=proof,
        )


class MemberCallbacks(Callbacks):
    """Callbacks of one file of a product: its progress is added to that of the files before."""

    def __init__(self, callbacks: Callbacks, before_bytes: int) -> None:
        """Take the callbacks of the product, and the bytes of its files before this one."""
        self._callbacks, self._before_bytes = callbacks, before_bytes

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
