"""Reader of a response body: pieces in order, and one error class for each way to fail.

Both transports receive a urllib3 response, so both read it here.
"""

from __future__ import annotations

from collections.abc import Generator
from http.client import HTTPException, IncompleteRead
from typing import Any

from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse

from geodes_tasks.errors import (
    GeodesTasksError,
    StalledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.transports.abort import Call

PIECE_BYTES = 512 * 1024
"""Bytes in a piece, at most: the block size of a big file, so that no copy is made for the write.
Measured for 1 GiB over loopback, pieces of 256 KiB take a tenth longer; those of 640 KiB are no
faster, and cost a worker with 16 transfers a quarter more memory."""


class BodyReader:
    """Reads one body, which starts at byte ``offset`` of the object."""

    def __init__(self, raw: BaseHTTPResponse, href: str, call: Call, *, offset: int = 0) -> None:
        self._raw, self._href, self._call = raw, href, call
        self._at = offset
        self._piece_bytes = PIECE_BYTES
        if call.rate:
            self._piece_bytes = min(PIECE_BYTES, call.rate.piece_bytes)
        self.length: int | None = getattr(raw, "length_remaining", None)
        """Bytes announced; None when Content-Length is absent or is not a number from 0 up."""
        self._end = None if self.length is None else offset + self.length

    def lengthen(self, total_bytes: int) -> None:
        """Read up to the end of an object of this size instead of the announced length."""
        raw: Any = self._raw
        # urllib3 and http.client each stop at a counter of their own (``length_remaining`` and
        # ``length``), and neither has a public setter.
        raw.length_remaining = raw._fp.length = total_bytes - self._at
        self._end = total_bytes

    def read(self) -> bytes:
        """Read the bytes that have arrived, at least one; empty at the end of the body.

        Raises:
            TruncatedBodyError: fewer bytes than announced.
            StalledError: no byte arrived within the timeout of the socket.
            TransferError: the connection was cut or reset, the chunked encoding is broken, or
                ``abort`` interrupted it.
        """
        try:
            # ``read`` blocks until the whole piece is there (io.BufferedIOBase.read1), so a slow
            # body would report no progress for minutes.
            piece = self._raw.read1(self._piece_bytes, decode_content=False)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._named(error) from error
        if not piece and self._call.broken_off:
            # ``shutdown`` of the socket makes recv return 0 bytes, as the end of a body does
            # (RFC 9112 section 6.3, rule 8): it must not pass for the end of the file.
            raise self._broken_off()
        self._at += len(piece)
        if self._call.rate and piece:
            self._call.sleep(self._call.rate.wait_s(len(piece)))
        # RFC 9112 section 8: fewer bytes than Content-Length make the response incomplete.
        if not piece and self._end is not None and self._at < self._end:
            raise TruncatedBodyError(self._href, self._end, self._at)
        return piece

    def pieces(self, first: bytes = b"") -> Generator[bytes]:
        """Yield the pieces in order; ``first`` is one that was already read."""
        piece = first or self.read()
        while piece:
            yield piece
            piece = self.read()

    def whole(self, most: int) -> bytes:
        """Read a small body, at most ``most`` bytes and the rest of a piece.

        Raises:
            GeodesTasksError: as :meth:`read`.
        """
        body = bytearray()
        while len(body) < most and (piece := self.read()):
            body += piece
        return bytes(body)

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
    """Return the innermost error that an error wraps.

    requests wraps the error of urllib3, which wraps the error of the socket.
    """
    # The texts of the outer errors quote the whole address, and its query may be a signature.
    inner = (getattr(error, "reason", None), *error.args, error.__cause__)
    wrapped = next((each for each in inner if isinstance(each, BaseException)), None)
    return root_cause(wrapped) if wrapped is not None else error


def cause_name(error: BaseException) -> str:
    """Return a text for the innermost error that quotes neither the address nor the response."""
    cause = root_cause(error)
    text = cause.strerror if isinstance(cause, OSError) else None
    return text or type(cause).__name__
