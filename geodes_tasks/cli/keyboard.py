"""Single keys from a terminal, without waiting for Enter. Put right again whatever happens."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Keyboard:
    """Keys of one terminal, or of none."""

    def __init__(self, descriptor: int | None) -> None:
        """Take the terminal; None never gives a key."""
        self.descriptor = descriptor

    def key(self, timeout_s: float) -> str:
        """Wait for a key; empty when none came in time."""
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
