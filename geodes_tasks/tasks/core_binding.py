"""Binds a process to one processor core while all that it downloads is small.

Python runs one thread of a process at a time. Each system call of a thread lets another one run;
where that wakes on another core, both contend for the global interpreter lock (GIL): 40 % of the
processor time of 16 threads that fetch files of 64 KiB. On one core they take turns at no cost. The
hash of a larger file runs in parallel to its transfer, and needs more than one core.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Set
from pathlib import Path

SMALL_BYTES = 1 << 20
"""Size in bytes up to which a file is small: one core is faster for 1 MiB, but not for 4 MiB."""
REBIND_S = (2.0, 6.0)
"""Seconds for which a core is kept, at least and at most. Then the kernel may choose a better one,
in each process at another moment."""
FREE_S = 0.05
"""Seconds for which the kernel may move the threads, before they are bound to where it put one."""

CLAIM = "\0geodes-tasks-core-"
"""Start of the name of the socket of the worker on a core. A name that starts with NUL is in no
folder, and only one socket has it, as long as it is open (man 7 unix)."""


def is_small(size_bytes: int | None) -> bool:
    """Return whether a file is small; one of unknown size, None, may be large."""
    return size_bytes is not None and size_bytes <= SMALL_BYTES


def usable_cores() -> Set[int]:
    """Return the numbers of the cores that the calling thread may use; none on macOS."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()


_ALL = usable_cores()


def use_all_cores() -> None:
    """Allow the calling thread all cores of the process: programs that it starts inherit them."""
    if _ALL:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _ALL)


class CoreBinding:
    """The cores that the threads of this process use. Safe to use from many threads."""

    def __init__(self, cores: Set[int] = _ALL) -> None:
        """Take the cores that the process may use; binds nothing yet."""
        self._cores = cores
        self._lock = threading.Lock()
        self._running = self._large = 0
        """Downloads under way, and those among them that are not small."""
        self._is_bound = False
        self._claim: socket.socket | None = None
        """Has the name of the core to which this process is bound."""
        self._change_at = 0.0
        """Time of ``time.monotonic`` from which the threads are freed, or bound."""

    @contextlib.contextmanager
    def during(self, size_bytes: int | None) -> Iterator[None]:
        """Use one core during a download if all that are under way are small, else all cores.

        Args:
            size_bytes: Size of the file, in bytes; None where it is not known.
        """
        is_large = not is_small(size_bytes)
        with self._lock:
            self._running += 1
            self._large += is_large
            if len(self._cores) > 1:
                self._choose()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._large -= is_large

    def _choose(self) -> None:
        now = time.monotonic()
        is_due = now >= self._change_at
        if self._is_bound and (self._large or is_due):
            self.release()
            self._change_at = now + FREE_S
        # One download alone contends with none: the processes of a prefork pool stay free.
        elif not self._is_bound and is_due and not self._large and self._running > 1:
            self._apply({self._claimed_core()})
            self._change_at = now + random.uniform(*REBIND_S)  # noqa: S311 - no secret

    def release(self) -> None:
        """Let the threads use all cores, and another worker the one that they had."""
        if self._claim is not None:
            self._claim.close()
        self._apply(self._cores)

    def _claimed_core(self) -> int:
        """Return the current core, or another that no worker of this machine is bound to yet."""
        current = _current_core()
        for core in sorted(self._cores, key=lambda one: one != current):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"{CLAIM}{core}")
            except OSError:
                claim.close()
            else:
                self._claim = claim
                return core
        return current

    def _apply(self, cores: Set[int]) -> None:
        """Set the cores of all threads; a new thread has those of the one that starts it."""
        self._is_bound = len(cores) == 1
        for thread in Path("/proc/self/task").iterdir():
            # A thread that has ended meanwhile; a system that does not allow it.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)


def _current_core() -> int:
    """Return the core on which the kernel runs the calling thread."""
    # Field 39 of proc(5); the second one, the name of the program, may hold spaces.
    return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
