"""Commands that have little to do: what imports, server, worker and their ends cost.

In seconds of the processors, with all children, so that a machine with other work at the moment
changes little.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_MOST, ROOT, ROUNDS, Bench
from tests.bench.scene import KEY, publish
from tests.standin.bodies import KiB

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

LIBRARIES, WORKER_LIBRARIES = "import typer, rich, redis, celery", "import celery, redis, requests"
PRESENT, ABSENT, WORKER = 2.0, 3.0, 1.2
"""Times the imports of these libraries: a command whose file is there, one whose file is not, and
the import of a worker."""


def test_startup(folder: Path) -> None:
    """A command for one file costs little more than the libraries that it stands on."""
    bench = Bench("startup", "processor seconds of commands for one small file, children included")
    www, here = folder / "www", folder / "here"
    www.mkdir()
    with FileServer(www) as server:
        items = folder / "items.json"
        items.write_text(json.dumps(publish(www, server.url, 1, 64 * KiB)))
        # Compiled once: `make` may have forbidden it, and users' Pythons do it at installation.
        environment = os.environ | {
            "GEODES_TASKS_PORTAL_URL": server.url,
            "GEODES_API_KEY": KEY,
            "GEODES_TASKS_STATE_DIR": str(folder / "state"),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = functools.partial(processor_seconds, environment)

        def download(target: Path) -> float:
            seconds = run(["-m", "geodes_tasks", "download", str(items), "-o", str(target)])
            assert len([path for path in target.rglob("*.zip") if path.is_file()]) == 1
            return seconds

        runs: dict[str, Callable[[], float]] = {
            "libraries": lambda: run(["-c", LIBRARIES]),
            "file is there": lambda: download(here),
            "file is not there": lambda: download(folder / f"new-{time.monotonic_ns()}"),
            "libraries of a worker": lambda: run(["-c", WORKER_LIBRARIES]),
            "import worker": lambda: run(["-c", "import worker"]),
        }
        for first in runs.values():
            first()
        bench.conditions = {"server": server.called, "bytes": 64 * KiB}
        seen = bench.in_turn(runs, max(ROUNDS, 7))
    for what, most in {"file is there": PRESENT, "file is not there": ABSENT}.items():
        bench.line(
            f"`download`, the {what}", f"`{LIBRARIES}`", seen[what].over(seen["libraries"]),
            AT_MOST, most,
        )  # fmt: skip
    imported = seen["import worker"].over(seen["libraries of a worker"])
    bench.line("`import worker`", f"`{WORKER_LIBRARIES}`", imported, AT_MOST, WORKER)
    bench.finish()


def processor_seconds(environment: dict[str, str], arguments: Sequence[str]) -> float:
    """Run Python; give the seconds of the processors that it and all its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-3000:]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
