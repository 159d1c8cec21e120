"""The bytes of an answer, in pieces, with every breakage named.

Both transports end in a urllib3 response, so both read through here.
"""

from __future__ import annotations

from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import HTTPError, ReadTimeoutError

from geodes_tasks.errors import (
    GeodesTasksError,
    StalledError,
    TransferError,
    TruncatedBodyError,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from urllib3.response import BaseHTTPResponse

    from geodes_tasks.transports.abort import Call

PIECE_BYTES = 512 * 1024
"""Most bytes in a piece: a block of a big file, so that it is written from where it was received.
Measured for 1 GiB over loopback, pieces of 256 KiB take a tenth longer; those of 640 KiB are no
faster, and cost a worker with 16 transfers a quarter more memory."""


class BodyReader:
    """Reads one body; ``offset`` is where in the object it starts, for the messages."""

    def __init__(self, raw: BaseHTTPResponse, href: str, call: Call, *, offset: int = 0) -> None:
        self._raw, self._href, self._call = raw, href, call
        self._at = offset
        self.length: int | None = getattr(raw, "length_remaining", None)
        """Bytes announced; None when Content-Length is absent, negative or no number."""
        self._end = None if self.length is None else offset + self.length

    def lengthen(self, total_bytes: int) -> None:
        """Read on to the end of an object of this size, whatever length was announced."""
        raw: Any = self._raw
        # urllib3 counts for itself, and so does http.client below it.
        raw.length_remaining = raw._fp.length = total_bytes - self._at
        self._end = total_bytes

    def read(self) -> bytes:
        """Give the bytes that are there, waiting for the first; empty at the proper end.

        Raises:
            TruncatedBodyError: fewer bytes than announced.
            StalledError: no byte within the socket's timeout.
            TransferError: cut, reset, not HTTP any more, or broken off from outside.
        """
        try:
            # read1, not read: a slow body must show its progress piece by piece.
            piece = self._raw.read1(PIECE_BYTES, decode_content=False)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._named(error) from error
        if not piece and self._call.broken_off:
            # An end that was made, not met: it must not pass for the end of the file.
            raise self._broken_off()
        self._at += len(piece)
        if not piece and self._end is not None and self._at < self._end:
            raise TruncatedBodyError(self._href, self._end, self._at)
        return piece

    def pieces(self, first: bytes = b"") -> Generator[bytes]:
        """Yield the pieces in order, ``first`` being one that was read already."""
        piece = first or self.read()
        while piece:
            yield piece
            piece = self.read()

    def _broken_off(self) -> TransferError:
        return TransferError(self._href, f"broken off at byte {self._at}")

    def _named(self, error: Exception) -> GeodesTasksError:
        if self._call.broken_off:
            return self._broken_off()
        if isinstance(error, ReadTimeoutError | TimeoutError):
            return StalledError(self._href, f"silent since byte {self._at}")
        if self._end is not None and any(isinstance(arg, IncompleteRead) for arg in error.args):
            return TruncatedBodyError(self._href, self._end, self._at)
        return TransferError(
            self._href, f"the connection broke at byte {self._at} ({cause_name(error)})"
        )


def root_cause(error: BaseException) -> BaseException:
    """Give the innermost error that an error wraps.

    requests wraps urllib3 and urllib3 wraps the socket's error; the outer texts quote whole
    addresses, queries included, so only the innermost is fit to be shown.
    """
    inner = (getattr(error, "reason", None), *error.args, error.__cause__)
    wrapped = next((each for each in inner if isinstance(each, BaseException)), None)
    return root_cause(wrapped) if wrapped is not None else error


def cause_name(error: BaseException) -> str:
    """Name the innermost error in words that quote nothing of address or answer."""
    cause = root_cause(error)
    text = cause.strerror if isinstance(cause, OSError) else None
    return text or type(cause).__name__
