"""The contract of all transports: an href goes in, bytes come out, resumed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of an object from ``offset`` on."""

    offset: int
    """Where ``chunks`` start; 0 whenever the server did not prove that it resumed."""
    total_bytes: int | None
    """Size of the whole object; None when the server does not say."""
    etag: str | None
    """Strong validator of the object, for a later resume; None when there is none."""
    chunks: Iterator[bytes]
    """Pieces in order, as soon as the network has them, about 1 MiB at most each.

    Iterating raises the errors of the transport: a short body is TruncatedBodyError where the
    length was announced, a broken or silent connection TransferError or StalledError.
    """
    lengthen: Callable[[int], None] | None = None
    """Has ``chunks`` go on to another total than the one announced, for a caller who knows better;
    None where that cannot be."""


@dataclass(frozen=True, slots=True)
class Member:
    """One object below an address that is a folder."""

    name: str
    """Below the folder, with slashes."""
    href: str
    """Where it is opened."""
    size_bytes: int


class Transport(Protocol):
    """One way to open hrefs. Safe to use from many threads; made after the fork, not before."""

    def open(
        self, href: str, *, offset: int = 0, etag: str | None = None
    ) -> AbstractContextManager[Body]:
        """Open an object, from ``offset`` on where the server proves that it can.

        Whatever cannot be resumed (no ranges, an error answer to the range, another ETag) is
        not an error: it is a Body at offset 0.

        Args:
            href: Where the object is.
            offset: First byte wanted.
            etag: Validator of the bytes that the caller has; None when it has none.

        Raises:
            GeodesTasksError: a subclass that names the reaction; nothing else leaves here.
        """
        ...

    def members(self, href: str) -> Sequence[Member]:
        """List the objects below an address for which ``open`` raised FolderError.

        Raises:
            GeodesTasksError: there are none, or they cannot be listed.
        """
        ...

    def abort(self, thread: int) -> None:
        """Break off what a thread of this process waits for; it then meets a TransferError.

        Args:
            thread: Of ``threading.get_ident()``; one that waits for nothing is not disturbed.
        """
        ...
