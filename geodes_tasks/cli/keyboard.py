"""Single keys from a terminal, without waiting for Enter; its mode is restored at the end."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator


class Keyboard:
    """Keys of one terminal, or of none."""

    def __init__(self, descriptor: int | None) -> None:
        """Read from the terminal of a file descriptor; with None no key ever comes."""
        self.descriptor = descriptor

    def key(self, timeout_s: float) -> str:
        """Return the next key; empty if none comes within ``timeout_s`` seconds."""
        ready, _, _ = select.select(
            [] if self.descriptor is None else [self.descriptor], [], [], timeout_s
        )
        if self.descriptor is None or not ready:
            return ""
        typed = os.read(self.descriptor, 32)
        if not typed:
            self.descriptor = None  # the terminal is gone
        # Arrows and the like are several bytes that begin with escape: no key of ours.
        return "" if typed.startswith(b"\x1b") else typed[:1].decode(errors="ignore").lower()


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Yield the keys of standard input, without echo, when it is a terminal."""
    if not sys.stdin.isatty():
        yield Keyboard(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
