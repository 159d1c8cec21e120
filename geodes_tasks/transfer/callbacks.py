"""Callbacks of a transfer: what a caller may count, refuse and stop while a file is fetched."""

from __future__ import annotations

from typing import Protocol

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.model.asset import Asset


class KnownDirectories(Protocol):
    """Directories of archives that earlier downloads have read."""

    def find(self, asset: Asset) -> bytes:
        """Return the end of an archive from its directory on; b"" where it must be requested."""
        ...

    def keep(self, asset: Asset, content: bytes) -> None:
        """Keep the end of an archive from its directory on."""
        ...


class Callbacks:
    """Functions that a download calls; each may raise an error, which ends the download.

    These allow everything. A transfer knows neither Redis nor Celery: in its subclasses a worker
    spends quota and renews its lease, and a notebook draws a bar.
    """

    directories: KnownDirectories | None = None
    """Directories of archives that the caller keeps; None where it keeps none."""

    def check_folder(self, descriptor: int) -> None:
        """Check that something may be created in an open folder.

        Called before the first file of a download is created there, and before it is published.

        Args:
            descriptor: Of the folder itself, whatever has its name by now.
        """

    def before_open(self, source: str) -> None:
        """Allow one request to a source, and spend quota for it.

        Called before each request, also for a retry or a restart from byte 0.

        Args:
            source: ``geodes`` or ``s3``.
        """

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Record progress, or stop the download.

        Called after each chunk that was written, copied from a part file or hashed.

        Args:
            done_bytes: Number of bytes on disk, those of earlier attempts included.
            received_bytes: Number of bytes that came over the network since the last call.
        """

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Record why a source failed, where that error is not the one the download ends with.

        The download continues from another source, or raises the error of another source.
        """

    def confirm(self) -> None:
        """Check that the file may still be published; called just before it gets its final name."""
