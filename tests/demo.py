"""The demonstration behind a plain ``make run``: real downloads from a stand-in for GEODES.

    python -m tests.demo --to DIR

Needs neither account nor network: the portal, the private Redis-protocol server and the worker
all run on this machine, for as long as the demonstration lasts.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.standin import KiB, MiB, StandIn

KEY = "demo-key"
SIZES = (5 * MiB, 3 * MiB, 4 * MiB, 2 * MiB, 6 * MiB, 700 * KiB)
RATE = 1.5 * MiB
"""Bytes a second of each download: slow enough to be watched."""
INTERRUPTED = 130

AFTERWARDS = """
{outcome}
The files are in {folder}; run it again: files proven before are not fetched a second time.

Next, with your own items (what `pygeodes search -o items.json` writes, or any STAC JSON):
  export GEODES_API_KEY=...       made on https://geodes-portal.cnes.fr, profile, API Key
  make run ITEMS=items.json TO={folder}
  {command} download items.json -o {folder}       the same, with all its options
On a cluster, with one Redis for all (GEODES_TASKS_REDIS_URL=redis://host:6379/0):
  {command} worker                                on each worker node
  {command} enqueue items.json -o /shared/{name}
"""


def main() -> int:
    """Run the demonstration; the exit code is the download command's own."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("downloads"), help="the download folder")
    folder = parser.parse_args().to
    with StandIn(KEY, rate=RATE) as standin, tempfile.TemporaryDirectory() as scratch:
        items = seeded(standin, Path(scratch) / "items.json")
        total = sum(SIZES) / MiB
        say(f"A stand-in for GEODES runs at {standin.url} with {len(SIZES)} items, {total:.1f} MiB")
        say(f"$ geodes-tasks download items.json -o {shlex.quote(str(folder))}\n")
        code = downloaded(items, folder, standin.url)
        fetched = sum(request.bytes_sent for request in standin.downloads())
    say(AFTERWARDS.format(**story(code, folder, fetched)))
    return code


def seeded(standin: StandIn, path: Path) -> Path:
    """Fill the catalogue, and write its items to a file as a search would."""
    for size in SIZES:
        standin.add_item(size)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": standin.items}))
    return path


def downloaded(items: Path, folder: Path, portal_url: str) -> int:
    """Run the command as a user would, on the same terminal, and return its exit code."""
    command = [sys.executable, "-m", "geodes_tasks", "download", str(items), "-o", str(folder)]
    settings = {
        "GEODES_API_KEY": KEY,
        "GEODES_TASKS_PORTAL_URL": portal_url,
        "GEODES_TASKS_QUOTA": "off",
    }
    process = subprocess.Popen([*command, "--source", "geodes"], env=os.environ | settings)
    # Ctrl-C reaches both: the command stops by itself and its code says so.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def story(code: int, folder: Path, fetched: int) -> dict[str, str]:
    """Fill in what is said afterwards."""
    outcomes = {
        0: f"Done: every file is there and its MD5 is right ({fetched / MiB:.1f} MiB fetched).",
        INTERRUPTED: "Interrupted: the same command again goes on where this one stopped.",
    }
    return {
        "outcome": outcomes.get(code, f"The command failed (exit code {code}); see its last line."),
        "folder": shlex.quote(str(folder)),
        "name": folder.name or "downloads",
        "command": shlex.quote(os.path.relpath(Path(sys.executable).with_name("geodes-tasks"))),
    }


def say(text: str) -> None:
    """Print at once: the command writes to the same terminal."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
