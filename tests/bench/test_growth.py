"""How it grows: files a second by the length of the queue, and the ledger alone to a million."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.ledger import Claim, Ledger, Limits, Progress, Request
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from tests.bench.fileserver import FileServer
from tests.bench.harness import AT_MOST, ROOT, ROUNDS, Bench, Series, scaled
from tests.bench.scene import Cluster, many, publish, write_lines
from tests.former import former_version
from tests.servers import RedisServer
from tests.standin.bodies import KiB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.scene import Item

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

LENGTHS = [scaled(length, 1000 * at) for at, length in enumerate((1000, 10_000, 100_000), 1)]
MILLION = [*LENGTHS, scaled(1_000_000, 4000)]
WARM, COUNTED, SIZE = 50, 450, 64 * KiB
"""Files that are let pass first, and files that count; no shorter queue than both."""
BLOCK, LOTS, CYCLES = 200, 5, 100


def test_growth(folder: Path) -> None:
    """A long queue is worked through as fast as a short one."""
    bench = Bench("growth", "files a second and the ledger's pace, by the length of the queue")
    files_by_length(bench, folder)
    ledger_by_length(bench, folder)
    bench.conditions |= {"lengths": LENGTHS, "of the ledger": MILLION, "bytes of a file": SIZE}
    bench.finish()


def test_against_the_former_version(folder: Path) -> None:
    """A small download costs Redis no more than with 0.1.0, and a renewal half, in the same run."""
    bench = Bench("growth_former", "what a download costs Redis, against version 0.1.0")
    (folder / "former").mkdir()
    paths = {"0.1.0": former_version(folder / "former"), "now": str(ROOT)}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
    with RedisServer(folder / "redis") as server:
        for _ in range(ROUNDS):
            for name, path in paths.items():
                costs[name].append(cost_with(path, server.url))
    for what, reach in (("download", 1.0), ("renewal", 0.5)):
        before, now = (min(one[what] for one in costs[name]) for name in paths)
        bench.series[f"{what} with 0.1.0"] = Series((before,), "µs")
        bench.series[f"{what} now"] = Series((now,), "µs")
        share = Series((now / before,), "times")
        bench.line(f"Redis's time for a {what}", "0.1.0", share, AT_MOST, reach)
    bench.finish()


def cost_with(path: str, url: str) -> dict[str, float]:
    """Measure in a process that imports the package from this path."""
    command = [sys.executable, str(ROOT / "tests" / "bench" / "ledger_cost.py"), url]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- through a worker ----------------------------------------------------------------------------


def files_by_length(bench: Bench, folder: Path) -> None:
    """Measure files a second, from the head of queues of several lengths."""
    www = folder / "www"
    www.mkdir()
    with FileServer(www) as server:
        bench.conditions["server"] = server.called
        real = publish(www, server.url, WARM + COUNTED, SIZE)
        lists = {
            length: write_lines(folder / f"{length}.jsonl", padded(real, length, server.url))
            for length in LENGTHS
        }
        bench.in_turn(
            {
                f"files at {length}": lambda path=path: pace(folder, server.url, path)  # type: ignore[misc]  # bound now
                for length, path in lists.items()
            },
            rounds=3,
            unit="files/s",
        )
    shortest, *longer = (bench.series[f"files at {length}"] for length in LENGTHS)
    for length, series in zip(LENGTHS[1:], longer, strict=True):
        work = f"files a second with {length:,} queued"
        bench.line(work, f"with {LENGTHS[0]:,} queued", series.over(shortest))


def padded(real: list[Item], length: int, url: str) -> Iterator[Item]:
    """Give items that are there, then as many that nobody will come to."""
    yield from real
    for number, one in enumerate(many(length, url)):
        if number >= len(real):
            yield one


def pace(folder: Path, url: str, items: Path) -> float:
    """Queue all, then start a worker; give its files a second once it runs."""
    place = folder / f"run-{time.monotonic_ns()}"
    with Cluster(place, url) as cluster:
        batch = cluster.enqueue(str(items))
        worker = cluster.worker()
        warm, began = first_seen(cluster.ledger, batch.id, WARM)
        done, ended = first_seen(cluster.ledger, batch.id, WARM + COUNTED - 20)
        worker.kill()
    shutil.rmtree(place)
    return (done - warm) / (ended - began)


def first_seen(ledger: Ledger, batch: str, count: int) -> tuple[int, float]:
    """Wait until so many have succeeded; give how many had, and when."""
    deadline = time.monotonic() + 300
    while (done := ledger.reading.status(batch).states["SUCCESS"]) < count:
        assert time.monotonic() < deadline, ledger.reading.status(batch)
        time.sleep(0.005)
    return done, time.perf_counter()


# --- the ledger alone ----------------------------------------------------------------------------


def ledger_by_length(bench: Bench, folder: Path) -> None:
    """Let one queue grow, and measure at each length what a download costs the ledger."""
    with Cluster(folder / "ledger") as cluster:
        limits = Limits(concurrent=1_000_000, max_attempts=8)
        ledger = Ledger(
            cluster.ledger.connection.client, limits, prefix=cluster.ledger.connection.prefix
        )
        woken: deque[str] = deque()
        empty, length = cluster.used_bytes(), 0
        bench.series["Redis's time to renew a lease"] = renewals(ledger)
        for wanted in MILLION:
            with redis_time(ledger) as spent:
                bench.series[f"admitted at {wanted}"] = grow(ledger, length, wanted)
            bench.series[f"Redis's time to admit at {wanted}"] = spent.each(wanted - length)
            length = wanted
            woken.extend(one.download_id for one in ledger.dispatch.release())
            with redis_time(ledger) as spent:
                bench.series[f"cycles at {wanted}"] = cycles(ledger, woken)
            bench.series[f"Redis's time for a download at {wanted}"] = spent.each(LOTS * CYCLES)
            with redis_time(ledger) as spent:
                ledger.dispatch.recover("bench@host", 16)
            bench.series[f"Redis's time for a recovery at {wanted}"] = spent.each(1)
            bench.series[f"status at {wanted}"] = status(ledger)
            used = (cluster.used_bytes() - empty) / length
            bench.series[f"bytes at {wanted}"] = Series((used,), "bytes an item")
    shortest, longest = MILLION[0], MILLION[-1]
    for name, what in (("cycles", "claims and records a second"), ("admitted", "items admitted")):
        share = Series(
            (
                bench.series[f"{name} at {longest}"].median
                / bench.series[f"{name} at {shortest}"].median,
            ),
            "times",
        )
        bench.line(f"{what} with {longest:,} queued", f"with {shortest:,} queued", share)
    bench.line(
        f"claims and records a second, {longest:,} queued",
        "(none)",
        bench.series[f"cycles at {longest}"],
    )
    bench.line(
        f"Redis for an item, {longest:,} queued", "(none)", bench.series[f"bytes at {longest}"]
    )
    bench.line(f"status of {longest:,}", "(none)", bench.series[f"status at {longest}"])


class Spent:
    """Time of Redis itself, in scripts; the network and the client are not in it."""

    def __init__(self, client: Any) -> None:
        """Begin to count."""
        self._client, self.microseconds = client, 0.0
        client.config_resetstat()

    def stop(self) -> None:
        """Take what was counted."""
        scripts = self._client.info("commandstats").get("cmdstat_evalsha", {"usec": 0})
        self.microseconds = float(scripts["usec"])

    def each(self, count: int) -> Series:
        """Divide it."""
        return Series((self.microseconds / count,), "µs")


@contextlib.contextmanager
def redis_time(ledger: Ledger) -> Iterator[Spent]:
    """Count the time that scripts take in Redis while the block runs."""
    spent = Spent(ledger.connection.client)
    yield spent
    spent.stop()


def renewals(ledger: Ledger) -> Series:
    """Hold as many leases as a window has, and renew them; what one costs Redis."""
    ledger.admission.admit(
        "renewals", "renewals", [request(-1 - at) for at in range(BLOCK)], nothing_at
    )()
    held = [
        ledger.leases.claim(one.download_id, "bench@host")
        for one in ledger.dispatch.release("renewals")
    ]
    told = [Progress(one.download_id, one.token, 1) for one in held if isinstance(one, Claim)]
    with redis_time(ledger) as spent:
        for done in range(10):
            ledger.leases.renew([replace(one, done_bytes=done) for one in told])
    ledger.control.cancel(list(ledger.reading.downloads("renewals")))
    return spent.each(10 * len(told))


def request(number: int) -> Request:
    """Make what an item of the portal becomes, without the item."""
    name = f"S2A_MSIL1C_20250402T175741_N0511_R141_T31TCJ_20250403T{number:07d}"
    md5, urn = (
        f"{number % 2**64:032x}",
        f"URN:FEATURE:DATA:gdh:{number % 2**32:08x}-0000-5000-8000-000000000000:V1",
    )
    asset = Asset(
        item_id=urn,
        collection="PEPS_S2_L1C",
        key=f"{name}.zip",
        title=f"{name}.zip",
        hrefs={"geodes": f"https://portal.invalid/api/download/{urn}/files/{md5}"},
        size_bytes=800_000_000,
        checksum=Checksum("md5", md5),
    )
    return Request(asset, f"/data/downloads/PEPS_S2_L1C/{name}.zip")


def grow(ledger: Ledger, length: int, wanted: int) -> Series:
    """Admit up to a length; give the items a second of the last few hundred blocks."""
    rates = []
    for start in range(length, wanted, BLOCK):
        block = [request(number) for number in range(start, min(start + BLOCK, wanted))]
        began = time.perf_counter()
        ledger.admission.admit("growth", "default", block, nothing_at)()
        rates.append(len(block) / (time.perf_counter() - began))
    return Series(tuple(rates[-LOTS * 20 :]), "items/s")


def nothing_at(request: Request) -> None:
    """Say that no file is there."""


def cycles(ledger: Ledger, woken: deque[str]) -> Series:
    """Claim and record as a worker does, one after the other; downloads a second, in lots."""
    rates = []
    for _ in range(LOTS):
        began = time.perf_counter()
        for _ in range(CYCLES):
            claim = ledger.leases.claim(woken.popleft(), "bench@host")
            assert isinstance(claim, Claim), claim
            woken.extend(one.download_id for one in ledger.leases.finish(claim, result(claim)))
        rates.append(CYCLES / (time.perf_counter() - began))
    return Series(tuple(rates), "downloads/s")


def result(claim: Claim) -> DownloadResult:
    """Give what the engine says of a file that it has fetched."""
    size = claim.asset.size_bytes or 0
    return DownloadResult(
        outcome=Outcome.DOWNLOADED,
        path=claim.path,
        size_bytes=size,
        checksum=claim.asset.checksum,
        verified=True,
        bytes_transferred=size,
        source="geodes",
        proof=Proof(size, time.time_ns(), 4711),
    )


def status(ledger: Ledger) -> Series:
    """Look at the batch; give the milliseconds of one look."""
    seen = []
    for _ in range(50):
        began = time.perf_counter()
        ledger.reading.status("growth")
        seen.append((time.perf_counter() - began) * 1000)
    return Series(tuple(seen), "ms")
