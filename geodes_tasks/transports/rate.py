"""Limit of the bandwidth: one number of bytes a second for all threads and pool processes."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time
from functools import lru_cache

BURST_S = 0.25
"""Seconds of unused bandwidth that may be used later, which makes up for late wake-ups."""
_TIME = struct.Struct("d")


class RateLimit:
    """Schedule of received bytes, in memory that forked processes share.

    The clock is that of the system (CLOCK_MONOTONIC), so all processes read the same time. A lock
    of a file, unlike a semaphore, ends with the process that holds it.
    """

    def __init__(self, bytes_per_second: int) -> None:
        """Prepare; processes that are forked from now on have the same schedule."""
        self._rate = bytes_per_second
        self._thread_lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._file.truncate(_TIME.size)
        self._next = mmap.mmap(self._file.fileno(), _TIME.size)
        # A fork copies the lock as it is, and its holder does not exist in the child.
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._thread_lock = threading.Lock()

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of a tenth of a second: larger pieces would wait for too long."""
        return max(self._rate // 10, 1024)

    def wait_s(self, received: int) -> float:
        """Return the seconds to wait after bytes were received, so that the rate is kept."""
        # Locks of files are those of a process (man 2 fcntl): its threads need one of their own.
        with self._thread_lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                now = time.monotonic()
                start = max(_TIME.unpack(self._next[: _TIME.size])[0], now - BURST_S)
                free_at = start + received / self._rate
                self._next[: _TIME.size] = _TIME.pack(free_at)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        return float(max(free_at - now, 0.0))


@lru_cache(maxsize=4)
def rate_limit(bytes_per_second: int | None) -> RateLimit | None:
    """Return the limit of this process and its forks; None without a limit.

    A worker calls it before it forks its pool.
    """
    return RateLimit(bytes_per_second) if bytes_per_second else None
