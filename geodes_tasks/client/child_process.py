"""Child processes of one-machine mode: their end, their sockets, locks and logs."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO


def end(process: subprocess.Popen[bytes], first: signal.Signals | None, patience_s: float) -> None:
    """Send a child a signal, wait for its end, and kill it after ``patience_s`` seconds.

    Args:
        process: The child.
        first: The signal; None where it was sent already.
        patience_s: Seconds to wait before SIGKILL.
    """
    if process.poll() is None:
        if first is not None:
            process.send_signal(first)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        except BaseException:
            # A second Ctrl-C: end at once, and leave no process behind.
            process.kill()
            process.wait()
            raise
    process.wait()


def try_lock(stream: IO[str]) -> bool:
    """Lock a file against all other processes; return whether none had it locked."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_listening(path: Path) -> bool:
    """Return whether a process listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def tail(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "(empty)")
    return "(no log)"
