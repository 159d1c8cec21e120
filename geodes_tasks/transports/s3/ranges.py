"""A large object in ranges that are fetched side by side and handed over in order.

Measured on loopback with an object of 1 GiB, processor seconds of the client: one GET 0.5, own
ranges of 8, 4 and 2 MiB 0.5, 0.75 and 1.0 (each request of boto3 cost a millisecond), boto3's
managed transfer 3.8. A datalake gives each connection its share only, so several are worth it.
What is ahead of its turn is lost when the source breaks, so not much may be ahead.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from geodes_tasks.errors import GeodesTasksError, TransferError, TruncatedBodyError
from geodes_tasks.transports.body_reader import BodyReader, cause_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from urllib3 import BaseHTTPResponse

    from geodes_tasks.transports.abort import Call

RANGE_BYTES = 3 * 1024 * 1024
"""Bytes of one range."""
SIDE_BY_SIDE = 3
"""Ranges under way: with one in its turn, at most two wait for theirs (6 MiB of memory)."""


HANDED_BYTES = 256 * 1024
"""Handing a piece from thread to thread costs more than copying so many bytes together."""
HANDED_SECONDS = 0.2
"""Seconds for which a piece is held back, at most: a slow transfer must be seen to progress."""


class Span(NamedTuple):
    """One range and what came of it; an empty piece is its end."""

    start: int
    end: int
    """The byte after the last."""
    pieces: SimpleQueue[bytes | GeodesTasksError]


class Ranges:
    """The rest of one object."""

    def __init__(
        self,
        get: Callable[[int, int], BaseHTTPResponse],
        start: int,
        total: int,
        href: str,
        call: Call,
    ) -> None:
        """Prepare; nothing is asked for yet.

        Args:
            get: Opens the bytes from one offset to before another, of the one version wanted;
                raises errors of this package.
            start: First byte wanted.
            total: Size of the object.
            href: Fit to be shown.
            call: Of the thread that reads.
        """
        self._get, self._href, self._total, self._call = get, href, total, call
        starts = range(start, total, RANGE_BYTES)
        self._spans = [Span(at, min(at + RANGE_BYTES, total), SimpleQueue()) for at in starts]
        self._left = iter(self._spans)
        self._lock = threading.Lock()
        self._room = threading.Semaphore(SIDE_BY_SIDE)
        self._open: set[BaseHTTPResponse] = set()
        self._closed = False

    def start(self) -> None:
        """Begin to fetch ahead."""
        for _ in range(min(SIDE_BY_SIDE, len(self._spans))):
            threading.Thread(target=self._work, name="s3-range", daemon=True).start()

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order, as they come.

        Raises:
            GeodesTasksError: a range could not be had; those before it were handed over.
        """
        for span in self._spans:
            while piece := self._next(span):
                yield piece
            self._room.release()

    def _next(self, span: Span) -> bytes:
        piece = span.pieces.get()
        if isinstance(piece, TruncatedBodyError):
            raise TruncatedBodyError(self._href, self._total, piece.received)
        if isinstance(piece, GeodesTasksError):
            raise piece
        return piece

    def close(self) -> None:
        """End all requests; a caller that waits for a piece gets a TransferError."""
        with self._lock:
            self._closed = True
            # Shut down, not closed: each thread closes its own when that wakes it.
            for response in self._open:
                with suppress(OSError, ValueError, RuntimeError):
                    response.shutdown()
        for span in self._spans:
            span.pieces.put(TransferError(self._href, "broken off"))
        self._room.release(SIDE_BY_SIDE)

    # --- in the threads of the ranges -----------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._room.acquire()
            with self._lock:
                span = None if self._closed else next(self._left, None)
            if span is None:
                return
            try:
                self._fetch(span)
            except GeodesTasksError as error:
                span.pieces.put(error)
                return
            except Exception as error:  # noqa: BLE001 - a thread must not end without a word
                span.pieces.put(TransferError(self._href, cause_name(error)))
                return

    def _fetch(self, span: Span) -> None:
        with closing(self._get(span.start, span.end)) as response:
            if not self._opened(response):
                return
            try:
                reader = BodyReader(response, self._href, self._call, offset=span.start)
                for piece in _gathered(reader.pieces()):
                    span.pieces.put(piece)
            finally:
                with self._lock:
                    self._open.discard(response)
        span.pieces.put(b"")

    def _opened(self, response: BaseHTTPResponse) -> bool:
        with self._lock:
            if not self._closed:
                self._open.add(response)
            return not self._closed


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Put small pieces together, for a short while."""
    held: list[bytes] = []
    size, since = 0, time.monotonic()
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= HANDED_BYTES or time.monotonic() - since >= HANDED_SECONDS:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size, since = [], 0, time.monotonic()
    if held:
        yield b"".join(held)
