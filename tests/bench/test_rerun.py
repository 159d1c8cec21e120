"""Asking again for 100,000 files that are there and proven, and looking at such a batch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client import enqueue_admission
from geodes_tasks.ledger import Claim
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.settings import config
from tests.bench.harness import AT_LEAST, AT_MOST, ROOT, Bench, Series, last_json, scaled
from tests.bench.scene import Cluster, item, write_lines
from tests.standin.bodies import BytesBody, KiB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.scene import Item

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

COUNT = scaled(100_000, 1000)
BODY = BytesBody(os.urandom(4 * KiB))
FILES_A_SECOND, STATUS_MS = 3000.0, 50.0
SLACK = BODY.size - 1
"""What a client may read beside the items: less than one file."""
LOOKS = 50
"""Looks at the batch for one median."""


def test_rerun(folder: Path) -> None:
    """A rerun costs one stat a file; the state of the whole batch is one round trip."""
    bench = Bench("rerun", f"{COUNT:,} proven files asked for again")
    target = folder / "files"
    items = write_lines(folder / "items.jsonl", some_items())
    with Cluster(folder) as cluster:
        prove(cluster, items, target)
        told: list[dict[str, Any]] = []
        extra: list[float] = []

        def again() -> float:
            command = [
                sys.executable,
                "-m",
                "tests.bench.client",
                "enqueue",
                str(items),
                str(target),
            ]
            environment = os.environ | config.environment(cluster.settings)
            told.append(last_json(command, env=environment, cwd=ROOT))
            assert told[-1]["states"]["SUCCESS"] == COUNT, told[-1]
            extra.append(told[-1]["read_bytes"] - items.stat().st_size)
            return float(told[-1]["seconds"])

        paths = [str(path) for path in target.rglob("*.zip")]
        assert len(paths) == COUNT
        seen = bench.in_turn({"stat": lambda: stat_all(paths), "rerun": again})
        batch = told[-1]["batch"]
        looks = bench.in_turn({"status": lambda: look(cluster, batch)}, unit="ms")
        commands = commands_of(cluster, batch)
    bench.conditions = {
        "files": COUNT, "bytes of each": BODY.size, "commands of one status": commands,
        "file system": "local",
    }  # fmt: skip
    rate = seen["rerun"].per(COUNT, "files/s")
    bench.line("rerun", "(none)", rate, AT_LEAST, FILES_A_SECOND)
    bench.line("rerun, time", "bare os.stat of the same files", seen["rerun"].over(seen["stat"]))
    read = Series(tuple(extra), "bytes")
    bench.line(f"read beyond the items, of {COUNT * BODY.size:,}", "(none)", read, AT_MOST, SLACK)
    bench.line(f"status of {COUNT:,}", "(none)", looks["status"], AT_MOST, STATUS_MS)
    assert not {"scan", "keys"} & set(commands)
    bench.finish()


def some_items() -> Iterator[Item]:
    """Make items that differ in nothing but their names."""
    for number in range(COUNT):
        yield item(number, "http://127.0.0.1:9", BODY)


def prove(cluster: Cluster, items: Path, target: Path) -> None:
    """Put the files there, and have the ledger know each for proven, as workers would."""
    batch = cluster.enqueue(str(items), target)
    content = bytes(next(iter(BODY.chunks(0, BODY.size))))
    for record in batch.results():
        path = Path(record.path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        claim = cluster.ledger.leases.claim(record.download_id, "bench")
        assert isinstance(claim, Claim), claim
        cluster.ledger.leases.finish(claim, done(claim, path))
    assert batch.status().states["SUCCESS"] == COUNT


def done(claim: Claim, path: Path) -> DownloadResult:
    """Give what an engine says of a file that it has fetched."""
    return DownloadResult(
        outcome=Outcome.DOWNLOADED,
        path=str(path),
        size_bytes=BODY.size,
        checksum=claim.asset.checksum,
        verified=True,
        bytes_transferred=BODY.size,
        source="geodes",
        proof=enqueue_admission.proof_at(str(path), claim.asset) or Proof(0, 0, 0),
    )


def stat_all(paths: list[str]) -> float:
    """Stat all, and nothing else."""
    began = time.perf_counter()
    for path in paths:
        os.stat(path)  # noqa: PTH116 - as cheap as it gets
    return time.perf_counter() - began


def look(cluster: Cluster, batch: str) -> float:
    """Look at the batch many times; give the milliseconds of one."""
    began = time.perf_counter()
    for _ in range(LOOKS):
        assert cluster.ledger.reading.status(batch).total == COUNT
    return (time.perf_counter() - began) / LOOKS * 1000


def commands_of(cluster: Cluster, batch: str) -> dict[str, int]:
    """Give the commands that one look costs, by name."""
    client = cluster.ledger.connection.client
    client.config_resetstat()
    cluster.ledger.reading.status(batch)
    found = client.info("commandstats")
    counts = {str(name).removeprefix("cmdstat_"): int(of["calls"]) for name, of in found.items()}
    return {name: calls for name, calls in counts.items() if not name.startswith("config")}
