"""SIGTERM: what ends within the grace time ends, the rest is given back with its bytes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.model.states import Outcome, Reason, State
from geodes_tasks.settings import config
from tests.fault.scene import MiB, Scene, elapsed_since, wrong

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch
    from tests.servers import WorkerProcess

GRACE_S = 1
STOPPED_S = GRACE_S + 5
"""Two slow processors, and Celery's own shutdown."""
POOLS = ("threads", "prefork")


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster with a short grace time, and a lease too long to help."""
    scene.change(grace_seconds=GRACE_S, lease_seconds=60, stall_seconds=60)
    scene.standin.settings.change(range="good")
    return scene


def two_under_way(scene: Scene, pool: str) -> tuple[WorkerProcess, Batch, list[Any]]:
    """Start a worker and two slow downloads, of which a MiB is there."""
    items = scene.items(2, 8 * MiB)
    scene.standin.settings.rate = 1 * MiB
    first = scene.worker("first", pool=pool)
    batch = scene.enqueue(*items)
    for item in items:
        scene.fetched(item, MiB)
    return first, batch, items


def given_back(scene: Scene, batch: Batch) -> None:
    """Check that every download is back in the queue as if it had not been tried."""
    for record in batch.results():
        assert (record.state, record.reason) == (State.RETRY, Reason.WORKER_STOPPED), scene.logs
        assert record.attempts == 0, scene.logs
    assert scene.ledger.reading.running() == []


@pytest.mark.parametrize("pool", POOLS)
def test_stopped_worker_gives_its_downloads_back(cluster: Scene, pool: str) -> None:
    """SIGTERM under slow downloads: the worker ends soon, another goes on with its bytes."""
    first, batch, items = two_under_way(cluster, pool)
    began = time.monotonic()

    first.term()
    first.wait(20)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)
    assert all(cluster.parts(item) for item in items), "the bytes are gone"
    cluster.standin.settings.rate = None
    cluster.worker("second")
    records = cluster.settled(batch, 15)
    assert wrong(records) == [], cluster.logs
    assert {one.outcome for one in records} == {Outcome.RESUMED}, cluster.logs


@pytest.mark.parametrize("pool", POOLS)
def test_stopped_worker_does_not_wait_for_a_silent_portal(cluster: Scene, pool: str) -> None:
    """SIGTERM while the portal says nothing any more: the same, as soon."""
    (item,) = cluster.items(1, 2 * MiB)
    cluster.standin.fault(item, "stall", after=MiB, times=1)
    first = cluster.worker("first", pool=pool)
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)
    began = time.monotonic()

    first.term()
    first.wait(30)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)
    assert cluster.parts(item), "the bytes are gone"


def test_stopped_worker_does_not_wait_for_a_first_byte(cluster: Scene) -> None:
    """SIGTERM while the portal has not answered yet: the same, as soon."""
    cluster.change(first_byte_seconds=60)
    (item,) = cluster.items(1)
    cluster.standin.fault(item, "slow_headers", seconds=60, times=1)
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.until(lambda: cluster.downloads(item) == 1, 10, "a request")
    began = time.monotonic()

    first.term()
    first.wait(30)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)


def test_what_ends_within_the_grace_time_ends(cluster: Scene) -> None:
    """A download that needs one second more gets it; no new one is begun."""
    cluster.change(grace_seconds=10)
    items = cluster.items(2, 2 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first", concurrency=1)
    batch = cluster.enqueue(*items)
    cluster.until(cluster.parts, 10, "a download under way")

    first.term()
    first.wait(15)

    states = sorted(str(one.state) for one in batch.results())
    assert states == [State.PENDING, State.SUCCESS], cluster.logs
    assert cluster.leftovers() == []


def test_pool_that_was_asked_for(cluster: Scene) -> None:
    """``--pool prefork`` gives processes."""
    worker = cluster.worker("first", pool="prefork")

    assert "(prefork)" in worker.text, "the pool is another"


def test_second_sigterm_is_never_wrong(cluster: Scene) -> None:
    """Asked twice, the worker may be rude, but the file still comes, right and soon."""
    cluster.change(lease_seconds=3)
    (item,) = cluster.items(1, 6 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    first = cluster.worker("first")
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)

    first.term()
    time.sleep(0.2)
    first.term()
    first.wait(15)
    cluster.standin.settings.rate = None
    cluster.worker("second")

    assert wrong(cluster.settled(batch, 15)) == [], cluster.logs
    assert cluster.leftovers() == []


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGQUIT,),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM, signal.SIGQUIT),
    ],
    ids=["SIGQUIT", "Ctrl-C twice", "SIGTERM twice, then SIGQUIT"],
)
def test_a_more_urgent_signal_gives_back_at_once(
    cluster: Scene, pool: str, numbers: tuple[signal.Signals, ...]
) -> None:
    """A long grace time is cut off: nothing is lost, and the log has no traceback."""
    cluster.change(grace_seconds=60)
    first, batch, items = two_under_way(cluster, pool)
    began = time.monotonic()

    for number in numbers:
        first.send(number)
        time.sleep(0.3)
    first.wait(15)

    assert elapsed_since(began) < STOPPED_S, cluster.logs
    given_back(cluster, batch)
    assert all(cluster.parts(item) for item in items), "the bytes are gone"
    assert "Traceback" not in first.text


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_the_whole_group_stops_a_worker(
    cluster: Scene, pool: str, number: signal.Signals
) -> None:
    """As Slurm and timeout(1) send it: no download of a pool is lost with its process."""
    first, batch, items = two_under_way(cluster, pool)

    os.killpg(first.pid, number)
    first.wait(15)

    given_back(cluster, batch)
    assert all(cluster.parts(item) for item in items), "the bytes are gone"


@pytest.mark.parametrize("pool", POOLS)
def test_sighup_starts_a_worker_again(cluster: Scene, pool: str) -> None:
    """The process stays, gives back what does not end in time, and goes on with it."""
    (item,) = cluster.items(1, 8 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    worker = cluster.worker("first", pool=pool)
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)

    worker.send(signal.SIGHUP)
    worker.wait_for(" ready.", 20, times=2)
    cluster.standin.settings.rate = None
    (record,) = cluster.settled(batch, 20)

    assert (record.state, record.outcome) == (State.SUCCESS, Outcome.RESUMED), cluster.logs
    assert worker.alive, cluster.logs


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    "numbers", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)]
)
def test_a_worker_that_is_told_to_end_does_not_start_again(
    cluster: Scene, pool: str, numbers: tuple[signal.Signals, ...]
) -> None:
    """Before or after SIGHUP: who wants it to end need not kill it."""
    worker = cluster.worker("first", pool=pool)
    cluster.change(grace_seconds=1)

    for number in numbers:
        worker.send(number)
    worker.wait(20)

    assert worker.text.count(" ready.") == 1, cluster.logs


def test_sighup_does_not_end_a_worker_of_nohup(cluster: Scene) -> None:
    """``nohup geodes-tasks worker &``: the closed terminal changes nothing."""
    items = cluster.items(2, 2 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        worker = cluster.worker("first", concurrency=1)
    finally:
        signal.signal(signal.SIGHUP, before)
    batch = cluster.enqueue(*items)
    cluster.until(cluster.parts, 10, "a download under way")

    worker.send(signal.SIGHUP)
    records = cluster.settled(batch, 20)

    assert {one.outcome for one in records} == {Outcome.DOWNLOADED}, cluster.logs
    assert worker.text.count(" ready.") == 1


def test_a_closed_terminal_stops_a_worker(cluster: Scene) -> None:
    """The downloads are given back, as after SIGTERM; it does not start again unseen."""
    (item,) = cluster.items(1, 8 * MiB)
    cluster.standin.settings.rate = 1 * MiB
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup of the tests is inherited
    pid, terminal = pty.fork()
    if pid == 0:
        words = [sys.executable, "-m", "geodes_tasks", "worker", "--hostname", "seen@%h"]
        environment = os.environ | config.environment(cluster.settings)
        os.execve(sys.executable, words, environment)  # noqa: S606 - no shell
    try:
        signal.signal(signal.SIGHUP, before)
        batch = cluster.enqueue(item)
        cluster.fetched(item, MiB)
        os.close(terminal)
        cluster.until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, 20, "its end")
    finally:
        subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)

    given_back(cluster, batch)
