"""The ledger at a million downloads and a thousand workers: ``make scale``.

Writes ``docs/figures/scale.json``, from which ``docs/make_benchmarks.py`` makes the tables of
``docs/scale.md``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from geodes_tasks.ledger import Progress, Wakeup
from geodes_tasks.settings import config
from tests.bench.harness import Machine
from tests.real.filled import LIMITS, STATES, Filler, bring, claimed, request_of
from tests.real.sized import OWN as OWN_COMMANDS
from tests.real.sized import SLOW_MS, Measured
from tests.real.test_sizes import (
    SMALL,
    WORKERS,
    SizedServer,
    ledger_at,
    prepare,
    run,
    table,
    undisturbed,
)
from tests.servers import WorkerProcess
from worker.recovery import Recovery

LARGE = int(os.environ.get("SCALE", "1000000"))
"""Downloads in the ledger."""
MOST_BYTES = 1900
"""Bytes of Redis's memory for a queued download, at most."""
MOST_SHARE = 0.10
"""Share of one core that Redis may spend on our commands and scripts for the whole fleet."""
TRIES = 3
"""Runs of which one must be without a slow command: others use the machine too."""
TURNS = 2
"""Turns of recovery of each worker that are measured; a transfer renews each second between."""
IDLE, IDLE_S = 2, 20.0
"""Idle Celery workers that are really started, and the seconds for which they are watched."""
FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "scale.json"


class Mailbox:
    """A sender that keeps what it is given."""

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Send nothing: the messages are Celery's."""


def bytes_of_states(folder: Path, count: int) -> dict[str, float]:
    """Return Redis's memory for a download in each state, in bytes."""
    found = {}
    for state in STATES:
        with SizedServer(folder / f"memory-{state}") as server:
            ledger = ledger_at(server.url)
            client = ledger.connection.client
            bring(ledger, state, range(20))
            before = client.info("memory")["used_memory_dataset"]
            Filler(ledger, state, 20).fill(count)
            found[state] = (client.info("memory")["used_memory_dataset"] - before) / (count - 20)
            ledger.close()
    return found


@contextmanager
def redis_time(client: Any) -> Iterator[dict[str, float]]:
    """Count the microseconds of Redis by command while the block runs."""
    client.config_resetstat()
    spent: dict[str, float] = {}
    yield spent
    for name, row in client.info("commandstats").items():
        spent[name.removeprefix("cmdstat_")] = float(row["usec"])


def fleet(server: SizedServer) -> dict[str, float]:
    """Return the shares of a core for renewals and for the turns of recovery of all workers."""
    ledger = ledger_at(server.url)
    client, limits = ledger.connection.client, replace(LIMITS, concurrent=WORKERS)
    # As in a fleet, there are as many transfers as the account may have.
    ledger.connection.limits, period_s = limits, limits.register_seconds
    held = [claimed(ledger, request_of("queued", 1000 + n).download_id) for n in range(WORKERS)]
    seconds = int(TURNS * period_s)
    with redis_time(client) as renewals:
        for second in range(1, seconds + 1):
            done = second * 10**6
            for one in held:
                progress = Progress(one.download_id, one.token, done, "geodes", done, "C")
                ledger.leases.renew([progress])
    workers = [
        Recovery(ledger, Mailbox(), f"w{n}@host", 16)  # type: ignore[arg-type] # it sends
        for n in range(WORKERS)
    ]
    with redis_time(client) as turns:
        for _ in range(TURNS):
            for worker in workers:
                worker.recover()
    # Commands within scripts are counted by themselves too: those that workers send without one
    # are measured alone.
    answers = {"release_downloads": [""]}
    with (
        patch.object(ledger.connection, "run", lambda script, *_: answers.get(script, 0)),
        redis_time(client) as plain,
    ):
        for worker in workers:
            worker.recover()
    ledger.close()
    sent = sum(us for name, us in plain.items() if not name.startswith(OWN_COMMANDS))
    return {
        "renewals": renewals["evalsha"] / (seconds * 1e6),
        "recovery": turns["evalsha"] / (TURNS * period_s * 1e6) + sent / (period_s * 1e6),
    }


def polling(server: SizedServer, folder: Path) -> float:
    """Return the share of a core that Celery's own commands take for 1,000 idle workers."""
    ledger = ledger_at(server.url)
    settings = config.load(redis_url=server.url, api_key="unused", download_dir=folder)
    with ExitStack() as stack:
        for number in range(IDLE):
            worker = WorkerProcess(settings, folder, name=f"idle{number}", concurrency=16)
            stack.callback(worker.kill)
            worker.start()
        with redis_time(ledger.connection.client) as spent:
            time.sleep(IDLE_S)
    ledger.close()
    # What a script runs is counted with it; the rest is Celery's and a few reads of ours.
    own = (*OWN_COMMANDS, "evalsha", "hget", "hmget", "hset", "hgetall", "zscore")
    celery = sum(us for name, us in spent.items() if not name.startswith(own))
    return celery * WORKERS / IDLE / (IDLE_S * 1e6)


def measured(folder: Path) -> tuple[Measured, Measured]:
    """Measure all operations on a small and on a large ledger."""
    small = run(folder, SMALL)
    for _ in range(TRIES):
        large = run(folder, LARGE)
        print(*table(small, large), *large.slow, sep="\n", flush=True)
        if not large.slow:
            break
    return small, large


def main() -> int:
    """Measure, write the figures and return 1 where one is above its bound."""
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    os.environ["GEODES_TASKS_STATE_DIR"] = str(folder / "state")
    try:
        memory = bytes_of_states(folder, min(LARGE, 20_000))
        small, large = measured(folder)
        place = folder / "fleet"
        shutil.copytree(prepare(folder, LARGE, WORKERS), place)
        with SizedServer(place) as server:
            undisturbed(server)
            shares = fleet(server)
            shares["celery"] = polling(server, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "taken": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": asdict(Machine.here()),
        "load_average": os.getloadavg()[0],
        "downloads": [SMALL, LARGE],
        "fleet_downloads": LARGE,
        "workers": WORKERS,
        "bytes": memory,
        "shares": shares,
        "longest_ping_ms": large.ping_ms,
        "operations": {
            name: [before.us, large.costs[name].us] for name, before in small.costs.items()
        },
    }
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    own = shares["renewals"] + shares["recovery"]
    print(f"memory: {memory}", f"shares of a core: {shares}", sep="\n")
    print(f"slow commands (over {SLOW_MS} ms): {large.slow or 'none'}")
    return int(bool(large.slow) or memory["queued"] > MOST_BYTES or own > MOST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
