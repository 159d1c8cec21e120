"""A canary in every secret, and every error path walked: it is found nowhere but at the portal."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.secret import Secret
from tests.integration.test_cli import CommandLine
from tests.integration.test_flower import FlowerProcess
from tests.servers import wait_until

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger
    from tests.fault.scene import Scene

KEY = "kanarienvogel-4711-portal"
SECRET = "kanarienvogel-4711-datalake"
CANARY = "kanarienvogel"
KiB = 1024
WAIT_S = 60.0

PASSING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status_n_times", {"status": 500, "body": f"no luck with {KEY}"}),
    ("429", {"retry_after": "0", "body": f"too often: {KEY}"}),
    ("quota403", {"body": f"exceeds quota limit of {KEY}"}),
    ("json_200", {"body": f"a message for {KEY}"}),
    ("html_200", {"body": f"login of {KEY}"}),
    ("truncate", {}),
    ("reset", {}),
    ("corrupt", {}),
    ("offline_410", {}),
    ("redirect_other_host", {}),
    ("gone_404", {}),
    ("licence_423", {}),
    ("bad_key", {"answer": "401"}),
    ("bad_key", {"answer": "403"}),
    ("bad_key", {"answer": "login"}),
    ("bad_key", {"answer": "loop"}),
)
"""Every way to fail, once each; where the portal may, it says the key back."""


class Monitor(threading.Thread):
    """Hears everything that is said to Redis."""

    def __init__(self, url: str) -> None:
        super().__init__(name="monitor", daemon=True)
        parts = urlsplit(url)
        self._link = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
        self._link.sendall(b"MONITOR\r\n")
        self._link.settimeout(None)
        self.heard = bytearray()

    def run(self) -> None:
        """Listen until the connection is closed."""
        while piece := self._link.recv(1 << 16):
            self.heard += piece

    def stop(self) -> str:
        """End, and give what was heard."""
        # One half: the server closes the other when it has said all, and nothing is cut off.
        self._link.shutdown(socket.SHUT_WR)
        self.join(5.0)
        self._link.close()
        return self.heard.decode("utf-8", "replace")


@pytest.fixture
def monitor(scene: Scene) -> Monitor:
    """Listen at the Redis that all tests share."""
    listener = Monitor(str(scene.settings.redis_url))
    listener.start()
    return listener


def command_lines() -> str:
    """Give the words of every process, as everybody on this machine may read them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


def everything_in(ledger: Ledger) -> str:
    """Give every key and every value in Redis, whatever its type."""
    client, found = ledger.connection.client, []
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    for key in client.scan_iter(count=1000):
        found.append(f"{key} {readers[client.type(key)](key)}")
    return "\n".join(found)


@pytest.mark.slow
def test_no_secret_is_anywhere_but_at_the_portal(
    scene: Scene, monitor: Monitor, tmp_path: Path
) -> None:
    """Redis, MONITOR, logs at DEBUG, Flower, reports, command lines, other hosts: no canary."""
    scene.standin.set_key(KEY)
    scene.standin.settings.quota_status = 404
    scene.change(
        api_key=Secret(KEY),
        aws_access_key_id=Secret("AKIA-not-secret"),
        aws_secret_access_key=Secret(SECRET),
        probe_seconds=0.3,
        max_attempts=4,
    )
    node = scene.worker("one", options=("--loglevel", "DEBUG", "--task-events"), concurrency=4)
    flower = FlowerProcess(scene.settings, tmp_path).start()
    try:
        batch = scene.enqueue(*troubled(scene), batch="canary")
        words = command_lines()
        bear_with(scene, batch.id)
        pages = flower_pages(flower, scene.ledger)
    finally:
        flower.stop()
    cli = CommandLine(scene.standin)
    cli.settings |= config.environment(scene.settings)
    said = [
        cli(*command)
        for command in (
            ("report", "canary", "--format", "json"),
            ("report", "canary", "--format", "markdown"),
            ("status", "canary", "--why", "--json"),
            ("watch", "canary", "--once"),
            ("doctor",),
        )
    ]
    places = {
        "redis": everything_in(scene.ledger),
        "monitor": monitor.stop(),
        "worker log": node.text,
        "flower log": flower.text,
        "flower": pages,
        "command lines": words,
        "commands": "".join(one.stdout + one.stderr for one in said),
        "other host": json.dumps([one.headers for one in scene.standin.other_host.requests]),
        "files": leftovers(scene.folder),
    }

    errors = {one.error.type for one in batch.results() if one.error}
    assert len(scene.standin.other_host.requests) > 0
    assert {"NotFoundError", "LicenceError"} <= errors
    assert any(one.key == KEY for one in scene.standin.requests)
    assert all(word in node.text for word in ("401", "exceeds quota", "redirects"))
    assert all(len(text) > 0 for name, text in places.items() if name != "files"), list(places)
    assert [name for name, text in places.items() if CANARY in text] == []


def troubled(scene: Scene) -> list[dict[str, Any]]:
    """Add one item for each way to fail, one that is well, and one that a stranger made."""
    items = []
    for mode, options in PASSING:
        item = scene.standin.add_item(64 * KiB, endpoint_url=None)
        times = {} if mode in {"gone_404", "licence_423"} else {"times": 1}
        scene.standin.fault(item, mode, **options, **times)
        items.append(item)
    items.append(scene.standin.add_item(64 * KiB, endpoint_url=None))
    stranger = scene.standin.other_host.url
    items.append(scene.standin.add_item(64 * KiB, href_base=stranger, endpoint_url=None))
    # Nobody listens at the datalake: its secret is in hand when that fails.
    items.append(scene.standin.add_item(64 * KiB, endpoint_url="http://127.0.0.1:1/bucket/a.zip"))
    return items


def bear_with(scene: Scene, batch: str) -> None:
    """Resume the account whenever a key was refused, until everything is over."""
    deadline = time.monotonic() + WAIT_S
    while (status := scene.ledger.reading.status(batch)).unfinished:
        assert time.monotonic() < deadline, f"{status.to_dict()}\n{scene.logs}"
        for state in scene.ledger.account.states():
            if state.paused and state.paused_until is None:
                scene.ledger.control.resume_account(state.name)
        time.sleep(0.1)
    assert status.states[State.SUCCESS] >= len(PASSING) - 2


def flower_pages(flower: FlowerProcess, ledger: Ledger) -> str:
    """Give what Flower shows: its tables, every task's page, its API."""
    wait_until(lambda: len(flower.tasks()) > 10, 20.0, "Flower knows the tasks")
    paths = ["/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers?refresh=1"]
    paths += [f"/task/{identifier}" for identifier in flower.tasks()]
    paths += [f"/worker/{name}" for name in ledger.dispatch.workers()]
    return "\n".join(flower.get(path)[1] for path in paths)


def leftovers(folder: Path) -> str:
    """Give names and contents of all that is no archive."""
    found = [str(path) for path in folder.rglob("*")]
    small = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".zip"]
    return "\n".join([*found, *(p.read_bytes().decode("utf-8", "replace") for p in small)])
