"""One attempt under its lease: what its callbacks record, spend and raise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geodes_tasks.errors import (
    DownloadCancelledError,
    LeaseLostError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    QuotaError,
    RedirectUnreachableError,
    UnreachableError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Limits, Progress, Renewal, clock
from geodes_tasks.ledger.account import Accounts
from geodes_tasks.ledger.leases import Leases
from geodes_tasks.model.asset import REDIRECT
from geodes_tasks.tasks import leased_attempt
from geodes_tasks.tasks.leased_attempt import FRESH_S, LeasedAttempt
from geodes_tasks.tasks.stop_signal import StopSignal
from tests.conftest import Clock
from tests.unit.tasks.conftest import REQUEST, unanswered


@pytest.fixture
def attempt(claim: Claim, fake_ledger: Ledger) -> LeasedAttempt:
    """The attempt under that lease."""
    return LeasedAttempt(claim, fake_ledger, StopSignal())


def test_progress_is_noted(attempt: LeasedAttempt) -> None:
    """Bytes on disk are the last said, bytes received are the sum."""
    attempt.progress(10, 10)
    attempt.progress(30, 20)

    assert (attempt.done_bytes, attempt.received_bytes) == (30, 30)
    assert attempt.snapshot().done_bytes == 30


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
    attempt.apply(fake_ledger.leases.renew([attempt.snapshot()])[0])

    with pytest.raises(DownloadCancelledError, match="cancelled"):
        attempt.progress(1)


def test_a_used_up_quota_is_said_with_its_wait(claim: Claim, fake_ledger: Ledger) -> None:
    """The third request of two does not reach the portal, and says when it may."""
    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=2, quota_seconds=60.0))
    attempt = LeasedAttempt(claim, ledger, StopSignal())
    attempt.before_open("geodes")
    attempt.before_open("geodes")

    with pytest.raises(QuotaError, match="2 downloads in the last 60 s") as caught:
        attempt.before_open("geodes")

    assert caught.value.wait_s == pytest.approx(62.0, abs=1.0)


def test_a_preview_costs_no_quota(claim: Claim, fake_ledger: Ledger) -> None:
    """Previews come from a route of their own, without a key: the portal does not count them."""
    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=1, quota_seconds=60.0))
    href = "https://geodes-portal.cnes.fr/api/quicklook/URN:X:V1/files/1?scope=gdh"
    preview = replace(claim, asset=replace(claim.asset, hrefs={"geodes": href}))

    for _ in range(5):
        LeasedAttempt(preview, ledger, StopSignal()).before_open("geodes")

    assert ledger.account.spend(claim.account).wait_s == 0.0


def test_without_a_quota_no_request_is_counted(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`GEODES_TASKS_QUOTA=off` costs no round trip."""
    attempt.ledger.connection.limits = Limits(quota_count=0)
    monkeypatch.setattr(Accounts, "spend", unanswered)

    attempt.before_open("geodes")


def test_only_a_byte_of_the_portal_ends_a_probe(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes from S3 says nothing about the portal, for which the others wait."""
    ended = list[str]()
    monkeypatch.setattr(Accounts, "end_probe", lambda *_: ended.append(attempt.source))
    attempt._is_probe = True
    for source in ("s3", "geodes"):
        attempt.source = source
        attempt.progress(1, 1)

    assert ended == ["geodes"]


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
    monkeypatch.setattr(leased_attempt, "RETRY_S", 0.001)
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


def older(attempt: LeasedAttempt, seconds: float) -> LeasedAttempt:
    """Have the lease of an attempt been asked for so much earlier."""
    attempt.renewed_at -= seconds
    return attempt


def test_a_lease_just_granted_is_not_asked_for(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file costs no round trip before it is published: nobody can have its lease yet."""
    monkeypatch.setattr(Leases, "renew", unanswered)

    attempt.confirm()

    assert clock() - attempt.renewed_at < FRESH_S


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

    assert attempt.ended is None
    assert clock() - attempt.renewed_at < FRESH_S


def test_confirming_ends_with_the_worker(
    attempt: LeasedAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that must end does not wait for Redis for ever."""
    older(attempt, 2.0)
    monkeypatch.setattr(leased_attempt, "RETRY_S", 0.001)
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


# --- whose error it is ---------------------------------------------------------------------------


def test_an_error_of_a_redirect_is_that_of_its_host(attempt: LeasedAttempt) -> None:
    """The portal answered: what is down is the host that it named, whatever its name."""
    error = RedirectUnreachableError("https://portal/a", "refused", "geodes")

    assert attempt.server_of("geodes", error) == REDIRECT + "geodes"


# --- the returned quota --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [LedgerUnavailableError("redis://h", "x"), LedgerForbiddenError("redis://h", "x")],
    ids=["away", "refused"],
)
def test_quota_that_cannot_be_returned_stays_spent(
    claim: Claim, fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A Redis that is away, or refuses, does not replace the error of the download."""

    def fails(*_: object) -> None:
        raise error

    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=2, quota_seconds=60.0))
    attempt = LeasedAttempt(claim, ledger, StopSignal())
    attempt.before_open("geodes")
    monkeypatch.setattr(Accounts, "refund", fails)

    attempt.return_quota(UnreachableError("https://h", "refused"))

    spent = ledger.connection.key("account", claim.account, "spent")
    assert ledger.connection.client.zcard(spent) == 1


def test_a_request_is_returned_once(
    claim: Claim, fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two errors of one attempt return the one request that did not reach the portal."""
    ledger = Ledger(fake_ledger.connection.client, Limits(quota_count=3, quota_seconds=60.0))
    attempt = LeasedAttempt(claim, ledger, StopSignal())
    attempt.before_open("geodes")
    refunds = list[str]()
    monkeypatch.setattr(Accounts, "refund", lambda *given: refunds.append(given[-1]))

    for _ in range(2):
        attempt.return_quota(UnreachableError("https://h", "refused"))

    assert len(refunds) == 1
