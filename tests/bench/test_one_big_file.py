"""One file of 1 GiB, verified, against curl and md5sum on the same file in the same run."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standin import GiB, MiB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 5
MOST = 1.25
"""Of the slower of curl and md5sum; medians."""
MEMORY_MIB = 120
"""Of the whole process, however large the file."""

DOWNLOAD = """
import json, resource, sys, time
from pathlib import Path
from geodes_tasks import config, engine, stac, transports
settings = config.load()
(asset,) = stac.assets(json.loads(Path(sys.argv[1]).read_text()))
transport = transports.create("geodes", settings)
began = time.monotonic()
result = engine.download(asset, Path(sys.argv[2]), {"geodes": transport})
seconds = time.monotonic() - began
assert result.verified
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def timed(command: Sequence[str]) -> float:
    """Run a peer; give its seconds."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def medians(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run all in turn, several times; give the median of each."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seen[name].append(run())
    return {name: statistics.median(seconds) for name, seconds in seen.items()}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is the peer")
def test_a_gibibyte_verified(tmp_path: Path) -> None:
    """Hashing beside the transfer costs nearly nothing: at most 1.25 of the slower peer."""
    source, item_file, out = tmp_path / "big.bin", tmp_path / "item.json", tmp_path / "out.bin"
    with source.open("wb") as stream:
        for _ in range(GiB // MiB):
            stream.write(os.urandom(MiB))
    memory: list[float] = []
    # A process of its own: the server must not share an interpreter lock with anybody.
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(source), str(item_file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url, href = json.loads(server.stdout.readline())
    settings = {"GEODES_TASKS_PORTAL_URL": url, "GEODES_API_KEY": "bench-key-of-no-use"}

    def ours() -> float:
        out.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", DOWNLOAD, str(item_file), str(out)],
            check=True, capture_output=True, text=True, env=os.environ | settings,
        )  # fmt: skip
        seconds, mebibytes = json.loads(done.stdout)
        memory.append(mebibytes)
        return float(seconds)

    curl = ["curl", "-sf", "-H", f"X-API-Key: {settings['GEODES_API_KEY']}", "-o", str(out), href]
    try:
        seconds = medians(
            ROUNDS,
            {
                "curl": lambda: timed(curl),
                "md5sum": lambda: timed(["md5sum", str(source)]),
                "geodes_tasks": ours,
            },
        )
    finally:
        server.terminate()
        server.stdout.close()
        server.wait()
    ratio = seconds["geodes_tasks"] / max(seconds["curl"], seconds["md5sum"])
    figures = {name: round(value, 2) for name, value in seconds.items()}
    print(json.dumps({**figures, "ratio": round(ratio, 2), "memory_mib": round(max(memory))}))

    assert ratio <= MOST
    assert max(memory) < MEMORY_MIB


SERVE = """
import json, sys, time
from pathlib import Path
from tests.standin import StandIn
with StandIn(api_key="bench-key-of-no-use") as standin:
    item = standin.add_file(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(item))
    print(json.dumps([standin.url, standin.url + standin.path_of(item)]), flush=True)
    time.sleep(900)
"""
