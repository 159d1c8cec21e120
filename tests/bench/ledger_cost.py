"""Print what downloads and renewals cost Redis, with the package that is on the path, as JSON.

Run by ``test_growth`` with this version and with the wheel of 0.1.0, whose ledger has other names.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any

import redis

ITEMS, LEASES = 3000, 16
"""Downloads in the queue; leases that one worker renews."""
TRIES, CYCLES = 40, 10
"""Measurements, of which the least counts; downloads in each."""


def module(name: str, former: str) -> Any:
    """Import a module of this version, or the one that was its former self."""
    try:
        return import_module(f"geodes_tasks.{name}")
    except ImportError:
        return import_module(f"geodes_tasks.{former}")


ledgers, assets = import_module("geodes_tasks.ledger"), module("model.asset", "asset")
results, states = module("model.results", "results"), module("model.states", "states")
checksums = module("model.checksum", "checksum")


def request(number: int) -> Any:
    """Make what an item of the portal becomes."""
    name, digest = f"S2A_MSIL1C_20250402T175741_N0511_R141_T31TCJ_T{number:07d}", f"{number:032x}"
    urn = f"URN:FEATURE:DATA:gdh:{number:08x}-0000-5000-8000-000000000000:V1"
    asset = assets.Asset(
        item_id=urn, collection="PEPS_S2_L1C", key=f"{name}.zip", title=f"{name}.zip",
        hrefs={"geodes": f"https://portal.invalid/api/download/{urn}/files/{digest}"},
        size_bytes=800_000_000, checksum=checksums.Checksum("md5", digest),
    )  # fmt: skip
    return ledgers.Request(asset, f"/data/downloads/PEPS_S2_L1C/{name}.zip")


def result(claim: Any) -> Any:
    """Return what the engine returns for a fetched file."""
    size = claim.asset.size_bytes
    return results.DownloadResult(
        outcome=states.Outcome.DOWNLOADED, path=claim.path, size_bytes=size,
        checksum=claim.asset.checksum, verified=True, bytes_transferred=size, source="geodes",
        proof=results.Proof(size, time.time_ns(), 4711),
    )  # fmt: skip


def least(client: Any, count: int, work: Callable[[], object]) -> float:
    """Return the microseconds of Redis for one of ``count`` things, the least of many tries."""
    found = []
    for _ in range(TRIES):
        client.config_resetstat()
        work()
        found.append(float(client.info("commandstats")["cmdstat_evalsha"]["usec"]) / count)
    return min(found)


def main(url: str) -> None:
    """Measure on an empty server."""
    client = redis.Redis.from_url(url, decode_responses=True)
    client.flushall()
    ledger = ledgers.Ledger(client, ledgers.Limits(concurrent=1_000_000, max_attempts=8))
    parts = getattr(ledger, "leases", ledger)
    admission, dispatch = getattr(ledger, "admission", ledger), getattr(ledger, "dispatch", ledger)
    finish = getattr(parts, "finish", None) or ledger.succeed
    for first in range(0, ITEMS, 200):
        block = [request(number) for number in range(first, first + 200)]
        admitted = admission.admit("b", "default", block, lambda _: None)
        if callable(admitted):  # not in 0.1.0, whose call waits
            admitted()
    ready = deque(one.download_id for one in dispatch.release())

    def cycle() -> None:
        for _ in range(CYCLES):
            claim = parts.claim(ready.popleft(), "w@host")
            ready.extend(one.download_id for one in finish(claim, result(claim)))

    def renew() -> None:
        parts.renew([ledgers.Progress(one.download_id, one.token, done.popleft()) for one in held])

    download = least(client, CYCLES, cycle)
    held = [parts.claim(ready.popleft(), "w@host") for _ in range(LEASES)]
    done = deque(range(1, TRIES * LEASES + 1))
    print(json.dumps({"download": download, "renewal": least(client, LEASES, renew)}))


if __name__ == "__main__":
    main(sys.argv[1])
