"""Which source comes first, what the fleet remembers, what S3 serves while the portal is paused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from geodes_tasks.errors import (
    AccountPausedError,
    NotFoundError,
    QuotaError,
    SourceUnavailableError,
    SourceUnreachableError,
    TransferError,
    UnreachableError,
)
from geodes_tasks.ledger import Claim, Ledger, Limits, News, Request, SourceState, Verdict
from geodes_tasks.model.states import Reason
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.source_order import EXCHANGE_SECONDS, SourceOrder
from geodes_tasks.tasks.stop_signal import StopSignal
from geodes_tasks.transfer.retry import decide
from geodes_tasks.transports import Transport
from tests.conftest import Clock, MemoryTransport, asset_of
from tests.unit.ledger.test_ledger import result_of

ACCOUNT = "default"
ENTRY = {"at": "now", "worker": "w", "source": "s3", "bytes": 0, "transferred": 0, "error": "x"}
BOTH = {"s3": "s3://bucket/a", "geodes": "https://portal.invalid/a"}
OUT = SourceUnavailableError("s3", "s3://bucket/a", "cannot be reached", True)


@pytest.fixture
def transports() -> dict[str, Transport]:
    """Give both sources, the preferred one first."""
    return {"s3": MemoryTransport(b""), "geodes": MemoryTransport(b"")}


def request_of(name: str, hrefs: dict[str, str] | None = None) -> Request:
    """Ask for a file that is on these sources."""
    return Request(asset_of(b"bytes", name, hrefs=hrefs or BOTH), f"/data/{name}")


def admitted(ledger: Ledger, *requests: Request) -> list[str]:
    """Admit requests; gives their ids."""
    answers = ledger.admission.admit("b", ACCOUNT, requests, lambda _: None)()
    return [answer.download_id for answer in answers]


def released(ledger: Ledger) -> set[str]:
    """Give what is released now."""
    return {wakeup.download_id for wakeup in ledger.dispatch.release()}


def paused(ledger: Ledger, why: str = "quota") -> None:
    """Have S3 offered and the account paused."""
    ledger.sources.exchange({"s3": News(offered=True)})
    ledger.account.pause(ACCOUNT, why, 3600.0)


def claimed(ledger: Ledger, download_id: str) -> Claim:
    """Claim a download that can be had."""
    claim = ledger.leases.claim(download_id, "w")
    assert isinstance(claim, Claim)
    return claim


def portal_gives_a_file(ledger: Ledger) -> None:
    """Have another worker download a file from the portal."""
    (good,) = admitted(ledger, request_of("a", PORTAL))
    claim = claimed(ledger, good)
    ledger.leases.finish(claim, result_of(claim))


# --- the order -------------------------------------------------------------------------------


def test_s3_comes_first(fake_ledger: Ledger, transports: dict[str, Transport]) -> None:
    """As long as nothing speaks against it the datalake is asked first."""
    assert list(SourceOrder(fake_ledger, 60.0).ordered(transports)) == ["s3", "geodes"]


def test_what_one_worker_finds_out_all_know(
    fake_ledger: Ledger, transports: dict[str, Transport], clock: Clock
) -> None:
    """A source that is out as a whole goes last for the fleet, and comes back by itself."""
    SourceOrder(fake_ledger, 60.0).failed("s3", OUT)

    assert list(SourceOrder(fake_ledger, 60.0).ordered(transports)) == ["geodes", "s3"]
    assert fake_ledger.sources.exchange({})["s3"].why == "cannot be reached"
    clock.advance(61)
    assert list(SourceOrder(fake_ledger, 60.0).ordered(transports)) == ["s3", "geodes"]


def test_one_object_is_not_the_source(
    fake_ledger: Ledger, transports: dict[str, Transport], caplog: pytest.LogCaptureFixture
) -> None:
    """A missing object or a broken connection says nothing about all the others."""
    order = SourceOrder(fake_ledger, 60.0)
    with caplog.at_level(logging.WARNING):
        order.failed("s3", SourceUnavailableError("s3", "h", "no such object"))
        order.failed("s3", TransferError("h", "reset"))

    assert list(order.ordered(transports)) == ["s3", "geodes"]
    assert caplog.records == []


def test_the_ledger_is_not_asked_for_each_file(
    fake_ledger: Ledger, transports: dict[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """News are gathered, and the answer serves for some seconds."""
    calls: list[object] = []
    ask = fake_ledger.sources.exchange

    def counted(news: Mapping[str, News]) -> dict[str, SourceState]:
        calls.append(news)
        return ask(news)

    monkeypatch.setattr(fake_ledger.sources, "exchange", counted)
    order = SourceOrder(fake_ledger, 60.0)
    for _ in range(100):
        order.ordered(transports)

    assert EXCHANGE_SECONDS > 1
    assert len(calls) == 1


def test_a_download_waits_for_the_answer_to_what_is_offered(
    fake_ledger: Ledger, transports: dict[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker tells what it offers, its first download does not go by knowing nothing."""
    fake_ledger.sources.exchange({"s3": News(shun=60.0, why="out")})
    told, heard, ask = threading.Event(), threading.Event(), fake_ledger.sources.exchange

    def slow(news: Mapping[str, News]) -> dict[str, SourceState]:
        told.set()
        assert heard.wait(10)
        return ask(news)

    monkeypatch.setattr(fake_ledger.sources, "exchange", slow)
    order = SourceOrder(fake_ledger, 60.0)
    with ThreadPoolExecutor(2) as threads:
        offered = threads.submit(order.offer, transports)
        assert told.wait(10)
        ordered = threads.submit(order.ordered, transports)
        assert wait([ordered], timeout=0.2).not_done
        heard.set()

    offered.result()
    assert list(ordered.result()) == ["geodes", "s3"]


# --- outages -------------------------------------------------------------------------------------


REFUSED = UnreachableError("https://p/b", "the connection failed")


def test_three_failures_in_a_row_are_an_outage(fake_ledger: Ledger, clock: Clock) -> None:
    """What needs the host waits; then one download tries it, and the first answer ends the wait."""
    first, second = admitted(fake_ledger, request_of("a", PORTAL), request_of("b", PORTAL))
    order = SourceOrder(fake_ledger, 60.0, 10.0)
    for _ in range(3):
        assert released(fake_ledger) <= {first, second}
        order.failed("geodes", REFUSED)

    assert fake_ledger.leases.claim(first, "w") is Verdict.WAITING
    (shown,) = SnapshotReader(fake_ledger, ["b"]).read().pauses
    assert (shown.kind, shown.name, shown.reason) == ("source", "geodes", "outage")
    clock.advance(10.1)
    assert claimed(fake_ledger, first).probes
    assert fake_ledger.leases.claim(second, "w") is Verdict.WAITING
    order.works("geodes", is_probe=True)
    assert fake_ledger.sources.outages() == {}
    assert not claimed(fake_ledger, second).probes


def test_s3_is_out_of_reach_after_three_failures_in_a_row(
    fake_ledger: Ledger, transports: dict[str, Transport]
) -> None:
    """One lost connection says nothing yet; credentials that end say it at once (see above)."""
    order = SourceOrder(fake_ledger, 60.0)
    lost = SourceUnreachableError("s3", "h", "refused", True)
    for error in (lost, lost, SourceUnavailableError("s3", "h", "no such object"), lost, lost):
        order.failed("s3", error)
    before = list(order.ordered(transports))
    order.failed("s3", lost)

    assert (before, list(order.ordered(transports))) == (["s3", "geodes"], ["geodes", "s3"])


def test_an_answer_in_between_is_no_outage(fake_ledger: Ledger) -> None:
    """Only failures in a row count: a 404 shows that the host is in reach."""
    (one,) = admitted(fake_ledger, request_of("a", PORTAL))
    order = SourceOrder(fake_ledger, 60.0, 10.0)
    for error in (REFUSED, REFUSED, NotFoundError("https://p/b", 404), REFUSED, REFUSED):
        order.failed("geodes", error)

    assert isinstance(fake_ledger.leases.claim(one, "w"), Claim)


def test_one_worker_without_a_network_stops_no_other(fake_ledger: Ledger, clock: Clock) -> None:
    """While the portal gives files to another worker, a worker that cannot reach it is alone."""
    portal_gives_a_file(fake_ledger)
    (other,) = admitted(fake_ledger, request_of("b", PORTAL))
    stop = StopSignal()
    cut_off = SourceOrder(fake_ledger, 60.0, 10.0, stop)
    for _ in range(5):
        cut_off.failed("geodes", REFUSED)

    assert isinstance(fake_ledger.leases.claim(other, "w"), Claim)
    assert stop.takes_none
    clock.advance(10.1)
    cut_off.failed("geodes", REFUSED)
    (late,) = admitted(fake_ledger, request_of("c", PORTAL))
    assert fake_ledger.leases.claim(late, "w") is Verdict.WAITING


def test_a_worker_that_another_source_serves_goes_on(fake_ledger: Ledger) -> None:
    """It cannot reach the portal, others can; what S3 has it may have."""
    portal_gives_a_file(fake_ledger)
    stop = StopSignal()
    order = SourceOrder(fake_ledger, 60.0, 10.0, stop)
    for _ in range(5):
        order.failed("geodes", REFUSED)
        order.works("s3")

    assert not stop.takes_none


# --- while the portal is paused ------------------------------------------------------------------


PORTAL, S3_ALONE = {"geodes": "https://p/b"}, {"s3": "s3://bucket/c"}


def test_s3_serves_what_it_has_while_the_portal_is_paused(fake_ledger: Ledger) -> None:
    """What S3 can serve is sent and granted, on the account's own name; the rest waits."""
    here, alone, there = admitted(
        fake_ledger, request_of("a"), request_of("c", S3_ALONE), request_of("b", PORTAL)
    )
    paused(fake_ledger)

    sent = released(fake_ledger)
    claim = claimed(fake_ledger, here)

    assert sent == {here, alone}
    assert (claim.account, claim.portal_pause) == (ACCOUNT, "quota")
    assert fake_ledger.leases.claim(there, "w") is Verdict.WAITING
    assert [(one.name, one.running) for one in fake_ledger.account.states()] == [(ACCOUNT, 1)]


def test_one_limit_for_both_sources(fake_ledger: Ledger) -> None:
    """With the portal paused under way, S3 gets only the places that portal transfers leave."""
    ledger = Ledger(fake_ledger.connection.client, Limits(concurrent=4))
    portal = admitted(ledger, *(request_of(f"p{n}", PORTAL) for n in range(8)))
    over_s3 = admitted(ledger, *(request_of(f"s{n}") for n in range(36)))
    ledger.dispatch.recover("w", 64)
    claims = [claimed(ledger, one) for one in portal[:3]]
    paused(ledger)

    sent = released(ledger)
    verdicts = [ledger.leases.claim(one, "w") for one in over_s3]

    assert (len(claims), len(sent)) == (3, 1)
    assert [isinstance(one, Claim) for one in verdicts].count(True) == 1
    assert [(one.name, one.running) for one in ledger.account.states()] == [(ACCOUNT, 4)]


@pytest.mark.parametrize("why", ["not offered", "out", "held", "by hand", "over"])
def test_when_s3_serves_nothing_either(fake_ledger: Ledger, why: str, clock: Clock) -> None:
    """No worker offers S3 (any more), it is out or paused, or the account is paused by hand."""
    (here,) = admitted(fake_ledger, request_of("a"))
    if why != "not offered":
        fake_ledger.sources.exchange(
            {"s3": News(offered=True, shun=60.0 if why == "out" else None)}
        )
    if why == "held":
        fake_ledger.control.pause("source", "s3", "x")
    if why == "over":
        clock.advance(121.0)
    fake_ledger.account.pause(ACCOUNT, "quota", 3600.0)
    if why == "by hand":
        fake_ledger.control.pause_account(ACCOUNT, "x")

    assert released(fake_ledger) == set()
    assert fake_ledger.leases.claim(here, "w") is Verdict.WAITING


@pytest.mark.parametrize("why", ["not offered", "out", "held"])
def test_without_s3_the_portal_serves_both(fake_ledger: Ledger, why: str) -> None:
    """An account that is not paused serves what S3 could over the portal; S3 alone has to wait."""
    here, alone = admitted(fake_ledger, request_of("a"), request_of("c", S3_ALONE))
    if why == "out":
        fake_ledger.sources.exchange({"s3": News(offered=True, shun=60.0)})
    if why == "held":
        fake_ledger.control.pause("source", "s3", "x")

    # What no source in use has ends by name: see the engine.
    assert released(fake_ledger) == ({here, alone} if why == "not offered" else {here})
    assert claimed(fake_ledger, here).portal_pause == ""


def test_what_only_s3_has_goes_on_when_s3_is_back(fake_ledger: Ledger, clock: Clock) -> None:
    """It keeps its place in its list; nothing is moved when the source goes out or comes back."""
    ids = admitted(fake_ledger, *(request_of(f"c{n}", S3_ALONE) for n in range(300)))
    fake_ledger.sources.exchange({"s3": News(offered=True, shun=60.0)})
    waits = released(fake_ledger)
    clock.advance(61.0)

    sent = fake_ledger.dispatch.release()

    assert waits == set()
    assert [one.download_id for one in sent] == ids[: len(sent)]
    assert len(sent) > 50


def test_what_s3_does_not_give_waits_for_the_portal(fake_ledger: Ledger) -> None:
    """It is not sent over S3 again and again: it needs the portal from then on."""
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)
    released(fake_ledger)
    claim = claimed(fake_ledger, here)
    attempt = LeasedAttempt(claim, fake_ledger, StopSignal())
    attempt.before_open("s3")

    with pytest.raises(AccountPausedError, match=r"the account waits \(quota\)") as caught:
        attempt.before_open("geodes")
    decision = decide(caught.value, 1, here, Config())
    sent = fake_ledger.leases.postpone(claim, caught.value, decision, ENTRY)

    assert (decision.reason, sent, released(fake_ledger)) == (Reason.QUOTA, [], set())
    assert fake_ledger.leases.claim(here, "w") is Verdict.WAITING
    fake_ledger.control.resume_account(ACCOUNT)
    assert released(fake_ledger) == {here}


def test_a_pause_that_ended_meanwhile_stops_nothing(fake_ledger: Ledger) -> None:
    """The same attempt goes on over the portal, in the place that it has already."""
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)
    released(fake_ledger)
    attempt = LeasedAttempt(claimed(fake_ledger, here), fake_ledger, StopSignal())
    fake_ledger.control.resume_account(ACCOUNT)

    attempt.before_open("geodes")

    assert attempt.source == "geodes"
    assert [one.running for one in fake_ledger.account.states()] == [1]


def test_s3_goes_on_while_one_download_tries_the_quota(fake_ledger: Ledger, clock: Clock) -> None:
    """The one that tries is one that needs the portal; those of S3 are none of its concern."""
    here, there, other = admitted(
        fake_ledger, request_of("a"), request_of("b", PORTAL), request_of("d", PORTAL)
    )
    refused = QuotaError("href", "exceeds quota limit")
    claim = claimed(fake_ledger, other)
    fake_ledger.leases.postpone(claim, refused, decide(refused, 1, other, Config()), ENTRY)
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    clock.advance(61.0)

    sent = released(fake_ledger)
    over_s3, tries = (
        claimed(fake_ledger, here),
        fake_ledger.leases.claim((sent - {here}).pop(), "w"),
    )

    assert len(sent) == 2
    assert here in sent
    assert there in sent or other in sent
    assert (over_s3.probes, over_s3.portal_pause) == (False, "quota")
    assert isinstance(tries, Claim)
    assert tries.probes


def test_s3_is_found_behind_many_batches_that_need_the_portal(fake_ledger: Ledger) -> None:
    """Each call looks at a hundred batches; the next one goes on where it stopped."""
    for number in range(250):
        portal = [request_of(f"b{number}", PORTAL)]
        fake_ledger.admission.admit(f"b{number}", ACCOUNT, portal, lambda _: None)()
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)

    calls = [released(fake_ledger) for _ in range(4)]

    assert set().union(*calls) == {here}


def test_a_pause_by_hand_closes_what_a_refused_key_left_open(fake_ledger: Ledger) -> None:
    """A person means all of it, also where the account waits already; resumed, all goes on."""
    (here,) = admitted(fake_ledger, request_of("a"))
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    fake_ledger.account.pause(ACCOUNT, "401 from the portal", None)
    before, new = released(fake_ledger), fake_ledger.control.pause_account(ACCOUNT, "by hand")

    verdict = fake_ledger.leases.claim(here, "w")

    assert (before, new, verdict) == ({here}, True, Verdict.WAITING)
    assert not fake_ledger.control.pause_account(ACCOUNT, "by hand")
    assert fake_ledger.control.resume_account(ACCOUNT)
    assert released(fake_ledger) == {here}
