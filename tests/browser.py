"""A headless Chromium for tests and for the screenshots in the documents."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path

from tests.tools import failure

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BUDGET_MS = 4000
"""Time the page has for its own requests; it passes as fast as they are answered."""
TIMEOUT_S = 60.0


def browser() -> str | None:
    """Return the path of a Chromium that works; None where there is none."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    return next((path for path in found if not failure(path, "--version")), None)


def dom(url: str, *, width: int = 1600, dark: bool = False) -> str:
    """Return the page as it stands after its scripts have run."""
    scheme = ["--force-dark-mode"] if dark else []
    return _run(url, "--dump-dom", f"--window-size={width},800", *scheme)


def rows(page: str) -> list[list[str]]:
    """Give the cells of every table row of a page, as a reader sees them."""
    found = re.findall(r"<tr\b[^>]*>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td\b[^>]*>(.*?)</td>", row, re.DOTALL) for row in found]
    return [
        [unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells if row
    ]


def shoot(
    url: str, picture: Path, *, width: int = 1600, height: int = 800, dark: bool = False
) -> None:
    """Write a picture of the page."""
    scheme = ["--force-dark-mode"] if dark else []
    _run(url, f"--screenshot={picture}", f"--window-size={width},{height}", *scheme)


def _run(url: str, *options: str) -> str:
    name = browser()
    if name is None:
        raise FileNotFoundError("no Chromium is installed")
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        command = [name, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}"]
        command += [f"--virtual-time-budget={BUDGET_MS}", *options, url]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )  # fmt: skip
    return done.stdout
