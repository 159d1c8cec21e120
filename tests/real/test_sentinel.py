"""Redis with replicas: the primary dies, a Sentinel names another one, downloads continue."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geodes_tasks.client.batch import Batch
from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import WorkerFactory
from tests.fault.scene import Scene
from tests.real.sentinels import SENTINEL_LOGIN, Sentinels, running_sentinels
from tests.servers import Process, free_port, wait_until
from tests.standin import StandIn

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
MiB = 1 << 20
FAILOVER_S = 30.0
"""Seconds at most from the death of the primary to the next verified file."""


@pytest.fixture
def sentinels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sentinels]:
    """Start three servers and three Sentinels for one test, with TLS where it asks for it."""
    is_secured = getattr(request, "param", "plain") == "secured"
    folder = tmp_path_factory.mktemp("sentinels")
    with running_sentinels(folder, is_secured=is_secured) as running:
        yield running


@pytest.fixture
def scene(
    standin: StandIn, settings: Config, worker: WorkerFactory, sentinels: Sentinels
) -> Iterator[Scene]:
    """Give a cluster whose Redis is found through Sentinels."""
    changed = sentinels.settings(
        "worker", settings, lease_seconds=5.0, max_concurrent=4, max_attempts=8
    )
    scene = Scene(standin, changed, worker)
    yield scene
    scene.end()


def files(folder: Path) -> list[Path]:
    """Return the published files, the oldest first."""
    found = [p for p in folder.rglob("*.zip") if ".geodes-tasks" not in p.parts]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def wait_for_another(primary: int, sentinels: Sentinels, scene: Scene) -> None:
    """Wait until most Sentinels name another primary, and it answers."""

    def is_there() -> bool:
        with contextlib.suppress(LedgerUnavailableError):
            scene.ledger.connection.ping()
            return sentinels.primary() != primary
        return False

    wait_until(is_there, 40, "another primary")


def settled(scene: Scene, batch: Batch) -> list[DownloadRecord]:
    """Wait until a batch is over; a Sentinel may name the dead primary for a second more."""

    def is_over() -> bool:
        with contextlib.suppress(LedgerUnavailableError):
            return not batch.status().unfinished
        return False

    scene.until(is_over, 120, "the batch is over")
    return batch.results()


@pytest.mark.parametrize("sentinels", ["plain", "secured"], indirect=True)
def test_the_primary_dies_while_files_are_transferred(
    scene: Scene, sentinels: Sentinels, record_property: Callable[[str, object], None]
) -> None:
    """The next verified file is there within 30 s; every file is right, none is fetched anew."""
    scene.standin.settings.rate = MiB
    items = scene.items(24, 2 * MiB)
    for name in ("one", "two"):
        scene.worker(name, concurrency=2)
    batch = scene.enqueue(*items)
    scene.until(lambda: len(files(scene.folder)) >= 6, 60, "the first files")
    primary = sentinels.primary()

    sentinels.process_of(primary).kill()
    died = time.time()

    wait_for_another(primary, sentinels, scene)
    records = settled(scene, batch)
    published = [path.stat().st_mtime for path in files(scene.folder)]
    # Transfers under way end by themselves; what counts is the first file claimed afterwards.
    begun = [one.started_at for one in scene.standin.downloads()]
    first_begun = min(moment for moment in begun if moment > died + 1.0)
    next_file = min(moment for moment in published if moment > first_begun)
    record_property("seconds_to_next_file", next_file - died)
    print(f"next verified file {next_file - died:.1f} s after the death of the primary")
    assert next_file - died <= FAILOVER_S, scene.logs
    assert {one.state for one in records} == {State.SUCCESS}, scene.logs
    assert len(files(scene.folder)) == len(items)
    for path in files(scene.folder):
        (record,) = [one for one in records if one.path == str(path)]
        assert hashlib.md5(path.read_bytes()).hexdigest() == str(record.checksum).removeprefix(
            "md5:"
        )
    fetched_twice = scene.sent_bytes() - len(items) * 2 * MiB
    again = len(scene.standin.downloads()) - len(items)
    print(f"{again} requests again, {fetched_twice / MiB:.1f} MiB fetched twice")
    assert fetched_twice <= 4 * 2 * MiB
    assert scene.leftovers() == []
    assert SENTINEL_LOGIN[1] not in scene.logs


def test_records_that_no_replica_had_are_made_again(scene: Scene, sentinels: Sentinels) -> None:
    """Files end while both replicas are frozen, the primary dies: no file is fetched again."""
    items = scene.items(8, MiB)
    scene.worker("one", concurrency=2)
    scene.settled(scene.enqueue(*items[:2]), 60)
    primary = sentinels.primary()
    replicas = [port for port in sentinels.ports if port != primary]
    batch = scene.enqueue(*items)
    for port in replicas:
        sentinels.process_of(port).pause()
    scene.until(lambda: len(files(scene.folder)) >= 6, 60, "files that no replica knows")

    sentinels.process_of(primary).kill()
    for port in replicas:
        sentinels.process_of(port).resume()

    wait_for_another(primary, sentinels, scene)
    scene.enqueue(*items, batch=batch.id)
    records = settled(scene, batch)
    assert {one.state for one in records} == {State.SUCCESS}, scene.logs
    assert len(files(scene.folder)) == 8
    assert len(scene.standin.downloads()) <= 8 + 2, scene.logs


def test_enqueue_says_when_no_replica_has_the_batch(
    scene: Scene, sentinels: Sentinels, caplog: pytest.LogCaptureFixture
) -> None:
    """With replicas in step nothing is printed; without, the user learns what a loss means."""
    (item, other) = scene.items(2, 1000)
    with caplog.at_level(logging.WARNING):
        scene.enqueue(item)
        assert "no replica" not in caplog.text
        primary = sentinels.primary()
        for port in sentinels.ports:
            if port != primary:
                sentinels.process_of(port).pause()
        scene.enqueue(other)

    assert "no replica of Redis confirmed" in caplog.text
    assert "enqueue the same items again" in caplog.text


@pytest.mark.parametrize(
    ("user", "sentinels"), [("client", "plain"), ("viewer", "secured")], indirect=["sentinels"]
)
def test_commands_reach_redis_through_sentinels(
    scene: Scene, sentinels: Sentinels, user: str, tmp_path: Path
) -> None:
    """Status and doctor work with the password file, also while the first Sentinel is dead."""
    scene.enqueue(*scene.items(1, 1000))
    sentinels.sentinels[0].kill()
    address = sentinels.url.replace("//", f"//{user}@", 1)
    environment = (
        os.environ
        | config.environment(scene.settings)
        | {
            "GEODES_TASKS_REDIS_URL": address,
            "GEODES_TASKS_REDIS_PASSWORD_FILE": str(sentinels.secrets / user / "password"),
        }
    )

    done = [
        subprocess.run(
            [sys.executable, "-m", "geodes_tasks", *words],
            env=environment, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        )
        for words in (["status", "--json"], ["doctor"])
    ]  # fmt: skip

    assert json.loads(done[0].stdout)["total"] == 1, done[0].stderr
    assert "Traceback" not in done[1].stdout + done[1].stderr
    assert "redis" in done[1].stdout.lower()
    for secret in (sentinels.password(user), SENTINEL_LOGIN[1], SENTINEL_LOGIN[1].split()[0]):
        assert secret not in done[1].stdout + done[1].stderr


@pytest.mark.parametrize("sentinels", ["secured"], indirect=True)
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("sentinel_password=", "sentinel_password=wrong", "3 Sentinels did not answer, or refused"),
        ("ssl=true", "ssl=false", "3 Sentinels did not answer, or refused"),
        ("master_name=geodes", "master_name=other", "is that the master_name"),
    ],
    ids=["wrong password of the Sentinels", "no TLS", "another name"],
)
def test_secured_sentinels_refuse(
    scene: Scene, sentinels: Sentinels, old: str, new: str, reason: str, tmp_path: Path
) -> None:
    """One line that names the Sentinels and no secret, after seconds."""
    environment = os.environ | config.environment(scene.settings)
    environment["GEODES_TASKS_REDIS_URL"] = sentinels.url_of("client").replace(old, new)

    done = subprocess.run(
        [sys.executable, "-m", "geodes_tasks", "status"],
        env=environment, capture_output=True, text=True, check=False, timeout=25, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f":{sentinels.sentinel_ports[0]};" in done.stderr
    assert reason in done.stderr
    assert len(done.stderr) < 500
    assert "wrong" not in done.stderr


@pytest.mark.parametrize("sentinels", ["plain", "secured"], indirect=True)
def test_flower_reads_the_broker_through_sentinels(
    scene: Scene, sentinels: Sentinels, tmp_path: Path
) -> None:
    """Flower comes up, sees the workers and the length of the queue."""
    scene.worker("one", concurrency=2)
    port = free_port()
    environment = os.environ | config.environment(scene.settings)
    environment["GEODES_TASKS_REDIS_URL"] = sentinels.url_of("flower")
    flower = Process(tmp_path / "flower.log")
    flower.spawn(
        [sys.executable, "-m", "geodes_tasks", "flower", f"--port={port}"],
        env=environment, cwd=tmp_path,
    )  # fmt: skip

    def answer(path: str) -> str:
        address = f"http://127.0.0.1:{port}{path}"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as reply:
            return str(reply.read(), "utf-8")
        return ""

    try:
        wait_until(lambda: "one@" in answer("/api/workers?refresh=1"), 60, "the worker in Flower")
        assert '"geodes"' in answer("/api/queues/length"), flower.text
    finally:
        flower.stop()


def test_no_sentinel_answers(tmp_path: Path) -> None:
    """One line that names the hosts and what to do."""
    environment = os.environ | {
        "GEODES_TASKS_REDIS_URL": "sentinel://127.0.0.1:1;127.0.0.1:2/0?master_name=geodes"
    }

    done = subprocess.run(
        [sys.executable, "-m", "geodes_tasks", "status"],
        env=environment, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1;127.0.0.1:2" in done.stderr
    assert "2 Sentinels did not answer" in done.stderr
    assert len(done.stderr) < 500
