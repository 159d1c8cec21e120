"""A queue of 500 small items on one machine: pygeodes and DownloadQueue, twice each."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import peers
from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_LEAST, ROOT, Bench, Series, last_json, scaled
from tests.bench.scene import KEY, publish
from tests.standin.bodies import KiB

if TYPE_CHECKING:
    from tests.bench.scene import Item

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

COUNT, SIZE = scaled(500, 50), 64 * KiB
FIRST, SECOND = 10.0, 20.0
"""How many times faster a first and a second run have to be, server and worker included."""
PEERS = Path(peers.__file__).parent


def test_queue(folder: Path) -> None:
    """Both download the same from the same server; the ratios are what the page promises."""
    bench = Bench("queue", f"a DownloadQueue of {COUNT} items of {SIZE // KiB} KiB, run twice")
    www = folder / "www"
    www.mkdir()
    second: dict[str, list[float]] = {"pygeodes": [], "geodes_tasks": []}
    with FileServer(www) as server:
        items = publish(www, server.url, COUNT, SIZE)
        bench.conditions = {"server": server.called, "files": COUNT, "bytes of each": SIZE}

        def run(name: str) -> float:
            first, again = two_runs(name, server.url, items, folder)
            second[name].append(again)
            return first

        seen = bench.in_turn({name: functools.partial(run, name) for name in second}, rounds=3)
    again = {name: Series(tuple(values)) for name, values in second.items()}
    bench.series |= {f"{name}, second run": series for name, series in again.items()}
    for text, runs, least in (("first", seen, FIRST), ("second", again, SECOND)):
        faster = runs["pygeodes"].over(runs["geodes_tasks"])
        bench.line(f"{text} run, times faster", "pygeodes", faster, AT_LEAST, least)
    bench.finish()


def two_runs(name: str, url: str, items: list[Item], folder: Path) -> tuple[float, float]:
    """Run one of the two in a process and a home of its own."""
    home = folder / f"{name}-{time.monotonic_ns()}"
    home.mkdir()
    (home / "items.json").write_text(json.dumps(items))
    what = [str(home / "items.json"), str(home / "files")]
    theirs = [sys.executable, str(PEERS / "pygeodes_queue.py"), url, KEY, *what, "2"]
    ours = [sys.executable, "-m", "tests.bench.client", "queue", url, *what]
    command = theirs if name == "pygeodes" else ours
    environment = os.environ | {
        "HOME": str(home), "GEODES_TASKS_STATE_DIR": str(home / "state"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    first, again = last_json(command, env=environment, cwd=home)
    shutil.rmtree(home)
    return float(first), float(again)
