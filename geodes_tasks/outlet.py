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

from geodes_tasks import checksum as checksums

BLOCK_BYTES = 1024 * 1024
"""Written and hashed at once."""
BLOCKS = 3
"""Of a transfer: one gathers, one waits, one is hashed. They are used again and again: a fresh
piece of memory for each would cost more, in pages asked of the system, than the copy into them."""
HOLD_S = 0.5
"""Longest time that pieces of a slow transfer wait for their block: a killed worker loses them."""
FLUSH_BYTES = 64 * 1024 * 1024
"""Brought to the disk at once, beside the transfer."""


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
        write_all(self._fd, memoryview(piece))
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
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(BLOCKS):
            self._free.put(memoryview(bytearray(BLOCK_BYTES)))
        self._block, self._filled, self._since = self._free.get(), 0, 0.0
        self._flusher = _Flusher(fd)
        self._queue: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="hash", daemon=True)
        self._thread.start()

    def write(self, piece: bytes) -> None:
        """Take the next bytes, and write them with their block."""
        now, left = time.monotonic(), memoryview(piece)
        if not self._filled:
            self._since = now
        while left:
            end = min(self._filled + len(left), BLOCK_BYTES)
            taken = end - self._filled
            self._block[self._filled : end] = left[:taken]
            self._filled, left = end, left[taken:]
            if end == BLOCK_BYTES or now - self._since >= HOLD_S:
                self._write_block()

    def _write_block(self) -> None:
        if self._filled:
            block, size, self._filled = self._block, self._filled, 0
            write_all(self._fd, block[:size])
            self._queue.put((block, size))
            self._flusher.written(size)
            self._block = self._free.get()

    def _work(self) -> None:
        while (full := self._queue.get()) is not None:
            block, size = full
            self._hash.update(block[:size])
            self._free.put(block)

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


def write_all(fd: int, left: memoryview) -> None:
    """Write all of it; a disk that is nearly full may take a part at a time.

    Raises:
        OSError: the disk does not take it.
    """
    while left:
        left = left[os.write(fd, left) :]


class _Flusher:
    """Has the disk write big files while they come in, so that the last sync is short."""

    def __init__(self, fd: int) -> None:
        self._fd, self._unsynced = fd, 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def written(self, size_bytes: int) -> None:
        self._unsynced += size_bytes
        busy = self._thread is not None and self._thread.is_alive()
        if self._unsynced >= FLUSH_BYTES and not busy:
            self._unsynced = 0
            self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)
            self._thread.start()

    def _flush(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The system tells of a failed write once only: it must not be lost here.
            self._error = error

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        self.wait()
        if self._error is not None:
            raise self._error
