"""Workers that die or freeze: another takes over, and the dead can do no harm any more."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.model.states import Outcome, State
from tests.fault.scene import MiB, Scene, elapsed_since, errors_of, is_right

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch

LEASE_S = 3
TAKEN_OVER_S = LEASE_S + 6
"""A lease, a look by recovery every 0.75 s, a message, and two slow processors."""


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster with a lease of a few seconds."""
    scene.change(lease_seconds=LEASE_S)
    return scene


def take_over(scene: Scene, size: int, rate: float) -> float:
    """Kill a worker at half of a slow file; give the seconds until another asks for it."""
    (item,) = scene.items(1, size)
    scene.standin.settings.rate = rate
    first = scene.worker("first")
    batch = scene.enqueue(item, batch="b")
    scene.fetched(item, size // 2)
    scene.worker("second", wait=False)
    first.kill()
    began = time.monotonic()
    scene.standin.settings.rate = None
    scene.until(lambda: scene.downloads(item) == 2, 30, "a second request")
    took_s = elapsed_since(began)
    scene.settled(batch, 15)
    return took_s


def test_killed_worker_is_replaced_and_its_bytes_are_kept(cluster: Scene) -> None:
    """A worker dies at half of a file: another goes on there, at most 8 MiB are fetched again."""
    size = 24 * MiB
    cluster.standin.settings.change(range="good")

    took_s = take_over(cluster, size, 12 * MiB)

    (record,) = cluster.ledger.reading.records("b")
    assert is_right(record), cluster.logs
    assert record.outcome is Outcome.RESUMED, cluster.logs
    assert record.worker is not None
    assert record.worker.startswith("second@")
    assert errors_of(record) == ["WorkerLostError: its worker died or went silent"]
    # What was under way in the sockets of the dead worker counts as sent.
    assert cluster.sent_bytes() <= size + 8 * MiB
    assert took_s < TAKEN_OVER_S, cluster.logs
    assert cluster.leftovers() == []


def test_killed_worker_is_replaced_from_byte_0(cluster: Scene) -> None:
    """Where the portal cannot resume, the file comes from byte 0, and right; the log says so."""
    cluster.change(log_format="json")
    cluster.standin.settings.change(range="500")
    (item,) = cluster.items(1, 6 * MiB)
    cluster.standin.settings.rate = 3 * MiB
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.fetched(item, 3 * MiB)

    first.kill()
    cluster.standin.settings.rate = None
    second = cluster.worker("second")

    (record,) = cluster.settled(batch, 20)
    lines = [json.loads(line) for line in second.text.splitlines() if line.startswith("{")]
    actions = {one["action"]: one for one in lines if one.get("download") == record.download_id}
    assert is_right(record), cluster.logs
    assert record.outcome is Outcome.DOWNLOADED
    assert actions.keys() == {"download_taken_over", "download_restarted", "download_done"}
    assert "taken over from a worker that died" in actions["download_taken_over"]["message"]
    assert actions["download_done"]["bytes"] == 6 * MiB
    assert cluster.leftovers() == []


@pytest.mark.slow
def test_killed_pool_process_is_replaced(cluster: Scene) -> None:
    """The system kills one process of a prefork pool: its download goes on in another."""
    cluster.standin.settings.change(range="good")
    (item,) = cluster.items(1, 6 * MiB)
    cluster.standin.settings.rate = 2 * MiB
    worker = cluster.worker("first", pool="prefork")
    batch = cluster.enqueue(item)
    cluster.fetched(item, 2 * MiB)

    # Which of the two children has the download does not matter: both go.
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    assert len(children) >= 2
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    cluster.standin.settings.rate = None

    (record,) = cluster.settled(batch, 20)
    assert is_right(record), cluster.logs
    assert record.outcome is Outcome.RESUMED, cluster.logs
    assert worker.alive
    assert cluster.leftovers() == []


def holder_of(batch: Batch) -> str | None:
    """Name the worker that has the one download of a batch; None when none has it."""
    (record,) = batch.results()
    running = record.state is State.STARTED
    return str(record.worker).partition("@")[0] if running else None


def kill_holder(cluster: Scene, batch: Batch, name: str) -> None:
    """Start a worker, and kill it when it has the download."""
    victim = cluster.worker(name)
    # Not the lease of the one before, which lives on for a second after its death.
    cluster.until(lambda: holder_of(batch) == name, 10, f"{name} has the download")
    victim.kill()


def test_file_that_kills_its_workers_ends_as_failure(cluster: Scene) -> None:
    """A download under which worker after worker dies ends with its history, not never."""
    cluster.change(lease_seconds=1, max_attempts=2)
    (item,) = cluster.items(1, 4 * MiB)
    cluster.standin.settings.rate = 0.2 * MiB
    batch = cluster.enqueue(item)

    for name in ("first", "second"):
        kill_holder(cluster, batch, name)
    cluster.worker("third")

    (record,) = cluster.settled(batch, 20)
    assert record.state is State.FAILURE, cluster.logs
    assert record.error is not None
    assert record.error.type == "WorkerLostError"
    assert errors_of(record) == ["WorkerLostError: its worker died or went silent"] * 2
    assert [str(entry["worker"]).partition("@")[0] for entry in record.history] == [
        "first",
        "second",
    ]
    cluster.until(lambda: cluster.leftovers() == [], 10, "the part files are swept up")


def paused_past_its_lease(scene: Scene, item: dict[str, Any], size_bytes: int) -> None:
    """Freeze a worker that has so many bytes, let another finish the file, wake the first."""
    first = scene.worker("first")
    batch = scene.enqueue(item, batch="b")
    scene.fetched(item, size_bytes, 20)
    first.pause()
    scene.standin.clear_faults()
    scene.standin.settings.rate = None
    scene.worker("second")
    scene.settled(batch, 25)
    published = [Path(record.path).stat() for record in batch.results()]
    first.resume()
    first.wait_for("this attempt records nothing", 15)
    after = [Path(record.path).stat() for record in batch.results()]
    assert [s.st_ino for s in after] == [s.st_ino for s in published], "published twice"
    assert [s.st_mtime_ns for s in after] == [s.st_mtime_ns for s in published], "written to"


def test_paused_worker_harms_nothing(cluster: Scene) -> None:
    """A worker frozen in the middle wakes after another has finished: file and record stay."""
    (item,) = cluster.items(1, 6 * MiB)
    cluster.standin.settings.rate = 2 * MiB

    paused_past_its_lease(cluster, item, 2 * MiB)

    (record,) = cluster.ledger.reading.records("b")
    assert is_right(record), cluster.logs
    assert str(record.worker).startswith("second@")
    assert record.attempts == 2
    assert cluster.leftovers() == [], cluster.logs


def test_worker_paused_at_its_last_byte_harms_nothing(cluster: Scene) -> None:
    """A worker frozen when only the last byte is missing cannot publish once it is replaced."""
    size = 6 * MiB
    (item,) = cluster.items(1, size)
    cluster.standin.fault(item, "stall", after=size - 1, times=1)
    cluster.change(stall_seconds=60)

    paused_past_its_lease(cluster, item, size - 1)

    (record,) = cluster.ledger.reading.records("b")
    assert is_right(record), cluster.logs
    assert str(record.worker).startswith("second@")
    assert cluster.leftovers() == [], cluster.logs
