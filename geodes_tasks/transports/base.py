"""Contract of the transports: a transport opens an href and returns its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from geodes_tasks.model.asset import Asset


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of an object from ``offset`` to its end."""

    offset: int
    """First byte of ``chunks``; 0 unless the server proved that it resumed."""
    total_bytes: int | None
    """Size of the whole object; None when the server does not announce it."""
    etag: str | None
    """Strong validator of the object, for a later resume; None when there is none."""
    chunks: Iterator[bytes]
    """Pieces in order, each at most about 1 MiB, as soon as they arrive.

    Iterating raises the errors of the transport: a short body is TruncatedBodyError where the
    length was announced, a broken connection is TransferError, a silent one StalledError.
    """
    lengthen: Callable[[int], None] | None = None
    """Changes the total size up to which ``chunks`` reads, for a caller with a better source than
    Content-Length; None where the transport cannot change it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One object in a folder."""

    name: str
    """Path relative to the folder, with slashes."""
    href: str
    """Address to open."""
    size_bytes: int


class Transport(Protocol):
    """Opens hrefs. Safe to use from many threads.

    Build it after a fork: two processes must not write to one socket.
    """

    def open(
        self,
        href: str,
        *,
        offset: int = 0,
        etag: str | None = None,
        asset: Asset | None = None,
    ) -> AbstractContextManager[Body]:
        """Open an object, at ``offset`` where the server proves that it resumes.

        A download that cannot be resumed (no ranges, an error response to the range, another
        ETag) is not an error: the Body then starts at offset 0.

        Args:
            href: Address of the object.
            offset: First byte wanted.
            etag: Validator of the bytes that the caller has; None when it has none.
            asset: What the catalogue says of the file; its checksum decides, where there is one,
                whatever the response looks like.

        Raises:
            GeodesTasksError: one subclass for each reaction; no other error is raised.
        """
        ...

    def serves_ranges(self, href: str) -> bool:
        """Return whether ``open_range`` is worth a request: no range failed there lately."""
        ...

    def open_range(
        self, href: str, first: int, length: int, *, etag: str | None, asset: Asset
    ) -> AbstractContextManager[Body]:
        """Open exactly ``length`` bytes from ``first``, in one request.

        Args:
            href: Address of the object.
            first: First byte wanted.
            length: Number of bytes wanted, at least 1.
            etag: Validator of the object that other ranges are of; None for the first range.
            asset: What the catalogue says of the file.

        Raises:
            NoRangesError: the response does not prove that it is this range of this object.
            GeodesTasksError: as ``open``.
        """
        ...

    def members(self, href: str) -> Sequence[Member]:
        """List the objects below an address for which ``open`` raised FolderError.

        Raises:
            GeodesTasksError: the folder is empty or cannot be listed.
        """
        ...

    def abort(self, thread: int) -> None:
        """Interrupt the network wait of a thread of this process with a TransferError.

        Args:
            thread: From ``threading.get_ident()``; no effect on a thread without an open href.
        """
        ...
