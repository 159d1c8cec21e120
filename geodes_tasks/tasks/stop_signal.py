"""The stop signal of a worker, shared by all its processes through one page of memory."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time

CUT_OFF_S = 120.0
"""Age in seconds at which a report that leases cannot be renewed is void: its process has died."""


class StopSignal:
    """When the attempts of a worker must stop, and whether it may take new work.

    The page is mapped before the pool forks, so that children see what the parent writes. It has no
    lock: a child that is killed, as by the kernel's out-of-memory killer, cannot leave one taken,
    as it could with ``multiprocessing.Value``.
    """

    is_restart = False
    """Whether the worker's first process, alone, starts again after its stop."""

    def __init__(self) -> None:
        """Map the page."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, grace_s: float) -> None:
        """Set the deadline ``grace_s`` seconds from now; an earlier deadline stays."""
        deadline = time.monotonic() + grace_s
        if not self.deadline or deadline < self.deadline:
            self._page[:8] = struct.pack("d", deadline)

    def clear(self) -> None:
        """Remove the deadline."""
        self._page[:8] = struct.pack("d", 0.0)

    @property
    def deadline(self) -> float:
        """Return the time of ``time.monotonic`` at which attempts stop; 0.0 is never."""
        (deadline,) = struct.unpack("d", self._page[:8])
        return float(deadline)

    @property
    def expired(self) -> bool:
        """Return whether attempts must stop now."""
        return 0.0 < self.deadline <= time.monotonic()

    def report_cut_off(self, cut_off: bool) -> None:
        """Report that a process of this worker cannot renew its leases, or can again."""
        self._page[8:16] = struct.pack("d", time.monotonic() if cut_off else 0.0)

    @property
    def is_cut_off(self) -> bool:
        """Return whether the leases of this worker cannot be renewed: it must take no new work."""
        (since,) = struct.unpack("d", self._page[8:16])
        return 0.0 < float(since) > time.monotonic() - CUT_OFF_S

    def rest(self, seconds: float) -> None:
        """Take no new work for some seconds: the last downloads could not be written."""
        self._page[16:24] = struct.pack("d", time.monotonic() + seconds)

    @property
    def takes_none(self) -> bool:
        """Return whether the worker takes no new work now, for its leases or for its disks."""
        (until,) = struct.unpack("d", self._page[16:24])
        return self.is_cut_off or time.monotonic() < float(until)


STOP = StopSignal()
"""The stop signal of this worker. CLOCK_MONOTONIC is one for all processes of a host."""


def restart_if_asked() -> None:
    """Replace this process by one with the same command line, where a signal asked for that."""
    if STOP.is_restart:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - its own command
