"""One worker recovers for all, in blocks: its cost does not grow with workers or with what ends."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geodes_tasks.ledger import Claim, Ledger, Limits, News, Progress, Renewal
from geodes_tasks.ledger.dispatch import RECOVERY_BLOCK
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from tests.conftest import Clock
from tests.servers import wait_until
from tests.unit.ledger.test_ledger import (
    ACCOUNT,
    BATCH,
    ask,
    claimed,
    postponed,
    request_of,
)

MANY = 1000
PERIOD_S = 0.5
"""Between two registrations where leases are short."""


def wide(ledger: Ledger) -> Ledger:
    """Give the same ledger with a concurrency limit that holds nothing up."""
    limits = Limits(concurrent=MANY, window=MANY)
    return Ledger(ledger.connection.client, limits, prefix=ledger.connection.prefix)


def commands_of(ledger: Ledger, look: str) -> int:
    """Count the commands that one look of a worker makes Redis run."""
    ledger.connection.client.config_resetstat()
    ledger.dispatch.recover(look, 4)
    stats = ledger.connection.client.info("commandstats")
    own = {"cmdstat_config|resetstat", "cmdstat_info"}
    return sum(row["calls"] for name, row in stats.items() if name not in own)


def dead(ledger: Ledger, count: int) -> None:
    """Let so many leases of dead workers run out."""
    ask(ledger, *(request_of(f"d{number}") for number in range(count)))
    for identifier in ledger.reading.downloads(BATCH):
        assert isinstance(ledger.leases.claim(identifier, "dead"), Claim)
        key = ledger.connection.key("account", ACCOUNT, "leases")
        ledger.connection.client.zadd(key, {identifier: 1})


def test_one_worker_recovers_for_all(ledger: Ledger) -> None:
    """The first that registers keeps the turn; the others only show that they live."""
    turns = [ledger.dispatch.register(name, 4) for name in ("a", "b", "a", "c")]

    assert turns == [True, False, True, False]
    assert ledger.dispatch.workers() == {"a": 4, "b": 4, "c": 4}


def test_of_workers_that_register_at_once_one_recovers(ledger: Ledger) -> None:
    """A fleet starts in one moment: one of it is chosen, and the next look has all its slots."""
    with ThreadPoolExecutor(16) as threads:
        turns = list(
            threads.map(lambda number: ledger.dispatch.register(f"w{number}", 4), range(64))
        )
    ledger.dispatch.recover()

    assert sum(turns) == 1
    assert ledger.connection.client.get(ledger.connection.key("slots")) == "256"


def test_of_workers_that_ask_at_once_each_gets_the_same_id(ledger: Ledger) -> None:
    """An id that one worker has is never replaced by that of another one."""
    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(lambda _: ledger.connection.ledger_id(), range(64)))

    assert len(ids) == 1
    assert ledger.connection.ledger_id() in ids


def test_a_dead_recoverer_is_replaced_within_a_period(ledger: Ledger) -> None:
    """It registers no more: another worker takes its turn, and it does not come back to it."""
    short = Ledger(
        ledger.connection.client, Limits(lease_seconds=1), prefix=ledger.connection.prefix
    )
    assert short.dispatch.register("dies", 4)
    began = time.monotonic()

    wait_until(lambda: short.dispatch.register("other", 4), 10 * PERIOD_S, "it is replaced")

    # Under load a moment passes between two tries.
    assert time.monotonic() - began < 4 * PERIOD_S
    assert not short.dispatch.register("dies", 4)


def test_a_recoverer_that_stops_is_replaced_at_once(ledger: Ledger) -> None:
    """A worker that ends gives its turn to the next one that registers."""
    ledger.dispatch.register("stops", 4)
    ledger.dispatch.unregister("stops")

    assert ledger.dispatch.register("other", 4)


def test_a_look_costs_the_same_with_a_thousand_workers(ledger: Ledger) -> None:
    """Neither the worker that recovers nor another one reads the records of all workers."""
    ledger.dispatch.recover("first", 4)
    few = commands_of(ledger, "first")
    for number in range(MANY):
        ledger.dispatch.register(f"w{number}", 4)
        if number % 50 == 0:
            # It keeps its turn, however long this takes.
            ledger.dispatch.register("first", 4)

    many, other = commands_of(ledger, "first"), commands_of(ledger, "w7")

    assert many <= few + 5
    assert other < 20
    assert int(ledger.connection.client.get(ledger.connection.key("slots"))) == 4 * MANY + 4


def test_slots_are_the_sum_of_all_workers(ledger: Ledger) -> None:
    """Whatever workers register, change, stop or die; a sum that is wrong is counted anew."""
    key = ledger.connection.key("slots")
    for name, slots in (("a", 4), ("b", 8), ("a", 2), ("c", 1), ("c", 0)):
        ledger.dispatch.register(name, slots)
    first = ledger.connection.client.get(key)
    ledger.dispatch.unregister("b")
    ledger.connection.client.zadd(ledger.connection.key("workers"), {"c": 1})
    ledger.dispatch.recover()
    second = ledger.connection.client.get(key)
    ledger.connection.client.set(key, "77")
    ledger.dispatch.recover()

    assert (first, second, ledger.connection.client.get(key)) == ("10", "2", "2")
    assert ledger.dispatch.workers() == {"a": 2}


BACK_S = 3600.0


def test_a_clock_set_back_holds_nothing_up(fake_ledger: Ledger, clock: Clock) -> None:
    """Ntpd corrects Redis's host after a bad boot: leases, waits, pauses follow in one look."""
    lease_s = fake_ledger.connection.limits.lease_seconds
    dies, waits = request_of("dies"), request_of("waits")
    ask(fake_ledger, dies, waits)
    fake_ledger.dispatch.recover("gone", 4)
    postponed(fake_ledger, claimed(fake_ledger, waits), Decision(True, Reason.BACKOFF, 20.0))
    claimed(fake_ledger, dies)
    account = fake_ledger.connection.key("account", ACCOUNT)
    until = clock.time() + 40.0
    fake_ledger.connection.client.hset(account, mapping={"paused": "x", "paused_until": until})

    clock.advance(-BACK_S)
    assert fake_ledger.dispatch.register("lives", 4)
    for _ in range(6):
        clock.advance(lease_s / 6 + 1)
        fake_ledger.dispatch.recover("lives", 4)

    states = fake_ledger.reading.status(BATCH).states
    assert (states[State.STARTED], states[State.RETRY]) == (0, 2)
    assert fake_ledger.reading.waits([BATCH])[0].next_due is None
    assert [one.paused_until for one in fake_ledger.account.states()] in ([None], [until - BACK_S])
    assert "gone" not in fake_ledger.dispatch.workers()


def test_a_clock_set_back_begins_no_pause_again(fake_ledger: Ledger, clock: Clock) -> None:
    """A pause that had ended, and a wait that was over, are over by the corrected clock too."""
    request = request_of()
    ask(fake_ledger, request)
    fake_ledger.dispatch.recover("lives", 4)
    account = fake_ledger.connection.key("account", ACCOUNT)
    ended = {"paused": "throttled", "paused_until": clock.time() - 1.0}
    fake_ledger.connection.client.hset(account, mapping=ended)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, Reason.BACKOFF, 5.0))
    clock.advance(6.0)
    fake_ledger.dispatch.register("lives", 4)

    clock.advance(-BACK_S)
    fake_ledger.dispatch.register("lives", 4)
    _, woken = fake_ledger.dispatch.recover()

    assert [one.paused_until for one in fake_ledger.account.states()] == [None]
    assert woken == 1


def test_a_clock_set_back_makes_no_outage_longer(fake_ledger: Ledger, clock: Clock) -> None:
    """A source out of reach is tried again after its seconds, by the corrected clock too."""
    fake_ledger.dispatch.recover("lives", 4)
    fake_ledger.sources.exchange(
        {"geodes": News(shun=30.0, why="down"), "s3": News(shun=0.0, offered=True)}
    )

    clock.advance(-BACK_S)
    fake_ledger.dispatch.register("lives", 4)
    ask(fake_ledger, request_of())
    during = fake_ledger.dispatch.release()
    # It worked within these seconds by the old clock only: the fleet's finding counts.
    clock.advance(31.0)
    fake_ledger.sources.exchange({"s3": News(shun=20.0, why="down", fleet=True)})

    assert during == []
    assert len(fake_ledger.dispatch.release()) == 1
    assert fake_ledger.sources.outages()["s3"] == pytest.approx(clock.time() + 20.0, abs=0.01)


def test_a_clock_set_back_makes_no_window_longer(fake_ledger: Ledger, clock: Clock) -> None:
    """A request counts against the quota for the seconds of the window, and no hour more."""
    limits = Limits(quota_count=1, quota_seconds=10.0)
    ledger = Ledger(fake_ledger.connection.client, limits, prefix=fake_ledger.connection.prefix)
    ask(ledger, request_of())
    ledger.dispatch.recover("lives", 4)
    spent = ledger.account.spend(ACCOUNT)

    clock.advance(-BACK_S)
    ledger.dispatch.register("lives", 4)
    waits = ledger.account.spend(ACCOUNT)
    clock.advance(limits.counted_seconds + 0.1)
    again = ledger.account.spend(ACCOUNT)

    assert spent.request
    assert again.request
    assert 0 < waits.wait_s <= limits.counted_seconds + 0.1


def test_a_clock_set_back_ends_no_living_lease(fake_ledger: Ledger, clock: Clock) -> None:
    """A worker that renews keeps its download, before and after the look that corrects times."""
    request = request_of()
    ask(fake_ledger, request)
    fake_ledger.dispatch.recover("lives", 4)
    claim = claimed(fake_ledger, request)
    progress = [Progress(claim.download_id, claim.token, 1)]
    clock.advance(-BACK_S)

    for _ in range(3):
        assert fake_ledger.leases.renew(progress) == [Renewal.OK]
        fake_ledger.dispatch.recover("lives", 4)
        clock.advance(10.0)
        fake_ledger.dispatch.recover("lives", 4)

    assert fake_ledger.leases.renew(progress) == [Renewal.OK]


def test_dead_leases_end_one_by_one(ledger: Ledger) -> None:
    """However many workers died, one script ends one attempt; a look ends all."""
    ledger = wide(ledger)
    count = RECOVERY_BLOCK + 50
    dead(ledger, count)

    ended, _ = ledger.dispatch.recover()

    assert ended == count
    assert ledger.reading.status(BATCH).states[State.RETRY] == count


def test_a_lease_renewed_after_it_was_found_dead_goes_on(ledger: Ledger) -> None:
    """The script looks at the lease again: an attempt that renews in between is not ended."""
    request = request_of("slow")
    ask(ledger, request)
    claim = claimed(ledger, request)
    report = '{"dead":true,"reason":"worker-lost","delay":0,"counted":true}'

    answer = ledger.connection.run(
        "end_attempt",
        claim.download_id,
        claim.token,
        report,
        *ledger.connection.limits.args(),
    )

    assert answer == ["lost"]
    assert ledger.leases.renew([Progress(claim.download_id, claim.token, 1)]) == [Renewal.OK]


def test_what_is_due_wakes_in_blocks(ledger: Ledger) -> None:
    """One script wakes a block of downloads; a look wakes all, and none twice."""
    ledger = wide(ledger)
    count = RECOVERY_BLOCK + 50
    requests = [request_of(f"d{number}") for number in range(count)]
    ask(ledger, *requests)
    for one in requests:
        postponed(ledger, claimed(ledger, one), Decision(True, Reason.BACKOFF, 30.0))
    due = ledger.connection.key("due")
    ledger.connection.client.zadd(due, {one.download_id: 1 for one in requests})

    block = [one.download_id for one in requests[:RECOVERY_BLOCK]]
    first = ledger.connection.run("requeue_downloads", "due", "1", *block)
    _, rest = ledger.dispatch.recover()

    assert (first, rest) == (RECOVERY_BLOCK, 50)
    assert ledger.connection.run("requeue_downloads", "due", "1", *block) == 0


def test_forgetting_costs_the_same_for_each_record_with_much_litter(ledger: Ledger) -> None:
    """A record whose part files wait for sweeping is found by its id, not by a search for it."""
    client, litter = ledger.connection.client, ledger.connection.key("litter")
    one = request_of()
    ask(ledger, one)
    postponed(ledger, claimed(ledger, one), Decision(True, Reason.BACKOFF, 30.0))
    ledger.control.cancel([one.download_id])
    for first in range(0, 200_000, 10_000):
        client.zadd(litter, {f"other{n}": 1 for n in range(first, first + 10_000)})
    ledger.retention.forget(BATCH)
    client.config_resetstat()

    kept = ledger.retention.sweep()

    spent = client.info("commandstats")["cmdstat_evalsha"]
    assert (kept.removed, kept.left) == (0, 1)
    assert spent["usec"] / spent["calls"] < 1000
    assert client.zscore(litter, one.download_id) is not None


def test_a_worker_that_is_being_removed_is_no_silent_one(fake_ledger: Ledger) -> None:
    """Between the two steps of its removal no view shows it as silent since 1970."""
    fake_ledger.dispatch.register("w@host", 4)
    fake_ledger.connection.client.zadd(fake_ledger.connection.key("workers"), {"w@host": 0})

    assert fake_ledger.dispatch.fleet() == []
