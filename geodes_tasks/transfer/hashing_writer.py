"""The way of bytes into an open file: hashed, written in large blocks, brought to the disk.

What costs in a big file is not the pieces that the network gives but what is done with each: a
system call, a page of the cache, a hand-over to another thread. So the pieces of big files are
gathered into blocks, and a block is written in one call while a thread of its own hashes the one
before. For small files a thread would cost more than it gives.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from geodes_tasks.model import checksum as checksums

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_BYTES = 512 * 1024
"""Written and hashed at once, at least."""
WAITING = 2
"""Blocks that may wait for the hash, beside the one that is hashed and the one that gathers;
bounds the memory of a transfer. With one, the hash stands still where a write takes longer."""
FEW_PIECES = 8
"""Up to so many pieces are written and hashed from where they lie; more are joined first, as the
16 KiB of TLS: each would cost the threads a hand-over. Copying all of them costs a tenth more."""
HOLD_S = 0.5
"""Longest time that pieces of a slow transfer wait for their block: a killed worker loses them."""
FLUSH_BYTES = 16 * 1024 * 1024
"""Brought to the disk at once, beside the transfer, and then dropped from the page cache."""


class Outlet:
    """Hashes and writes each piece as it comes."""

    def __init__(self, fd: int, algorithm: str) -> None:
        """Begin at byte 0 of an open, empty file."""
        self._fd = fd
        self._hash = checksums.new_hash(algorithm)

    def write(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            OSError: the disk does not take them.
        """
        write_all(self._fd, [piece])
        self._hash.update(piece)

    def settle(self) -> None:
        """Have the file hold, and the hash know, all that was taken.

        Raises:
            OSError: the disk does not take it.
        """

    def hexdigest(self) -> str:
        """Give the digest of all that was taken; :meth:`settle` comes first."""
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Bring the bytes to the disk.

        Raises:
            OSError: now or since the last time the disk did not take some.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """End what goes on beside; bytes that the disk does not take any more are given up."""


class BlockOutlet(Outlet):
    """Gathers pieces into blocks, and hashes and flushes them beside the transfer."""

    def __init__(self, fd: int, algorithm: str) -> None:
        """Begin, with a thread for the hash."""
        super().__init__(fd, algorithm)
        self._pieces: list[bytes] = []
        self._gathered, self._since = 0, 0.0
        self._flusher = _Flusher(fd)
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="hash", daemon=True)
        self._thread.start()

    def write(self, piece: bytes) -> None:
        """Take the next bytes, and write them with their block."""
        now = time.monotonic()
        if not self._pieces:
            self._since = now
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= BLOCK_BYTES or now - self._since >= HOLD_S:
            self._write_block()

    def _write_block(self) -> None:
        pieces, size = self._pieces, self._gathered
        self._pieces, self._gathered = [], 0
        if len(pieces) > FEW_PIECES:
            pieces = [b"".join(pieces)]
        if size:
            write_all(self._fd, pieces)
            self._queue.put(pieces)
            self._flusher.written(size)

    def _work(self) -> None:
        while (block := self._queue.get()) is not None:
            for piece in block:
                self._hash.update(piece)

    def settle(self) -> None:
        """Write what is gathered, and wait for the hash."""
        self._write_block()
        self._end_thread()

    def _end_thread(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def sync(self) -> None:
        """Bring the bytes to the disk; most are there already."""
        self._write_block()
        self._flusher.finish()
        super().sync()

    def close(self) -> None:
        """Write what is gathered, for the next attempt, and end the threads."""
        with contextlib.suppress(OSError):
            self._write_block()
        self._end_thread()
        self._flusher.wait()


def write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Write all of it; a disk that is nearly full may take a part at a time.

    Raises:
        OSError: the disk does not take it.
    """
    left = [memoryview(piece) for piece in pieces]
    while left:
        written = os.write(fd, left[0]) if len(left) == 1 else os.writev(fd, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


class _Flusher:
    """Has the disk write big files while they come in, so that the last sync is short.

    What the disk has leaves the page cache: terabytes that pass through would push out what
    others read again, and each new page costs more than a used one, most of all on a virtual
    machine, which has to ask its host for it.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._written, self._begun = fd, 0, 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def written(self, size_bytes: int) -> None:
        self._written += size_bytes
        busy = self._thread is not None and self._thread.is_alive()
        if self._written - self._begun >= FLUSH_BYTES and not busy:
            self._begun = self._written
            self._thread = threading.Thread(
                target=self._flush, args=(self._begun,), name="flush", daemon=True
            )
            self._thread.start()

    def _flush(self, size_bytes: int) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The system tells of a failed write once only: it must not be lost here.
            self._error = error
        else:
            # From the start: a page that was in use the last time goes now.
            with contextlib.suppress(OSError):  # advice, which no file system has to take
                os.posix_fadvise(self._fd, 0, size_bytes, os.POSIX_FADV_DONTNEED)

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        self.wait()
        if self._error is not None:
            raise self._error
