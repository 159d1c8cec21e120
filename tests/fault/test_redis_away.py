"""Redis dies, restarts, is away: workers keep their bytes and go on when it is back."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerStuckError, LedgerUnavailableError
from geodes_tasks.ledger import Claim, Ledger, Progress, Renewal, Wakeup
from geodes_tasks.model.states import State
from geodes_tasks.settings.secret import Secret
from geodes_tasks.tasks.app import Sender
from geodes_tasks.tasks.lease_keeper import LeaseKeeper
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from tests.fault.scene import MiB, Scene, elapsed_since, errors_of, wrong
from tests.integration.door import Door
from tests.servers import RedisServer, wait_until
from worker.health import judge

if TYPE_CHECKING:
    from pathlib import Path

LEASE_S = 2
AWAY_S = LEASE_S + 1.5


@pytest.mark.slow
def test_redis_killed_during_downloads(fragile: Scene, own_redis: RedisServer) -> None:
    """Killed, and restarted after more than a lease: no byte is fetched twice."""
    items = fragile.items(4, 6 * MiB)
    # Under way for more than a lease after the restart: they must be renewed again.
    fragile.standin.settings.rate = 6 * MiB / (AWAY_S + 3.5)
    fragile.worker("first")
    fragile.worker("second")
    batch = fragile.enqueue(*items)
    fragile.until(lambda: len(fragile.standin.downloads()) == 4, 10, "four downloads under way")

    own_redis.restart(kill=True, down_s=AWAY_S)

    records = fragile.settled(batch, 30)
    assert wrong(records) == [], fragile.logs
    assert [fragile.downloads(item) for item in items] == [1, 1, 1, 1], fragile.logs
    assert [errors_of(one) for one in records] == [[], [], [], []]
    assert {one.attempts for one in records} == {1}
    assert fragile.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "stuck", "well"),
    [("CONFIG SET maxmemory", "1", "0"), ("REPLICAOF", "127.0.0.1 1", "NO ONE")],
    ids=["full", "a replica"],
)
def test_redis_takes_nothing_for_a_while(
    fragile: Scene, own_redis: RedisServer, word: str, stuck: str, well: str
) -> None:
    """Answers and refuses every write, while downloads run and end: it is waited for like away."""
    items = fragile.items(6, 6 * MiB)
    fragile.standin.settings.rate = 6 * MiB / (AWAY_S - 1)
    fragile.worker("first")
    fragile.worker("second")
    batch = fragile.enqueue(*items)
    fragile.until(lambda: len(fragile.standin.downloads()) >= 4, 10, "four downloads under way")

    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command(*word.split(), *stuck.split())
        try:
            time.sleep(AWAY_S)
            with pytest.raises(LedgerStuckError, match="accepts no writes now"):
                fragile.enqueue(*fragile.items(1))
        finally:
            client.execute_command(*word.split(), *well.split())

    records = fragile.settled(batch, 40)
    assert wrong(records) == [], fragile.logs
    assert [fragile.downloads(item) for item in items] == [1] * 6, fragile.logs
    assert fragile.leftovers() == []


@pytest.mark.slow
def test_redis_fails_over_to_its_replica(
    fragile: Scene, own_redis: RedisServer, tmp_path: Path
) -> None:
    """The primary dies for good and its replica takes the address over: nothing is lost."""
    items = fragile.items(4, 6 * MiB)
    fragile.standin.settings.rate = 6 * MiB / (AWAY_S + 3.5)
    replica = RedisServer(tmp_path / "replica").start()
    try:
        replica_of(replica, own_redis)
        fragile.worker("first")
        batch = fragile.enqueue(*items)
        fragile.until(lambda: len(fragile.standin.downloads()) == 4, 10, "four are under way")

        own_redis.kill()
        replica.kill()
        promote(replica.folder, own_redis.folder)
        own_redis.start()
    finally:
        replica.close()

    records = fragile.settled(batch, 40)
    assert wrong(records) == [], fragile.logs
    assert [fragile.downloads(item) for item in items] == [1, 1, 1, 1], fragile.logs
    assert fragile.leftovers() == []


@pytest.mark.slow
def test_the_primary_behind_one_address_becomes_a_replica(
    scene: Scene, own_redis: RedisServer, tmp_path: Path
) -> None:
    """It keeps its connections open: whoever has one leaves it for the new primary, without a loss.

    The ledger's scripts, single commands, transactions and messages of this process and a worker.
    """
    with RedisServer(tmp_path / "next") as other, Door(own_redis.port) as door:
        door.open()
        scene.change(redis_url=Secret(f"redis://{door.host}/0"), max_concurrent=1)
        scene.worker("first")
        assert wrong(scene.settled(scene.enqueue(*scene.items(2)), 20)) == []
        sender = Sender(scene.settings)
        wakeup = Wakeup("00" * 16, "item", "title", 1)
        sender.send([wakeup])
        identity = scene.ledger.connection.ledger_id()
        replica_of(other, own_redis)

        with redis.Redis.from_url(other.url) as client:
            client.replicaof("NO", "ONE")
        door.target = other.port
        replica_of(own_redis, other)

        assert scene.ledger.account.pause("default", "now", 0.1)
        assert scene.ledger.account.resume("default")
        assert scene.ledger.connection.ledger_id() == identity
        wait_until(lambda: sent(sender, wakeup), 5, "a message through the new primary")
        records = scene.settled(scene.enqueue(*scene.items(3)), 20)
        assert wrong(records) == [], scene.logs


def sent(sender: Sender, wakeup: Wakeup) -> bool:
    """Send a message; return whether the broker took it."""
    with contextlib.suppress(OperationalError):
        sender.send([wakeup])
        return True
    return False


def replica_of(replica: RedisServer, primary: RedisServer) -> None:
    """Have one server follow another, and wait until it does."""
    with redis.Redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", str(primary.port))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", 10, "in step")


def promote(replica: Path, primary: Path) -> None:
    """Put the replica's data in the place of the dead primary's."""
    shutil.rmtree(primary)
    shutil.copytree(replica, primary)


def test_redis_frozen_for_longer_than_a_lease(fragile: Scene, own_redis: RedisServer) -> None:
    """Redis says nothing for longer than a lease and wakes up: a living worker keeps its lease."""
    batch = fragile.enqueue(*fragile.items(1))
    claim = fragile.ledger.leases.claim(batch.results()[0].download_id, "living")
    assert isinstance(claim, Claim)
    fragile.ledger.dispatch.recover("other", 1)
    other = Ledger.of(fragile.settings)
    looks = threading.Thread(target=other.dispatch.recover, args=("other", 1))

    own_redis.pause()
    looks.start()
    time.sleep(AWAY_S)
    own_redis.resume()
    looks.join()
    other.connection.client.close()

    progress = Progress(claim.download_id, claim.token, 1)
    assert fragile.ledger.leases.renew([progress]) == [Renewal.OK]


def test_leases_are_kept_though_an_event_cannot_be_sent(scene: Scene) -> None:
    """Redis fails between a renewal and the news for Flower: the next renewal comes still."""
    scene.change(lease_seconds=1)
    (item,) = scene.items(1)
    batch = scene.enqueue(item)
    claim = scene.ledger.leases.claim(batch.results()[0].download_id, "worker")
    assert isinstance(claim, Claim)
    sent = []

    def send(attempt: LeasedAttempt) -> None:
        sent.append(attempt)
        raise OperationalError("connection refused")

    with LeaseKeeper(scene.ledger).keep(claim, on_progress=send) as attempt:
        attempt.progress(1)
        time.sleep(2.5)
        ended, _ = scene.ledger.dispatch.recover()

    assert sent
    assert ended == 0, "the lease was lost"


def test_file_that_ends_while_redis_is_away(fragile: Scene, own_redis: RedisServer) -> None:
    """What came to its end without Redis is recorded when Redis is back, and not fetched again."""
    (item,) = fragile.items(1, 2 * MiB)
    fragile.standin.settings.rate = 1 * MiB
    worker = fragile.worker("first")
    batch = fragile.enqueue(item)
    fragile.fetched(item, MiB // 2)

    own_redis.kill()
    assert fragile.standin.wait_idle(10)
    time.sleep(LEASE_S)
    own_redis.start()

    records = fragile.settled(batch, 20)
    assert wrong(records) == [], fragile.logs
    assert fragile.downloads(item) == 1, fragile.logs
    assert "unacknowledged" not in worker.text, "the broker's client keeps messages of its own"


def test_workers_go_on_after_redis_is_back(fragile: Scene, own_redis: RedisServer) -> None:
    """A worker that lost Redis while idle takes work again when it is back."""
    fragile.worker("first")
    own_redis.restart(kill=True, down_s=2)

    batch = fragile.enqueue(*fragile.items(4, MiB))

    assert wrong(fragile.settled(batch, 30)) == [], fragile.logs


def test_worker_started_without_redis_waits_for_it(fragile: Scene, own_redis: RedisServer) -> None:
    """A worker started before Redis says so in one line, and works as soon as it is there."""
    batch = fragile.enqueue(*fragile.items(1))
    own_redis.kill()
    worker = fragile.worker("first", wait=False)
    worker.wait_for("Redis", 20)

    own_redis.start()

    assert wrong(fragile.settled(batch, 30)) == [], fragile.logs
    assert "Traceback" not in worker.text, fragile.logs


@pytest.mark.parametrize("setting", [("maxmemory", "1"), ("min-replicas-to-write", "1")])
def test_no_probe_kills_a_worker_for_a_redis_that_takes_nothing(
    fragile: Scene, own_redis: RedisServer, setting: tuple[str, str]
) -> None:
    """No worker can renew its record then: it is ready no more, but lives."""
    ledger = fragile.ledger
    assert judge(ledger, "celery@node7", live=True)[0] == 1
    ledger.connection.client.config_set(*setting)

    live, line = judge(ledger, "celery@node7", live=True)

    assert (live, judge(ledger, "celery@node7")[0]) == (0, 1)
    assert "accepts no writes now" in line


def test_worker_warns_of_a_redis_that_forgets(fragile: Scene, own_redis: RedisServer) -> None:
    """Without an append-only file, or with eviction, the worker says what is at risk."""
    fragile.ledger.connection.client.config_set("appendonly", "no")
    fragile.ledger.connection.client.config_set("maxmemory-policy", "allkeys-lru")

    worker = fragile.worker("first")

    worker.wait_for("Set `appendonly yes`", 5)
    worker.wait_for("Set `maxmemory-policy noeviction`", 5)


def test_enqueue_without_redis_says_so(fragile: Scene, own_redis: RedisServer) -> None:
    """Asking while Redis is down fails within seconds, with the address and what to do."""
    (item,) = fragile.items(1)
    own_redis.kill()
    began = time.monotonic()

    with pytest.raises(LedgerUnavailableError, match=str(own_redis.port)) as caught:
        fragile.enqueue(item)

    assert elapsed_since(began) < 5
    assert "Start Redis" in caught.value.hint


def test_enqueue_broken_off_by_redis_is_completed_by_asking_again(
    fragile: Scene, own_redis: RedisServer
) -> None:
    """What was queued before Redis died is whole; the same request again completes the batch."""
    items = fragile.items(30, 1024)
    batch = fragile.enqueue(*items[:10], batch="b")
    own_redis.kill()
    with pytest.raises(LedgerUnavailableError, match=str(own_redis.port)):
        fragile.enqueue(*items, batch="b")
    own_redis.start()
    assert batch.status().states[State.PENDING] == 10

    batch = fragile.enqueue(*items, batch="b")
    fragile.worker("first")

    records = fragile.settled(batch, 20)
    assert len(records) == 30
    assert wrong(records) == [], fragile.logs
