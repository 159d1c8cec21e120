"""Memory of a worker with 16 transfers under way, beside that with one; small files and big."""

from __future__ import annotations

import functools
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_MOST, Bench, Series, scaled
from tests.bench.scene import Cluster, href_of, item
from tests.bench.test_big_file import fill
from tests.servers import wait_until
from tests.standin.bodies import FileBody, MiB

if TYPE_CHECKING:
    from tests.bench.scene import Item
    from tests.servers import WorkerProcess

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

SLOTS = 16
SIZES = {"big": scaled(1024, 64) * MiB, "small": scaled(128, 16) * MiB}
SECONDS = 4.0
"""So long the transfers go on, as fast as the server and the disk let them."""
MORE_MIB = 64.0


def test_memory(folder: Path) -> None:
    """Sixteen transfers need little more than one, whatever the sizes of the files."""
    bench = Bench("memory", "memory of a worker, 16 transfers under way and 1")
    www = folder / "www"
    www.mkdir()
    with FileServer(www) as server:
        bench.conditions = {"server": server.called, **SIZES}
        runs = {}
        for name, size in SIZES.items():
            items = same_file(folder / f"{name}.bin", www, server.url, size)
            for count in (1, SLOTS):
                runs[f"{count} {name}"] = functools.partial(peak, folder, server.url, items[:count])
        seen = bench.in_turn(runs, rounds=3, unit="MiB")
    for name in SIZES:
        pairs = zip(seen[f"{SLOTS} {name}"].values, seen[f"1 {name}"].values, strict=True)
        more = Series(tuple(many - one for many, one in pairs), "MiB more")
        mebibytes = SIZES[name] // MiB
        bench.line(f"{SLOTS} transfers of {mebibytes} MiB", "one of them", more, AT_MOST, MORE_MIB)
    pairs = zip(seen[f"{SLOTS} big"].values, seen[f"{SLOTS} small"].values, strict=True)
    more = Series(tuple(abs(big - small) for big, small in pairs), "MiB apart")
    bench.line(f"{SLOTS} transfers of big files", "of small ones", more, AT_MOST, MORE_MIB)
    bench.finish()


def same_file(source: Path, www: Path, url: str, size: int) -> list[Item]:
    """Make items that all have the same bytes, which lie on the disk once."""
    fill(source, size)
    body, items = FileBody(source), []
    for number in range(SLOTS):
        items.append(item(number, url, body))
        served = www / href_of(items[-1]).removeprefix(f"{url}/")
        served.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, served)
    return items


def peak(folder: Path, url: str, items: list[Item]) -> float:
    """Let a fresh worker transfer for a while; give the most memory it had, in MiB."""
    place = folder / f"run-{time.monotonic_ns()}"
    with Cluster(place, url) as cluster:
        worker = cluster.worker(SLOTS)
        batch = cluster.enqueue(items)
        started = len(items)
        wait_until(
            lambda: batch.status().states["STARTED"] + batch.status().states["SUCCESS"] == started,
            60, "all transfers under way",
        )  # fmt: skip
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and batch.status().unfinished:
            time.sleep(0.05)
        most = peak_mib(worker)
        cluster.ledger.control.cancel(list(cluster.ledger.reading.downloads(batch.id)))
        wait_until(lambda: not batch.status().unfinished, 60, "the end of all transfers")
    shutil.rmtree(place)
    return most


def peak_mib(worker: WorkerProcess) -> float:
    """Give the most memory that a process had resident so far."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
