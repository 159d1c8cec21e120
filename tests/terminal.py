"""A real terminal for tests: a tmux of one's own, whose screen can be read and typed on."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Self

from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Terminal:
    """One window of 80 columns. A context manager; the server ends with it."""

    def __init__(self, *, columns: int = 80, lines: int = 24) -> None:
        """Prepare."""
        self.columns, self.lines = columns, lines
        self._tmux = [shutil.which("tmux") or "tmux", "-L", f"test-{uuid.uuid4().hex[:12]}"]

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the window and all that runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start a command in it; the screen stays when the command ends."""
        size = ["-x", str(self.columns), "-y", str(self.lines)]
        words = ["env", "TERM=xterm-256color", *(f"{k}={v}" for k, v in variables.items())]
        options = [";", "set", "-g", "remain-on-exit", "on"]
        new = [*self._tmux, "-f", "/dev/null", "new-session", "-d", *size]
        subprocess.run([*new, *words, *command, *options], check=True, capture_output=True)

    def screen(self, *, colours: bool = False) -> str:
        """Give what is on the screen."""
        # With the last line that was scrolled off: tmux 3.3 makes room for "Pane is dead" so.
        command = [*self._tmux, "capture-pane", "-p", "-S", "-1", *(["-e"] if colours else [])]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def type(self, keys: str) -> None:
        """Press keys."""
        subprocess.run([*self._tmux, "send-keys", "-l", keys], check=True)

    def wait_for(self, *words: str, timeout_s: float = 20.0) -> str:
        """Wait until all words are on the screen at once, and give the screen.

        Raises:
            ServerError: they do not come; the last screen is in the message.
        """
        seen = [""]

        def there() -> bool:
            seen[0] = self.screen()
            return all(word in seen[0] for word in words)

        deadline = time.monotonic() + timeout_s
        while not there():
            if time.monotonic() > deadline:
                wait_until(lambda: False, 0.0, f"{words} on the screen:\n{seen[0]}")
            time.sleep(0.1)
        return seen[0]
