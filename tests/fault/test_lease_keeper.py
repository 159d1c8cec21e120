"""Redis answers and refuses: leases are renewed again afterwards, and no file is fetched twice."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from geodes_tasks.settings.secret import Secret
from tests.fault.scene import MiB, Scene, errors_of, wrong
from tests.integration.secured import binary_of
from tests.servers import RedisServer
from tests.standin import RangeBehaviour
from tests.tools import absent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.client.batch import Batch

LEASE_S = 4
BLOCKED_S = 9.0
BLOCK = """
local began, now = redis.call('TIME'), nil
repeat now = redis.call('TIME') until tonumber(now[1]) - tonumber(began[1]) >= tonumber(ARGV[1])
"""
"""A script that blocks the server: after five seconds others hear BUSY."""


class ChosenServer(RedisServer):
    """A server of a chosen program."""

    def __init__(self, folder: Path, program: str) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(folder)
        self.program = program

    def _command(self) -> list[str]:
        return [self.program, *super()._command()[1:]]


@pytest.fixture(params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """Start each kind of server for one test, which may do to it what it likes."""
    program = binary_of(request.param)
    if program is None:
        absent(f"{request.param} is not installed here")
    with ChosenServer(tmp_path_factory.mktemp("server"), program) as running:
        yield running


@pytest.fixture
def cluster(scene: Scene, server: RedisServer) -> Scene:
    """Give a cluster on that server, with a short lease and one worker for it."""
    scene.change(redis_url=Secret(server.url), lease_seconds=LEASE_S)
    return scene


def under_way(scene: Scene, seconds: float) -> Batch:
    """Start a worker and two downloads that take so long."""
    items = scene.items(2, 6 * MiB)
    scene.standin.settings.rate = 6 * MiB / seconds
    scene.worker("first")
    batch = scene.enqueue(*items)
    scene.until(lambda: len(scene.standin.downloads()) == 2, 10, "two downloads under way")
    return batch


def assert_fetched_once(scene: Scene, batch: Batch) -> None:
    """Both files are right, by one request and one attempt each; the leases held until the end."""
    records = scene.settled(batch, 60)
    assert wrong(records) == [], scene.logs
    assert len(scene.standin.downloads()) == 2, scene.logs
    assert [errors_of(one) for one in records] == [[], []], scene.logs
    assert {one.attempts for one in records} == {1}
    assert "Exception in thread" not in scene.logs


@pytest.mark.slow
def test_a_blocked_server_costs_no_lease(cluster: Scene, server: RedisServer) -> None:
    """A script blocks Redis or Valkey for 9 s: who hears BUSY asks again, and keeps its leases."""
    batch = under_way(cluster, BLOCKED_S + 2 * LEASE_S)

    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        blocker = threading.Thread(target=client.eval, args=(BLOCK, 0, BLOCKED_S))
        blocker.start()
        blocker.join()

    assert_fetched_once(cluster, batch)


@pytest.mark.slow
def test_rights_taken_away_for_a_while_cost_no_lease(cluster: Scene, server: RedisServer) -> None:
    """The worker's user may run no script for 3 s: it says so, and its leases go on afterwards."""
    batch = under_way(cluster, 3.0 + 2 * LEASE_S)

    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        time.sleep(3.0)
        client.execute_command("ACL", "SETUSER", "default", "+evalsha", "+eval")

    assert_fetched_once(cluster, batch)
    assert "renewing leases failed: Redis at" in cluster.workers[0].text


@pytest.mark.slow
def test_forgotten_scripts_cost_no_lease(cluster: Scene, server: RedisServer) -> None:
    """The server forgets all scripts again and again, as after failovers: they are sent again."""
    batch = under_way(cluster, 2 * LEASE_S)

    with redis.Redis.from_url(server.url) as client:
        while batch.status().unfinished:
            client.script_flush()
            time.sleep(0.1)

    assert_fetched_once(cluster, batch)


def test_a_server_replaced_by_an_empty_one_costs_what_it_had_recorded(
    cluster: Scene, server: RedisServer
) -> None:
    """Enqueued again, a complete file is not fetched twice, and one under way is continued."""
    (complete,) = cluster.items(1, MiB)
    worker = cluster.worker("first")
    assert wrong(cluster.settled(cluster.enqueue(complete), 30)) == [], cluster.logs
    begun = cluster.items(2, 6 * MiB)
    cluster.standin.settings.range, cluster.standin.settings.rate = RangeBehaviour.GOOD, MiB / 2
    cluster.enqueue(*begun)
    for item in begun:
        cluster.fetched(item, MiB, 30)

    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()
    worker.wait_for("was emptied or replaced")
    # The attempts stop by themselves: another worker may have their downloads now.
    assert cluster.standin.wait_idle(30), cluster.logs
    cluster.standin.settings.rate = None
    again = cluster.settled(cluster.enqueue(complete, *begun), 60)

    assert wrong(again) == [], cluster.logs
    assert cluster.downloads(complete) == 1
    assert [cluster.downloads(item) for item in begun] == [2, 2]
    assert cluster.sent_bytes() < 1.3 * (MiB + 2 * 6 * MiB)
    assert "Exception in thread" not in cluster.logs


@pytest.mark.slow
def test_a_worker_that_cannot_renew_takes_no_work_until_it_can(
    cluster: Scene, server: RedisServer
) -> None:
    """Refused for a lease's time, a worker stops its downloads and takes none; then it goes on."""
    batch = under_way(cluster, 60.0)
    worker = cluster.workers[0]

    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        worker.wait_for("this worker takes no new work and stops its downloads", 20)
        cluster.standin.settings.rate = None
        assert cluster.standin.wait_idle(10), cluster.logs
        client.execute_command("ACL", "SETUSER", "default", "+evalsha", "+eval")

    worker.wait_for("leases are renewed again: this worker takes new work", 10)
    later = cluster.enqueue(*cluster.items(2, MiB))
    assert wrong(cluster.settled(later, 30) + cluster.settled(batch, 30)) == [], cluster.logs
    assert worker.text.count("renewing leases failed") == 1
