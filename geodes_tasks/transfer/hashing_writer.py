"""Writers of an open file: bytes are hashed, written in large blocks and flushed to the disk.

The cost of a large file is not in the chunks that the network delivers but in the work for each: a
system call, a page of the cache, a hand-over to another thread. The chunks of large files are
therefore gathered into blocks, and a block is written in one call while a thread hashes the one
before. For small files a thread would cost more than it saves.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Sequence

from geodes_tasks.model import checksum as checksums

BLOCK_BYTES = 512 * 1024
"""Least number of bytes that are written and hashed at once."""
QUEUED_BLOCKS = 2
"""Greatest number of blocks that wait for the hash, besides the one that is hashed and the one
that is gathered. Bounds the memory of a transfer; with 1 the hash is idle during a slow write."""
FEW_CHUNKS = 8
"""Number of chunks up to which a block is written without joining them. More are joined first, as
the 16 KiB records of TLS are (RFC 8446 5.1): each would cost the threads a hand-over. To join all
of them costs a tenth more."""
GATHER_S = 0.5
"""Seconds after which a block of a slow transfer is written though it is not full: a killed worker
loses what was not written."""
FLUSH_BYTES = 16 * 1024 * 1024
"""Number of bytes that are flushed to the disk at once, then dropped from the page cache."""


class HashingWriter:
    """Writer that hashes and writes each chunk as it comes."""

    def __init__(self, fd: int, algorithm: str) -> None:
        """Start at byte 0 of an open, empty file."""
        self._fd = fd
        self._hash = checksums.new_hash(algorithm)

    def write(self, chunk: bytes) -> None:
        """Write the next bytes.

        Raises:
            OSError: the disk does not take them.
        """
        write_all(self._fd, [chunk])
        self._hash.update(chunk)

    def flush(self) -> None:
        """Write and hash all bytes that are still gathered.

        Raises:
            OSError: the disk does not take them.
        """

    def hexdigest(self) -> str:
        """Return the digest of all bytes, in hex; call :meth:`flush` first."""
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Wait until the disk has all bytes.

        Raises:
            OSError: now or since the last call the disk did not take some.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """End the threads; bytes that the disk does not take any more are lost without an error."""


class BlockWriter(HashingWriter):
    """Writer that gathers chunks into blocks, and hashes and flushes them in threads."""

    def __init__(self, fd: int, algorithm: str) -> None:
        """Start at byte 0 of an open, empty file, with a thread for the hash."""
        super().__init__(fd, algorithm)
        self._chunks: list[bytes] = []
        self._gathered_bytes, self._since = 0, 0.0
        self._flusher = _Flusher(fd)
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(QUEUED_BLOCKS)
        self._thread = threading.Thread(target=self._hash_blocks, name="hash", daemon=True)
        self._thread.start()

    def write(self, chunk: bytes) -> None:
        """Gather the next bytes, and write the block when it is full or old enough.

        Raises:
            OSError: the disk does not take them.
        """
        now = time.monotonic()
        if not self._chunks:
            self._since = now
        self._chunks.append(chunk)
        self._gathered_bytes += len(chunk)
        if self._gathered_bytes >= BLOCK_BYTES or now - self._since >= GATHER_S:
            self._write_block()

    def _write_block(self) -> None:
        chunks, size = self._chunks, self._gathered_bytes
        self._chunks, self._gathered_bytes = [], 0
        if len(chunks) > FEW_CHUNKS:
            chunks = [b"".join(chunks)]
        if size:
            write_all(self._fd, chunks)
            self._queue.put(chunks)
            self._flusher.written(size)

    def _hash_blocks(self) -> None:
        # hashlib releases the GIL for more than 2047 bytes: this runs in parallel to the transfer.
        while (block := self._queue.get()) is not None:
            for chunk in block:
                self._hash.update(chunk)

    def flush(self) -> None:
        """Write the last block, and wait for the hash.

        Raises:
            OSError: the disk does not take it.
        """
        self._write_block()
        self._end_thread()

    def _end_thread(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def sync(self) -> None:
        """Wait until the disk has all bytes; most are there already.

        Raises:
            OSError: now or since the last call the disk did not take some.
        """
        self._write_block()
        self._flusher.finish()
        super().sync()

    def close(self) -> None:
        """Write the last block, which a next attempt can adopt, and end the threads."""
        with contextlib.suppress(OSError):
            self._write_block()
        self._end_thread()
        self._flusher.wait()


def write_all(fd: int, chunks: Sequence[bytes]) -> None:
    """Write all bytes of some chunks.

    Raises:
        OSError: the disk does not take them.
    """
    left = [memoryview(chunk) for chunk in chunks]
    while left:
        # On a volume that is nearly full write(2) may take fewer bytes, without an error.
        written = os.write(fd, left[0]) if len(left) == 1 else os.writev(fd, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


class _Flusher:
    """Flushes large files to the disk while they are written, so that the last sync is short.

    Flushed pages are dropped from the page cache: terabytes that pass through would evict what
    other programs read again. A new page also costs more than a reused one, most of all on a
    virtual machine, which has to request it from its host.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._written, self._begun = fd, 0, 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def written(self, size_bytes: int) -> None:
        self._written += size_bytes
        is_busy = self._thread is not None and self._thread.is_alive()
        if self._written - self._begun >= FLUSH_BYTES and not is_busy:
            self._begun = self._written
            self._thread = threading.Thread(
                target=self._flush, args=(self._begun,), name="flush", daemon=True
            )
            self._thread.start()

    def _flush(self, size_bytes: int) -> None:
        try:
            # Python on macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            # Linux reports a failed write-back once per descriptor (fsync(2), ERRORS): the last
            # sync would succeed, so this error must be kept.
            self._error = error
        else:
            # From byte 0: a page that was in use at the last flush is dropped now. The call is
            # advice that a file system need not support (posix_fadvise(2)).
            # Python on macOS has it not.
            with contextlib.suppress(OSError, AttributeError):
                os.posix_fadvise(self._fd, 0, size_bytes, os.POSIX_FADV_DONTNEED)

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        self.wait()
        if self._error is not None:
            raise self._error
