"""One attempt under its lease: kept alive by progress, ended by whoever may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from geodes_tasks.errors import (
    CancelledError,
    LeaseLostError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    QuotaError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Limits, Progress, Renewal, Request, clock
from geodes_tasks.ledger.account import Accounts
from geodes_tasks.ledger.leases import Leases
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.tasks import lease_keeper as attempts
from geodes_tasks.tasks.lease_keeper import FRESH_S, LeasedAttempt, LeaseKeeper, StopSignal
from tests.conftest import Clock, asset_of

REQUEST = Request(asset_of(b"content"), "/data/a.zip")


@pytest.fixture
def claim(fake_ledger: Ledger) -> Claim:
    """A granted lease."""
    fake_ledger.admission.admit("b", "acc", [REQUEST], lambda _: None)
    answer = fake_ledger.leases.claim(REQUEST.download_id, "w")
    assert isinstance(answer, Claim)
    return answer


@pytest.fixture
def attempt(claim: Claim, fake_ledger: Ledger) -> LeasedAttempt:
    """The attempt under that lease."""
    return LeasedAttempt(claim, fake_ledger, StopSignal())


@pytest.fixture
def keeper(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> LeaseKeeper:
    """A keeper whose thread does nothing: the tests tick."""
    monkeypatch.setattr(LeaseKeeper, "_run", lambda _: None)
    return LeaseKeeper(fake_ledger, silence_s=10.0)


def record(ledger: Ledger) -> DownloadRecord:
    """Read the record."""
    found = ledger.reading.record(REQUEST.download_id)
    assert found is not None
    return found


def unanswered(*_: object, **__: object) -> None:
    """Be a Redis that is away."""
    raise LedgerUnavailableError("redis://h", "connection refused")


# --- the stop signal -----------------------------------------------------------------------------


def test_a_stop_lets_attempts_go_on_for_the_grace_time() -> None:
    """Set with a grace time it has not expired yet; with none it has; cleared it never does."""
    stop = StopSignal()
    never = stop.expired
    stop.set(60.0)
    soon = stop.expired
    stop.set(0.0)
    now = stop.expired
    stop.clear()

    assert (never, soon, now, stop.expired) == (False, False, True, False)
    assert stop.deadline == 0.0


def test_a_second_stop_is_never_a_later_one() -> None:
    """A worker asked to end at once ends at once, whoever asks more kindly afterwards."""
    stop = StopSignal()
    stop.set(0.0)
    stop.set(60.0)

    assert stop.expired


# --- progress ------------------------------------------------------------------------------------


def test_progress_is_noted(attempt: LeasedAttempt) -> None:
    """Bytes on disk are the last said, bytes received are the sum."""
    attempt.progress(10, 10)
    attempt.progress(30, 20)

    assert (attempt.done_bytes, attempt.received_bytes) == (30, 30)
    assert attempt.tell().done_bytes == 30


def test_a_stopping_worker_ends_its_attempts(attempt: LeasedAttempt) -> None:
    """After the grace time the next chunk is the last."""
    attempt.stop.set(0.0)

    with pytest.raises(WorkerStoppingError, match="the worker is stopping"):
        attempt.progress(1)


def test_a_cancelled_download_stops_at_its_next_chunk(
    attempt: LeasedAttempt, fake_ledger: Ledger
) -> None:
    """What the renewal brings back, progress raises."""
    fake_ledger.control.cancel([REQUEST.download_id])
    attempt.hear(fake_ledger.leases.renew([attempt.tell()])[0])

    with pytest.raises(CancelledError, match="cancelled"):
        attempt.progress(1)


# --- quota ---------------------------------------------------------------------------------------


def test_a_used_up_quota_is_said_with_its_wait(claim: Claim, fake_ledger: Ledger) -> None:
    """The third request of two does not reach the portal, and says when it may."""
    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=2, quota_seconds=60.0))
    attempt = LeasedAttempt(claim, ledger, StopSignal())
    attempt.before_open("geodes")
    attempt.before_open("geodes")

    with pytest.raises(QuotaError, match="2 downloads in the last 60 s") as caught:
        attempt.before_open("geodes")

    assert caught.value.wait_s == pytest.approx(62.0, abs=1.0)


def test_the_datalake_costs_no_quota(claim: Claim, fake_ledger: Ledger) -> None:
    """Only the portal counts requests."""
    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=1, quota_seconds=60.0))
    attempt = LeasedAttempt(claim, ledger, StopSignal())

    for _ in range(5):
        attempt.before_open("s3")

    assert ledger.account.spend("acc").wait_s == 0.0
    assert attempt.source == "s3"


@pytest.fixture
def _redis_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is away for the first two questions."""
    monkeypatch.setattr(attempts, "TICK_S", 0.004)
    for part, name in ((Leases, "renew"), (Accounts, "spend")):
        monkeypatch.setattr(part, name, away_at_first(getattr(part, name)))


def away_at_first(real: object) -> object:
    """Give a method that answers at the third call."""
    calls: list[int] = []

    def ask(*args: object) -> object:
        calls.append(1)
        if len(calls) < 3:
            unanswered()
        return real(*args)  # type: ignore[operator] # a method

    return ask


@pytest.mark.usefixtures("_redis_comes_back")
def test_an_outage_before_a_request_is_waited_out(attempt: LeasedAttempt) -> None:
    """Redis away while quota is asked for: the attempt waits, as it does before publishing."""
    attempt.before_open("geodes")

    assert attempt.source == "geodes"


# --- confirm -------------------------------------------------------------------------------------


def older(attempt: LeasedAttempt, seconds: float) -> LeasedAttempt:
    """Have the lease of an attempt been asked for so much earlier."""
    attempt.sure_at -= seconds
    return attempt


def test_a_lease_just_granted_is_not_asked_for(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file costs no round trip before it is published: nobody can have its lease yet."""
    monkeypatch.setattr(Leases, "renew", unanswered)

    attempt.confirm()

    assert clock() - attempt.sure_at < FRESH_S


def test_a_renewal_counts_from_when_it_was_asked_for(
    keeper: LeaseKeeper, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow Redis answers may be old already; a renewal that the keeper had is as good."""
    with keeper.hold(claim) as attempt:
        older(attempt, 20.0)
        before = clock()
        keeper.tick()
        monkeypatch.setattr(Leases, "renew", unanswered)
        attempt.confirm()

    assert before <= attempt.sure_at <= clock()


@pytest.mark.parametrize(("lease_s", "asks"), [(60.0, False), (1.0, True)])
def test_a_short_lease_is_asked_for_sooner(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch, lease_s: float, asks: bool
) -> None:
    """Fresh is a quarter of a lease at most, so that it surely holds until the file is named."""
    asked: list[int] = []
    ledger = Ledger(attempt.ledger.connection.client, Limits(lease_seconds=lease_s))

    def renew(progress: list[Progress]) -> list[Renewal]:
        asked.append(len(progress))
        return [Renewal.OK]

    monkeypatch.setattr(ledger.leases, "renew", renew)
    attempt.ledger = ledger

    older(attempt, 0.5).confirm()

    assert bool(asked) is asks


@pytest.mark.usefixtures("_redis_comes_back")
def test_confirming_waits_for_redis(attempt: LeasedAttempt) -> None:
    """A proven file is not thrown away because Redis restarts at that moment."""
    older(attempt, 2.0).confirm()

    assert attempt.fate is None
    assert clock() - attempt.sure_at < FRESH_S


def test_confirming_ends_with_the_worker(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that must end does not wait for Redis for ever."""
    older(attempt, 2.0)
    monkeypatch.setattr(attempts, "TICK_S", 0.004)
    monkeypatch.setattr(Leases, "renew", unanswered)
    attempt.stop.set(0.02)

    with pytest.raises(WorkerStoppingError, match="the worker is stopping"):
        attempt.confirm()


def test_confirming_asks_whose_lease_it_is(
    attempt: LeasedAttempt, fake_ledger: Ledger, clock: Clock
) -> None:
    """A worker that was paused learns just before publishing that its lease is gone."""
    clock.advance(61.0)
    older(attempt, 61.0)
    fake_ledger.dispatch.recover()

    with pytest.raises(LeaseLostError, match="the lease went to another worker"):
        attempt.confirm()


# --- the keeper ----------------------------------------------------------------------------------


def test_a_tick_renews_and_tells(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """One tick renews the lease, stores the bytes, and lets Flower know."""
    ticks: list[int] = []

    with keeper.hold(claim, on_tick=lambda one: ticks.append(one.done_bytes)) as attempt:
        keeper.tick()
        attempt.progress(3)
        clock.advance(59.0)
        keeper.tick()
        clock.advance(59.0)

    assert fake_ledger.dispatch.recover() == (0, 0)
    assert fake_ledger.reading.running()[0].done_bytes == 3
    assert ticks == [3]
    assert keeper.attempts == []


def test_news_never_cost_a_lease(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """Flower out of reach is no reason to lose a download."""

    def broken(_: LeasedAttempt) -> None:
        raise OSError("no broker")

    with keeper.hold(claim, on_tick=broken) as attempt:
        attempt.progress(3)
        clock.advance(59.0)
        keeper.tick()
        clock.advance(59.0)

    assert fake_ledger.dispatch.recover() == (0, 0)


def test_a_tick_brings_bad_news(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """A lease that was ended meanwhile ends the attempt, and is renewed no more."""
    with keeper.hold(claim) as attempt:
        clock.advance(61.0)
        fake_ledger.dispatch.recover()
        keeper.tick()
        keeper.tick()

        with pytest.raises(LeaseLostError, match="another worker"):
            attempt.progress(1)


def test_a_silent_attempt_loses_its_lease(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """An attempt that hangs in the file system is not kept alive by its process."""
    with keeper.hold(claim) as attempt:
        attempt.heard -= keeper.silence_s + 1.0
        clock.advance(50.0)
        keeper.tick()
        clock.advance(11.0)

    assert fake_ledger.dispatch.recover() == (1, 0)
    assert record(fake_ledger).reason == "worker-lost"


def test_without_attempts_redis_is_left_alone(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker renews nothing."""
    monkeypatch.setattr(Leases, "renew", unanswered)

    keeper.tick()

    assert keeper.attempts == []


@pytest.fixture
def quick(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LeaseKeeper]]:
    """Make keepers whose thread ticks every few milliseconds."""
    monkeypatch.setattr(attempts, "TICK_S", 0.002)
    made: list[LeaseKeeper] = []

    def make(**options: Any) -> LeaseKeeper:
        made.append(LeaseKeeper(fake_ledger, **options))
        return made[-1]

    yield make
    for keeper in made:
        # Its thread lives as long as the process: from here on it sleeps.
        keeper.period_s = 3600.0


def test_an_outage_of_redis_ends_no_attempt(
    claim: Claim,
    fake_ledger: Ledger,
    quick: Callable[..., LeaseKeeper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While Redis is away downloads go on, and the keeper is there when it is back."""
    asked = threading.Semaphore(0)
    real = Leases.renew

    def away(*_: object) -> None:
        asked.release()
        unanswered()

    monkeypatch.setattr(Leases, "renew", away)
    with quick().hold(claim) as attempt:
        assert asked.acquire(timeout=5)
        assert asked.acquire(timeout=5)
        attempt.progress(5)
        monkeypatch.setattr(Leases, "renew", real)
        told = until(lambda: fake_ledger.reading.running()[0].done_bytes == 5)

    assert told
    assert attempt.fate is None


def test_an_attempt_that_waits_for_the_network_is_woken(
    claim: Claim, fake_ledger: Ledger, quick: Callable[..., LeaseKeeper]
) -> None:
    """Cancelled while no byte comes, an attempt is broken off, not waited for."""
    woken: list[LeasedAttempt] = []
    keeper = quick(break_off=woken.append)

    with keeper.hold(claim) as attempt:
        fake_ledger.control.cancel([REQUEST.download_id])
        seen = until(lambda: woken)

    assert seen
    assert woken[0] is attempt


def test_what_outlives_the_stop_is_given_back(
    claim: Claim, quick: Callable[..., LeaseKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long after the grace time the attempts that still run are handed over."""
    monkeypatch.setattr(attempts, "OVERDUE_S", 0.01)
    given: list[LeasedAttempt] = []
    stop = StopSignal()
    keeper = quick(stop=stop, give_back=given.extend)

    with keeper.hold(claim) as attempt:
        stop.set(0.0)
        seen = until(lambda: given)

    assert seen
    assert given[0] is attempt


ANY_ERROR = [
    LedgerForbiddenError("redis://h", "no permissions"),
    redis.ResponseError("BUSY Other is busy"),
    OperationalError("x"),
    ZeroDivisionError("a defect"),
]


@pytest.mark.parametrize("error", ANY_ERROR, ids=lambda error: type(error).__name__)
def test_no_error_ends_the_keeper(
    claim: Claim,
    fake_ledger: Ledger,
    quick: Callable[..., LeaseKeeper],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Whatever a renewal meets is logged once, and the next one comes."""
    asked = threading.Semaphore(0)
    real = Leases.renew

    def fails(*_: object) -> None:
        asked.release()
        raise error

    monkeypatch.setattr(Leases, "renew", fails)
    with quick().hold(claim) as attempt:
        assert all(asked.acquire(timeout=5) for _ in range(3))
        attempt.progress(5)
        monkeypatch.setattr(Leases, "renew", real)
        told = until(lambda: fake_ledger.reading.running()[0].done_bytes == 5)

    assert told
    assert attempt.fate is None
    assert caplog.text.count("renewing leases failed") == 1


def test_an_error_while_ending_attempts_does_not_end_the_keeper(
    claim: Claim, fake_ledger: Ledger, quick: Callable[..., LeaseKeeper]
) -> None:
    """An attempt that cannot be broken off is tried again, and the leases are renewed meanwhile."""
    tries: list[LeasedAttempt] = []

    def broken(attempt: LeasedAttempt) -> None:
        tries.append(attempt)
        raise OSError("no such connection")

    keeper = quick(break_off=broken)
    with keeper.hold(claim):
        fake_ledger.control.cancel([REQUEST.download_id])
        again = until(lambda: len(tries) >= 3)

    assert again


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (LedgerForbiddenError("redis://h", "no permissions"), True),
        (LedgerUnavailableError("redis://h", "connection refused"), False),
    ],
    ids=["refused", "away"],
)
def test_a_keeper_that_cannot_renew_closes_the_intake_until_it_can(
    claim: Claim,
    quick: Callable[..., LeaseKeeper],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    ends: bool,
) -> None:
    """After a lease's time of failures no work is taken; refused alone, attempts end."""

    def fails(*_: object) -> None:
        raise error

    stop, real = StopSignal(), Leases.renew
    keeper = quick(stop=stop)
    keeper.ledger.connection.limits = Limits(lease_seconds=0.05)
    monkeypatch.setattr(Leases, "renew", fails)
    with keeper.hold(claim) as attempt:
        closed = until(lambda: stop.is_cut_off)
        ended = until(lambda: attempt.fate is not None, 0.2)
        monkeypatch.setattr(Leases, "renew", real)
        opened = until(lambda: "this worker takes new work" in caplog.text)

    assert not stop.is_cut_off
    assert (closed, ended, opened) == (True, ends, True)
    assert caplog.text.count("this worker takes no new work") == 1
    assert caplog.text.count("leases are renewed again: this worker takes new work") == 1


def until(condition: object, timeout_s: float = 5.0) -> bool:
    """Wait until something is so; tell whether it came about."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator] # a lambda
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
