"""What the live view and the monitors ask of the ledger."""

from __future__ import annotations

from typing import Any

import pytest
from redis.client import Pipeline

from geodes_tasks.errors import (
    LedgerUnavailableError,
    NoDataAssetError,
    UnknownDownloadError,
)
from geodes_tasks.ledger import Ledger, Progress, Refusal, reading
from geodes_tasks.ledger.dispatch import MESSAGES
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.ledger.reading import BLOCK
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from tests.conftest import Clock, publish_limits
from tests.unit.ledger.test_ledger import (
    ACCOUNT,
    BATCH,
    ask,
    assert_counts_are_right,
    claimed,
    failed,
    nonzero,
    postponed,
    proven,
    request_of,
)
from tests.unit.ledger.test_parts import public

LATER = Decision(True, Reason.BACKOFF, delay_s=30.0)


@pytest.fixture
def limited(fake_ledger: Ledger) -> Ledger:
    """Give the ledger in memory with a quota of two requests a minute."""
    fake_ledger.connection.limits = Limits(concurrent=3, quota_count=2, quota_seconds=60.0)
    publish_limits(fake_ledger)
    return fake_ledger


def test_running_tells_file_worker_and_bytes(limited: Ledger) -> None:
    """What runs is told with its file, worker and start; what waits is not among it."""
    ask(limited, request_of("a"), request_of("b"))
    claimed(limited, request_of("a"), "node1")

    (one,) = limited.reading.running()

    assert (one.title, one.worker, one.done_bytes) == ("a.zip", "node1", 0)
    assert abs(one.started - limited.connection.server_time()) < 5


def test_account_counts_quota_and_places(limited: Ledger) -> None:
    """Requests in the window are taken off the quota; used up, the moment it reopens is known."""
    ask(limited, request_of("a"))
    claimed(limited, request_of("a"))
    limited.account.spend(ACCOUNT)
    (before,) = limited.account.states()
    limited.account.spend(ACCOUNT)

    (after,) = limited.account.states()

    assert (before.quota_left, before.quota_reopens) == (1, None)
    assert (after.quota_left, after.running, after.concurrent) == (0, 1, 3)
    assert after.quota_reopens is not None
    assert 52 < after.quota_reopens - limited.connection.server_time() <= 62
    assert after.paused is None


def test_limits_are_those_of_the_workers_not_of_the_viewer(limited: Ledger) -> None:
    """A viewer with other settings sees what the workers run with; before any worker, nothing."""
    connection = limited.connection
    ask(limited, request_of("a"))
    viewer = Ledger(connection.client, Limits(concurrent=77, quota_count=99, quota_seconds=3600.0))
    limited.dispatch.register("w", 4)
    limited.dispatch.publish("w", ["lab"])

    (seen,) = viewer.account.states()
    (worker,) = viewer.dispatch.fleet()
    connection.client.delete(connection.key("limits"))
    (unknown,) = viewer.account.states()

    assert (seen.quota, seen.quota_left, seen.concurrent) == ("2/minute", 2, 3)
    assert (worker.name, worker.slots, worker.limits) == ("w", 4, connection.limits)
    assert viewer.dispatch.published("accounts") == {"lab"}
    assert (unknown.quota, unknown.concurrent) == (None, 0)


def test_pause_that_is_over_is_none(limited: Ledger) -> None:
    """A pause whose time has come is not shown, though nobody has removed it yet."""
    ask(limited, request_of("a"))
    key = limited.connection.key("account", ACCOUNT)
    now = limited.connection.server_time()
    limited.connection.client.hset(key, mapping={"paused": "throttled", "paused_until": now - 1})
    (over,) = limited.account.states()
    limited.connection.client.hset(key, "paused_until", now + 100)

    (held,) = limited.account.states()

    assert (over.paused, over.paused_until) == (None, None)
    assert held.paused == "throttled"
    assert held.paused_until == pytest.approx(now + 100)


def test_waits_by_reason_with_the_first_due(limited: Ledger) -> None:
    """Each reason has its number and the time at which its first download goes on."""
    ask(limited, request_of("a"), request_of("b"))
    for name, delay in (("a", 90.0), ("b", 30.0)):
        postponed(
            limited,
            claimed(limited, request_of(name)),
            Decision(True, Reason.BACKOFF, delay_s=delay),
        )

    (wait,) = limited.reading.waits([BATCH])

    assert (wait.reason, wait.count) == ("backoff", 2)
    assert wait.next_due is not None
    assert 25 < wait.next_due - limited.connection.server_time() <= 30


def test_a_wait_that_is_over_for_some_has_no_time(fake_ledger: Ledger, clock: Clock) -> None:
    """Those go on as soon as a worker is free: the time at which another one is due is not next."""
    ask(fake_ledger, request_of("soon"), request_of("late"))
    for name, delay in (("soon", 2.0), ("late", 600.0)):
        decision = Decision(True, Reason.BACKOFF, delay_s=delay)
        postponed(fake_ledger, claimed(fake_ledger, request_of(name)), decision)
    clock.advance(3.0)
    fake_ledger.dispatch.recover("w", 1)

    (wait,) = fake_ledger.reading.waits([BATCH])

    assert (wait.count, wait.next_due) == (2, None)
    assert wait.last_due[BATCH] > clock.time() + 500


def test_failures_are_grouped(limited: Ledger) -> None:
    """Errors are grouped by class, those for good first, each with one example and its item."""
    for name in ("a", "b"):
        failed(limited, request_of(name))
    ask(limited, request_of("c"))
    postponed(limited, claimed(limited, request_of("c")), LATER)

    groups = limited.reading.failures(BATCH)

    assert [(one.state, one.type, one.count) for one in groups] == [
        (State.FAILURE, "TransferError", 2),
        (State.RETRY, "TransferError", 1),
    ]
    assert groups[0].example.hint
    assert "a.zip" in groups[0].item_id


def test_failed_by_class(limited: Ledger) -> None:
    """The downloads that failed with a class of error are found, and no others."""
    failed(limited, request_of("a"))
    proven(limited, request_of("b"))

    assert list(limited.reading.failed(BATCH)) == [request_of("a").download_id]
    assert list(limited.reading.failed(BATCH, ["TransferError"])) == [request_of("a").download_id]
    assert list(limited.reading.failed(BATCH, ["NotFoundError"])) == []


def test_errors_are_listed_as_long_as_they_last(limited: Ledger) -> None:
    """A download leaves the list when it is retried, cancelled or leaves the batch."""
    for name in ("a", "b", "c"):
        failed(limited, request_of(name))
    ask(limited, request_of("d"))
    postponed(limited, claimed(limited, request_of("d")), LATER)
    ask(limited, request_of("d"), batch="other")
    before = [(one.state, one.count) for one in limited.reading.failures("other")]

    limited.control.retry([request_of("a").download_id])
    limited.control.withdraw(BATCH, [request_of("d").download_id])

    assert before == [(State.RETRY, 1)]
    assert [(one.state, one.count) for one in limited.reading.failures(BATCH)] == [
        (State.FAILURE, 2)
    ]
    assert [one.state for one in limited.reading.failures("other")] == [State.RETRY]
    limited.control.cancel([request_of("d").download_id])
    assert limited.reading.failures("other") == []


def test_a_refused_item_is_listed_as_such(limited: Ledger) -> None:
    """Refused twice, it is one; a retry cannot help it."""
    for _ in range(2):
        error = NoDataAssetError("URN:bad", "no data")
        limited.admission.refuse(BATCH, ACCOUNT, [Refusal("URN:bad", "", "", error)])

    (group,) = limited.reading.failures(BATCH)

    assert (group.type, group.count, group.is_refused) == ("NoDataAssetError", 1, True)
    assert group.items == ("URN:bad",)


def test_a_batch_is_read_whole_while_downloads_leave_it(limited: Ledger) -> None:
    """More than a block, each download once and in order, though those read are taken out."""
    requests = [request_of(f"{number:04}") for number in range(BLOCK + 20)]
    ask(limited, *requests)
    seen = []
    for identifier in limited.reading.downloads(BATCH):
        limited.connection.client.zrem(
            limited.connection.key("batch", BATCH, "downloads"), identifier
        )
        seen.append(identifier)

    assert seen == [request.download_id for request in requests]


def test_totals_are_what_all_records_add_up_to(limited: Ledger) -> None:
    """Every record counts once in the whole ledger, however many batches it is in."""
    proven(limited, request_of("a"))
    failed(limited, request_of("b"))
    ask(limited, request_of("a"), request_of("c"), batch="other")

    totals = limited.reading.totals()

    states = {name: count for name, count in totals.states.items() if count}
    assert states == {"FAILURE": 1, "PENDING": 2}
    assert totals.parts("errors") == {"x": 1}
    assert totals.since["turn"] == pytest.approx(totals.at, abs=5)


def test_downloads_are_found_by_id_item_and_file(limited: Ledger) -> None:
    """Each once, in a batch of several blocks; a refused one by its item, none of another batch."""
    many = [request_of(f"f{number}") for number in range(2 * BLOCK)]
    ask(limited, *many)
    ask(limited, request_of("elsewhere"), batch="other")
    refusal = Refusal('URN:"bad"', "", "", NoDataAssetError('URN:"bad"', "no data"))
    limited.admission.refuse(BATCH, ACCOUNT, [refusal])
    first, last = many[0], many[-1]
    names = [last.download_id, "f0.zip", last.asset.item_id, 'URN:"bad"']

    found = limited.reading.named(BATCH, names)

    assert found == [last.download_id, first.download_id, refusal.download_id]
    assert limited.reading.named(BATCH, [first.download_id]) == [first.download_id]
    with pytest.raises(UnknownDownloadError, match=r"f0\.zip"):
        limited.reading.named(BATCH, ["f0.zipp"])
    with pytest.raises(UnknownDownloadError, match="elsewhere"):
        limited.reading.named(BATCH, ["elsewhere.zip"])


def test_queued_messages_are_read_page_by_page(fake_ledger: Ledger) -> None:
    """All of them, oldest and newest, whatever their number."""
    texts = [str(number) for number in range(MESSAGES * 2)]
    fake_ledger.connection.client.rpush(fake_ledger.connection.key("queue"), *texts)

    assert list(fake_ledger.dispatch.queued_messages("queue")) == texts
    assert list(fake_ledger.dispatch.queued_messages("nothing")) == []


@pytest.mark.parametrize("name", ["april 2025", " april", "avril  2025 "])
def test_a_batch_whose_name_has_blanks_is_counted(fake_ledger: Ledger, name: str) -> None:
    """What is done, running and waiting counts in it, also where another batch has the same."""
    proven(fake_ledger, request_of("a"), batch=name)
    ask(fake_ledger, request_of("b"), request_of("c"), batch=name)
    ask(fake_ledger, request_of("b"), request_of("c"), batch="april")
    claim = claimed(fake_ledger, request_of("b"))
    fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)])
    postponed(fake_ledger, claimed(fake_ledger, request_of("c")), LATER)

    status = fake_ledger.reading.status(name)
    (wait,) = fake_ledger.reading.waits([name])

    assert nonzero(status.states) == {"SUCCESS": 1, "STARTED": 1, "RETRY": 1}
    assert status.bytes_done == 7 + 3
    assert wait.last_due.keys() == {name}
    assert_counts_are_right(fake_ledger)


def test_batches_without_a_wait_cost_no_search(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is searched once, for the batches together: others read none of it."""
    ask(fake_ledger, request_of("first"), batch="first")
    for batch in ("early", "late"):
        ask(fake_ledger, request_of(batch), batch=batch)
    for name in ("first", "early", "late"):
        postponed(fake_ledger, claimed(fake_ledger, request_of(name)), LATER)
    proven(fake_ledger, request_of("done"), batch="done")
    monkeypatch.setattr(reading, "FEW", 1)
    monkeypatch.setattr(reading, "BLOCK", 2)
    client, searched = fake_ledger.connection.client, list[str]()
    zrange = client.zrange

    def counted(key: str, *args: Any, **named: Any) -> Any:
        searched.append(key)
        return zrange(key, *args, **named)

    monkeypatch.setattr(client, "zrange", counted)

    (wait,) = fake_ledger.reading.waits(["done", "late", "early"])

    key = fake_ledger.connection.key("since", "backoff")
    assert wait.count == 2
    assert wait.since == client.zscore(key, request_of("early").download_id)
    assert searched.count(key) == 2


READINGS: dict[str, tuple[Any, ...]] = {
    "first_waiting": ([BATCH], "backoff"), "status": (BATCH,), "batches": (),
    "downloads": (BATCH,), "records": (BATCH,), "record": ("x",), "error": ("x",),
    "assets": (["x"],), "read": (["x"],), "running": (), "waits": ([BATCH],), "failures": (BATCH,),
    "failed": (BATCH,), "named": (BATCH, ["x"]), "totals": (),
}  # fmt: skip
"""All methods that read, with arguments."""


@pytest.mark.parametrize("name", READINGS)
def test_redis_away_is_an_error_of_the_ledger(fake_ledger: Ledger, name: str) -> None:
    """Never one of the client: commands and workers know the ledger's only."""
    assert READINGS.keys() == public(fake_ledger.reading)
    ask(fake_ledger, request_of("a"))
    fake_ledger.connection.client.connection_pool.connection_kwargs["server"].connected = False

    with pytest.raises(LedgerUnavailableError):
        list(getattr(fake_ledger.reading, name)(*READINGS[name]))


def test_the_longest_wait_of_many_batches_costs_little(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all batches the first to wait is the one: no batch is asked for a block of others."""
    requests = [request_of(f"r{number}") for number in range(100)]
    ask(fake_ledger, *requests)
    for request in requests:
        postponed(fake_ledger, claimed(fake_ledger, request), LATER)
    asked: list[int] = []
    real = Pipeline.zmscore

    def counted(pipeline: Any, key: str, ids: list[str]) -> Any:
        asked.append(len(ids))
        return real(pipeline, key, ids)

    monkeypatch.setattr(Pipeline, "zmscore", counted)

    found = fake_ledger.reading.first_waiting([BATCH], Reason.BACKOFF)

    assert found is not None
    assert found[0] == requests[0].download_id
    assert sum(asked) <= 10
