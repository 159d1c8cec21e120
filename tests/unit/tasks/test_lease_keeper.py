"""The lease keeper: renews the leases of one process, and ends attempts that must end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LeaseLostError, LedgerForbiddenError, LedgerUnavailableError
from geodes_tasks.ledger import Claim, Ledger, Limits, clock
from geodes_tasks.ledger.leases import Leases
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.tasks import lease_keeper
from geodes_tasks.tasks.lease_keeper import LeaseKeeper
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.stop_signal import StopSignal
from tests.conftest import Clock
from tests.unit.tasks.conftest import REQUEST, unanswered


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


def test_a_renewal_counts_from_when_it_was_asked_for(
    keeper: LeaseKeeper, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow Redis answers may be old already; a renewal that the keeper had is as good."""
    granted_at, renew = list[float](), Leases.renew

    def slow(*arguments: Any) -> Any:
        granted_at.append(clock())
        answer = renew(*arguments)
        time.sleep(0.05)
        return answer

    monkeypatch.setattr(Leases, "renew", slow)
    with keeper.keep(claim) as attempt:
        attempt.renewed_at -= 20.0
        before = clock()
        keeper.renew_all()
        monkeypatch.setattr(Leases, "renew", unanswered)
        attempt.confirm()

    assert before <= attempt.renewed_at <= granted_at[0]


def test_a_tick_renews_and_tells(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """One tick renews the lease, stores the bytes, and lets Flower know."""
    ticks: list[int] = []

    with keeper.keep(claim, on_progress=lambda one: ticks.append(one.done_bytes)) as attempt:
        keeper.renew_all()
        attempt.progress(3)
        clock.advance(59.0)
        keeper.renew_all()
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

    with keeper.keep(claim, on_progress=broken) as attempt:
        attempt.progress(3)
        clock.advance(59.0)
        keeper.renew_all()
        clock.advance(59.0)

    assert fake_ledger.dispatch.recover() == (0, 0)


def test_a_tick_brings_bad_news(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """A lease that was ended meanwhile ends the attempt, and is renewed no more."""
    with keeper.keep(claim) as attempt:
        clock.advance(61.0)
        fake_ledger.dispatch.recover()
        keeper.renew_all()
        keeper.renew_all()

        with pytest.raises(LeaseLostError, match="another worker"):
            attempt.progress(1)


def test_a_silent_attempt_loses_its_lease(
    keeper: LeaseKeeper, claim: Claim, fake_ledger: Ledger, clock: Clock
) -> None:
    """An attempt that hangs in the file system is not kept alive by its process."""
    with keeper.keep(claim) as attempt:
        attempt.active_at -= keeper.silence_s + 1.0
        clock.advance(50.0)
        keeper.renew_all()
        clock.advance(11.0)

    assert fake_ledger.dispatch.recover() == (1, 0)
    assert record(fake_ledger).reason == "worker-lost"


def test_without_attempts_redis_is_left_alone(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker renews nothing."""
    monkeypatch.setattr(Leases, "renew", unanswered)

    keeper.renew_all()

    assert keeper.attempts == []


@pytest.fixture
def quick(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LeaseKeeper]]:
    """Make keepers whose thread ticks every few milliseconds."""
    monkeypatch.setattr(lease_keeper, "PERIOD_S", 0.002)
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
    with quick().keep(claim) as attempt:
        assert asked.acquire(timeout=5)
        assert asked.acquire(timeout=5)
        attempt.progress(5)
        monkeypatch.setattr(Leases, "renew", real)
        told = until(lambda: fake_ledger.reading.running()[0].done_bytes == 5)

    assert told
    assert attempt.ended is None


def test_an_attempt_that_waits_for_the_network_is_woken(
    claim: Claim, fake_ledger: Ledger, quick: Callable[..., LeaseKeeper]
) -> None:
    """Cancelled while no byte comes, an attempt is broken off, not waited for."""
    woken: list[LeasedAttempt] = []
    keeper = quick(abort=woken.append)

    with keeper.keep(claim) as attempt:
        fake_ledger.control.cancel([REQUEST.download_id])
        seen = until(lambda: woken)

    assert seen
    assert woken[0] is attempt


def test_what_outlives_the_stop_is_given_back(
    claim: Claim, quick: Callable[..., LeaseKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long after the grace time the attempts that still run are handed over."""
    monkeypatch.setattr(lease_keeper, "OVERDUE_S", 0.01)
    given: list[LeasedAttempt] = []
    stop = StopSignal()
    keeper = quick(stop=stop, requeue=given.extend)

    with keeper.keep(claim) as attempt:
        stop.set(0.0)
        seen = until(lambda: given)

    assert seen
    assert given[0] is attempt


def test_what_ends_soon_after_the_stop_is_not_given_back(keeper: LeaseKeeper, claim: Claim) -> None:
    """At the end of the grace time a file gets the seconds that its last chunk takes."""
    given: list[LeasedAttempt] = []
    keeper.requeue = given.extend
    keeper.stop.set(0.0)

    with keeper.keep(claim):
        keeper._end_attempts()

    assert given == []


def test_only_an_attempt_that_is_blocked_is_aborted(keeper: LeaseKeeper, claim: Claim) -> None:
    """One that moves ends by itself at its next chunk, and keeps its connection."""
    aborted: list[LeasedAttempt] = []
    keeper.abort = aborted.append
    keeper.stop.set(0.0)

    with keeper.keep(claim) as attempt:
        keeper._end_attempts()
        moving = list(aborted)
        attempt.active_at -= keeper.period_s
        keeper._end_attempts()

    assert (moving, aborted) == ([], [attempt])


def test_after_failures_a_worker_without_work_asks_whether_leases_can_be_renewed(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no work until then, so that no attempt would ask."""
    monkeypatch.setattr(Leases, "renew", unanswered)
    keeper._failing_since = 1.0

    with pytest.raises(LedgerUnavailableError, match="connection refused"):
        keeper.renew_all()


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
    with quick().keep(claim) as attempt:
        assert all(asked.acquire(timeout=5) for _ in range(3))
        attempt.progress(5)
        monkeypatch.setattr(Leases, "renew", real)
        told = until(lambda: fake_ledger.reading.running()[0].done_bytes == 5)

    assert told
    assert attempt.ended is None
    assert caplog.text.count("renewing leases failed") == 1


def test_an_error_while_ending_attempts_does_not_end_the_keeper(
    claim: Claim, fake_ledger: Ledger, quick: Callable[..., LeaseKeeper]
) -> None:
    """An attempt that cannot be broken off is tried again, and the leases are renewed meanwhile."""
    tries: list[LeasedAttempt] = []

    def broken(attempt: LeasedAttempt) -> None:
        tries.append(attempt)
        raise OSError("no such connection")

    keeper = quick(abort=broken)
    with keeper.keep(claim):
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
    with keeper.keep(claim) as attempt:
        closed = until(lambda: stop.is_cut_off)
        ended = until(lambda: attempt.ended is not None, 0.2)
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
