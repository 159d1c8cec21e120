"""Slots of a worker against a server that holds each connection to a rate."""

from __future__ import annotations

import functools
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_LEAST, Bench, scaled
from tests.bench.scene import Cluster, publish
from tests.standin.bodies import MiB

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

RATE = 20_000_000
SLOTS = (1, 2, 4, 8)
SIZE, EACH = scaled(64, 8) * MiB, 2
"""Two files a slot: what one file leaves idle at its end, the next one shows."""
LINEAR = 0.95


def test_slots(folder: Path) -> None:
    """Eight slots bring nearly eight times what one brings."""
    bench = Bench("slots", "1, 2, 4, 8 slots against a server capped at 20 MB/s a connection")
    www = folder / "www"
    www.mkdir()
    with FileServer(www, rate=RATE) as server:
        items = publish(www, server.url, max(SLOTS) * EACH, SIZE)
        bench.conditions = {"server": server.called, "bytes of each": SIZE, "files a slot": EACH}

        def run(slots: int) -> float:
            place = folder / f"{slots}-{time.monotonic_ns()}"
            with Cluster(place, server.url, max_concurrent=slots) as cluster:
                cluster.worker(slots)
                seconds = cluster.seconds(items[: slots * EACH])
            shutil.rmtree(place)
            return SIZE * EACH * slots / seconds / 1e6

        seen = bench.in_turn(
            {f"{slots} slots": functools.partial(run, slots) for slots in SLOTS}, unit="MB/s"
        )
    one = seen["1 slots"]
    for slots in SLOTS[1:]:
        pairs = zip(seen[f"{slots} slots"].values, one.values, strict=True)
        share = type(one)(tuple(many / slots / alone for many, alone in pairs), "of linear")
        least = LINEAR if slots == max(SLOTS) else None
        bench.line(f"{slots} slots", "one slot", share, AT_LEAST, least)
    bench.line(
        "one slot", "the cap of 20 MB/s", type(one)(tuple(v / 20 for v in one.values), "of it")
    )
    bench.finish()
