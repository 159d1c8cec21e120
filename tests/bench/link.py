"""A loopback as slow as a real link, for those who run in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
"""Source: ``man 2 unshare``."""
QUEUE = ["burst", "1mb", "latency", "20ms"]


def can_be_slow() -> bool:
    """Tell whether this machine and this user can have such a link."""
    return os.geteuid() == 0 and bool(shutil.which("ip") and shutil.which("tc"))


@contextmanager
def slow_loopback(rate: str) -> Iterator[None]:
    """Hold the loopback to a rate, for this thread and all that it starts.

    They see a network of their own, with nothing in it but that loopback; the machine's stays as
    it is, and the thread is back in it afterwards.

    Args:
        rate: As ``tc`` writes it, ``1gbit``.

    Raises:
        OSError, CalledProcessError: it cannot be had here.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _must("unshare", CLONE_NEWNET)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        limit = ["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate, *QUEUE]
        subprocess.run(limit, check=True)
        yield
    finally:
        _must("setns", home, CLONE_NEWNET)
        os.close(home)


def _must(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
