"""Single keys from a terminal, without waiting for Enter; its mode is restored at the end."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """Yield a function that waits so many seconds for a key, and returns it or an empty text.

    Without a terminal at standard input no key ever comes.
    """
    terminals = [sys.stdin.fileno()] if sys.stdin.isatty() else []

    def key(timeout_s: float) -> str:
        ready, _, _ = select.select(terminals, [], [], timeout_s)
        typed = os.read(ready[0], 32) if ready else b""
        if ready and not typed:
            terminals.clear()  # it is gone
        # Arrows and the like are several bytes that begin with escape: no key of ours.
        return "" if typed.startswith(b"\x1b") else typed[:1].decode(errors="ignore").lower()

    def restore(terminal: int, mode: list[Any]) -> None:
        with contextlib.suppress(termios.error):  # it was closed
            termios.tcsetattr(terminal, termios.TCSADRAIN, mode)
        os.close(terminal)

    with contextlib.ExitStack() as stack:
        for one in terminals:
            # Of its own: at a hangup another file takes the place of standard input.
            stack.callback(restore, os.dup(one), termios.tcgetattr(one))
            tty.setcbreak(one)
        yield key
