"""A long run with faults, outages, two workers and a quota: nothing grows.

``make soak SECONDS=3600`` prints a line every ten seconds and a table at the end.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.settings.quota import Quota
from tests.fault.scene import KiB, Scene
from tests.fault.test_unreachable import port_of, through
from tests.integration.door import Door

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import WorkerProcess

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
"""Length of the run, in seconds."""
EVERY_S = 10.0
"""Seconds between two lines of figures."""
ROUND = 40
"""Downloads of a batch."""
OUTAGE_EVERY, OUTAGE_S = 3, 4.0
"""Batches between two outages of the portal, and seconds that one lasts."""
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("truncate", {"times": 1}),
    ("reset", {"times": 1}),
    ("status_n_times", {"status": 500, "times": 1}),
    ("corrupt", {"times": 1}),
    ("429", {"retry_after": "seconds", "seconds": 1, "times": 1}),
    ("gone_404", {"times": 1}),
    ("licence_423", {}),
)
ALLOWED = {"memory MB": 12.0, "descriptors": 6.0, "threads": 6.0, "keys": 12.0, "Redis MB": 3.0}
"""Growth from the second quarter of the run to the last one that is no leak."""


@dataclass(frozen=True)
class Figures:
    """What might grow, at one moment; sums of both workers."""

    at: float
    done: int
    values: dict[str, float]

    def __str__(self) -> str:
        """Return one line."""
        shown = "  ".join(f"{name} {value:.0f}" for name, value in self.values.items())
        return f"{self.at:6.0f} s  {self.done:6d} downloads  {shown}"


def measure(scene: Scene, workers: list[WorkerProcess], began: float, done: int) -> Figures:
    """Read the figures of the workers from the kernel, those of Redis from itself."""
    processes = [Path(f"/proc/{one.pid}") for one in workers]
    statm = [int((one / "statm").read_text().split()[1]) for one in processes]
    redis = scene.ledger.connection.client
    values = {
        "memory MB": sum(statm) * os.sysconf("SC_PAGESIZE") / 1e6,
        "descriptors": float(sum(len(list((one / "fd").iterdir())) for one in processes)),
        "threads": float(sum(len(list((one / "task").iterdir())) for one in processes)),
        "keys": float(redis.dbsize()),
        "Redis MB": redis.info("memory")["used_memory"] / 1e6,
    }
    return Figures(time.monotonic() - began, done, values)


def mean(rows: list[Figures]) -> dict[str, float]:
    """Return the mean of each figure."""
    return {name: sum(one.values[name] for one in rows) / len(rows) for name in rows[0].values}


@pytest.fixture
def portal(fragile: Scene) -> Iterator[Door]:
    """Give an open door to the portal, and settings that make everything happen often."""
    with Door(port_of(fragile.standin.url)) as door:
        fragile.change(
            portal_url=door.url,
            probe_seconds=1.0,
            quota=Quota(300, 10.0),
            max_concurrent=12,
            lease_seconds=5.0,
        )
        fragile.standin.settings.change(range="good")
        door.open()
        yield door


@pytest.mark.chaos
@pytest.mark.timeout(int(SECONDS) + 300)
def test_nothing_grows(fragile: Scene, portal: Door) -> None:
    """Batch after batch comes, is forgotten, and leaves nothing behind in workers and Redis."""
    workers = [fragile.worker(name, concurrency=6) for name in ("one", "two")]
    faults, done, number = cycle(FAULTS), 0, 0
    began, rows = time.monotonic(), list[Figures]()
    while time.monotonic() - began < SECONDS:
        number += 1
        items = fragile.items(ROUND, 64 * KiB)
        for item in items[::4]:
            mode, options = next(faults)
            fragile.standin.fault(item, mode, **options)
        batch = fragile.enqueue(*through(items, fragile.standin.url, portal))
        if number % OUTAGE_EVERY == 0:
            time.sleep(0.5)
            portal.shut()
            time.sleep(OUTAGE_S)
            portal.open()
        records = fragile.settled(batch, 120)
        assert {one.error.type for one in records if one.error is not None} <= {"LicenceError"}
        assert fragile.leftovers() == []
        done += len(records)
        # Only a worker without work for it: what is measured is what stays.
        fragile.ledger.retention.forget(batch.id)
        shutil.rmtree(fragile.folder)
        if not rows or time.monotonic() - began - rows[-1].at >= EVERY_S:
            rows.append(measure(fragile, workers, began, done))
            print(rows[-1], flush=True)

    quarter = max(len(rows) // 4, 1)
    early, late = mean(rows[quarter : 2 * quarter]), mean(rows[-quarter:])
    print(f"\n{done} downloads in {number} batches, {number // OUTAGE_EVERY} outages")
    for name, before in early.items():
        print(f"{name:12} {before:8.1f} -> {late[name]:8.1f}")
    grown = {
        name: late[name] - early[name] for name in early if late[name] - early[name] > ALLOWED[name]
    }
    assert grown == {}, fragile.logs
