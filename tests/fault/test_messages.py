"""A message is only a wake-up: twins cost nothing, a lost one is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.ledger import Wakeup
from geodes_tasks.tasks.app import QUEUE, Sender
from tests.fault.scene import KiB, Scene, wrong

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch

TWINS = 200


@pytest.fixture
def cluster(scene: Scene) -> Scene:
    """Give a cluster that runs many downloads at once, with a lease that never runs out."""
    scene.change(max_concurrent=16, lease_seconds=30)
    return scene


def wakeups(batch: Batch) -> list[Wakeup]:
    """Make a message for each download of a batch."""
    return [
        Wakeup(one.download_id, one.item_id, one.asset_key, one.size_bytes)
        for one in batch.results()
    ]


def test_twin_messages_make_one_transfer_each(cluster: Scene) -> None:
    """The same message to two workers at once, 200 times: one request each."""
    items = cluster.items(TWINS, 64 * KiB)
    batch = cluster.enqueue(*items)
    cluster.ledger.connection.client.delete(cluster.ledger.connection.key(QUEUE))
    # Long enough under way for the twin to arrive meanwhile.
    cluster.standin.settings.latency_s = 0.1
    twins = wakeups(batch)
    Sender(cluster.settings).send([one for one in twins for _ in range(2)])
    # All of them are on their way: none is sent a third time when its turn comes.
    sent, now = (
        cluster.ledger.connection.key("account", "default", "sent"),
        cluster.ledger.connection.server_time(),
    )
    cluster.ledger.connection.client.zadd(sent, {one.download_id: now for one in twins})

    workers = [cluster.worker(name, concurrency=8, wait=False) for name in ("first", "second")]

    records = cluster.settled(batch, 60)
    assert wrong(records) == [], cluster.logs
    assert {cluster.downloads(item) for item in items} == {1}, cluster.logs
    assert {one.attempts for one in records} == {1}
    told = [one.text.count("nothing to do (") for one in workers]
    assert sum(told) == TWINS, cluster.logs
    assert any("(running)" in one.text for one in workers), "no twin came while its file ran"


def lose_messages(scene: Scene) -> list[str]:
    """Empty the broker, as if its messages had been on their way for a minute; name them."""
    client, key = scene.ledger.connection.client, scene.ledger.connection.key
    client.delete(key(QUEUE))
    sent = key("account", "default", "sent")
    lost: list[str] = client.zrange(sent, 0, -1)
    client.zadd(sent, dict.fromkeys(lost, scene.ledger.connection.server_time() - 60))
    return lost


def test_lost_messages_are_sent_again(cluster: Scene) -> None:
    """Redis forgets every message: the ledger knows, and each download comes, once."""
    items = cluster.items(12, 64 * KiB)
    batch = cluster.enqueue(*items)
    lose_messages(cluster)

    workers = [cluster.worker(name, wait=False) for name in ("first", "second")]

    assert wrong(cluster.settled(batch, 20)) == [], cluster.logs
    assert {cluster.downloads(item) for item in items} == {1}, cluster.logs
    assert any("12 messages were lost" in one.text for one in workers), cluster.logs


def test_two_workers_that_see_the_same_loss_send_again_once(cluster: Scene) -> None:
    """Both have found the same messages lost; what the first has sent again is lost no more."""
    cluster.enqueue(*cluster.items(5, KiB))
    lost = lose_messages(cluster)
    both = [cluster.ledger.dispatch.sent("default", 10) for _ in range(2)]
    assert [sorted(found) for found in both] == [sorted(lost)] * 2
    assert cluster.ledger.dispatch.resend("default", 10, both[0]) == 5
    assert len(cluster.ledger.dispatch.release()) == 5

    put_back = cluster.ledger.dispatch.resend("default", 10, both[1])

    assert put_back == 0


def test_message_held_by_a_dead_worker_is_sent_again(cluster: Scene) -> None:
    """A worker that dies with messages it has not begun: others get those downloads."""
    cluster.change(lease_seconds=2)
    items = cluster.items(6, 64 * KiB)
    cluster.standin.settings.latency_s = 30
    first = cluster.worker("first", concurrency=2)
    batch = cluster.enqueue(*items)
    cluster.until(lambda: len(cluster.standin.downloads()) == 2, 15, "two downloads under way")

    first.kill()
    cluster.standin.settings.latency_s = 0
    cluster.worker("second")

    assert wrong(cluster.settled(batch, 40)) == [], cluster.logs
