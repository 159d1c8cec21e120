"""Which source comes first, what the fleet remembers, and who is served beside a paused account."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from geodes_tasks.errors import LeaseLostError, SourceUnavailableError, TransferError
from geodes_tasks.ledger import Claim, Ledger, News, Request, SourceState
from geodes_tasks.states import State
from geodes_tasks.transports import Transport
from geodes_tasks.ways import ENOUGH_BYTES, TELL_SECONDS, Ways, is_clearly_slower
from tests.conftest import Clock, MemoryTransport, asset_of

ACCOUNT = "default"
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
    answers = ledger.admit("b", ACCOUNT, requests, lambda _: None)
    return [answer.download_id for answer in answers]


def released(ledger: Ledger) -> set[str]:
    """Give what is released now."""
    return {wakeup.download_id for wakeup in ledger.release()}


def paused(ledger: Ledger, why: str = "quota") -> None:
    """Have S3 offered and the account paused."""
    ledger.sources({"s3": News(offered=True)})
    ledger.pause_for(ACCOUNT, why, 3600.0)


def claimed(ledger: Ledger, download_id: str) -> Claim:
    """Claim a download that can be had."""
    claim = ledger.claim(download_id, "w")
    assert isinstance(claim, Claim)
    return claim


# --- the order -------------------------------------------------------------------------------


def test_s3_comes_first(fake_ledger: Ledger, transports: dict[str, Transport]) -> None:
    """As long as nothing speaks against it the datalake is asked first."""
    assert list(Ways(fake_ledger, 60.0).ordered(transports)) == ["s3", "geodes"]


def test_what_one_worker_finds_out_all_know(
    fake_ledger: Ledger, transports: dict[str, Transport], clock: Clock
) -> None:
    """A source that is out as a whole goes last for the fleet, and comes back by itself."""
    Ways(fake_ledger, 60.0).refused("s3", OUT)

    assert list(Ways(fake_ledger, 60.0).ordered(transports)) == ["geodes", "s3"]
    assert fake_ledger.sources({})["s3"].why == "cannot be reached"
    clock.advance(61)
    assert list(Ways(fake_ledger, 60.0).ordered(transports)) == ["s3", "geodes"]


def test_one_object_is_not_the_source(
    fake_ledger: Ledger, transports: dict[str, Transport], caplog: pytest.LogCaptureFixture
) -> None:
    """A missing object or a broken connection says nothing about all the others."""
    ways = Ways(fake_ledger, 60.0)
    with caplog.at_level(logging.WARNING):
        ways.refused("s3", SourceUnavailableError("s3", "h", "no such object"))
        ways.refused("s3", TransferError("h", "reset"))

    assert list(ways.ordered(transports)) == ["s3", "geodes"]
    assert caplog.records == []


def test_measured_speed_decides(
    fake_ledger: Ledger, transports: dict[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the datalake proved clearly slower the portal comes first, except beside a pause."""
    ways = Ways(fake_ledger, 60.0)
    moved = {"s3": 2 * ENOUGH_BYTES, "geodes": 2 * ENOUGH_BYTES}
    ways.measured(moved, {"s3": 30.0, "geodes": 10.0})
    ways.offer(transports)

    assert list(ways.ordered(transports)) == ["geodes", "s3"]
    assert list(ways.ordered(transports, beside=True)) == ["s3", "geodes"]


@pytest.mark.parametrize(
    ("of_s3", "of_portal", "slower"),
    [
        ((ENOUGH_BYTES, 10.0), (ENOUGH_BYTES, 4.0), True),
        ((ENOUGH_BYTES, 10.0), (ENOUGH_BYTES, 6.0), False),
        ((ENOUGH_BYTES - 1, 10.0), (ENOUGH_BYTES, 1.0), False),
    ],
)
def test_clearly_slower(
    of_s3: tuple[float, float], of_portal: tuple[float, float], slower: bool
) -> None:
    """Less than half the speed, shown by enough bytes of both."""
    states = [SourceState(bytes=count, seconds=s) for count, s in (of_s3, of_portal)]

    assert is_clearly_slower(*states) is slower


def test_old_measurements_fade(fake_ledger: Ledger, clock: Clock) -> None:
    """After ten minutes a measurement counts half, so that a source is tried again."""
    fake_ledger.sources({"s3": News(bytes=1000, seconds=10.0)})
    clock.advance(600)
    faded = fake_ledger.sources({"s3": News(bytes=1000, seconds=2.0)})["s3"]

    assert faded.bytes == pytest.approx(1500, abs=2)
    assert faded.seconds == pytest.approx(7.0, abs=0.01)
    assert faded.rate == pytest.approx(214.3, abs=1)


def test_the_ledger_is_not_asked_for_each_file(
    fake_ledger: Ledger, transports: dict[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """News are gathered, and the answer serves for some seconds."""
    calls: list[object] = []
    ask = fake_ledger.sources

    def counted(news: Mapping[str, News]) -> dict[str, SourceState]:
        calls.append(news)
        return ask(news)

    monkeypatch.setattr(fake_ledger, "sources", counted)
    ways = Ways(fake_ledger, 60.0)
    for _ in range(100):
        ways.ordered(transports)
        ways.measured({"s3": 5}, {"s3": 0.1})

    assert TELL_SECONDS > 1
    assert len(calls) == 1


def test_a_download_waits_for_the_answer_to_what_is_offered(
    fake_ledger: Ledger, transports: dict[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker tells what it offers, its first download does not go by knowing nothing."""
    fake_ledger.sources({"s3": News(shun=60.0, why="out")})
    told, heard, ask = threading.Event(), threading.Event(), fake_ledger.sources

    def slow(news: Mapping[str, News]) -> dict[str, SourceState]:
        told.set()
        assert heard.wait(10)
        return ask(news)

    monkeypatch.setattr(fake_ledger, "sources", slow)
    ways = Ways(fake_ledger, 60.0)
    with ThreadPoolExecutor(2) as threads:
        offered = threads.submit(ways.offer, transports)
        assert told.wait(10)
        ordered = threads.submit(ways.ordered, transports)
        assert wait([ordered], timeout=0.2).not_done
        heard.set()

    offered.result()
    assert list(ordered.result()) == ["geodes", "s3"]


# --- beside a paused account -----------------------------------------------------------------


def test_what_the_datalake_has_goes_on_beside_a_pause(fake_ledger: Ledger) -> None:
    """Downloads that S3 can give leave the queue of a paused account; the others stay."""
    here, there = admitted(fake_ledger, request_of("a"), request_of("b", {"geodes": "https://p/b"}))
    paused(fake_ledger)
    assert released(fake_ledger) == set()

    assert fake_ledger.divert(ACCOUNT) == 1

    assert released(fake_ledger) == {here}
    claim = claimed(fake_ledger, here)
    assert (claim.account, claim.beside) == (ACCOUNT, True)
    record = fake_ledger.record(there)
    assert record is not None
    assert record.state is State.PENDING


@pytest.mark.parametrize("why", ["not offered", "out", "by hand"])
def test_what_stays(fake_ledger: Ledger, why: str) -> None:
    """Nobody is diverted where no worker has S3, S3 is out, or a person holds the account."""
    admitted(fake_ledger, request_of("a"))
    if why != "not offered":
        fake_ledger.sources({"s3": News(offered=True, shun=60.0 if why == "out" else None)})
    fake_ledger.pause_for(ACCOUNT, "by hand" if why == "by hand" else "quota", 3600.0)

    assert fake_ledger.divert(ACCOUNT) == 0
    assert released(fake_ledger) == set()


def test_they_come_back_when_the_datalake_is_out(fake_ledger: Ledger, clock: Clock) -> None:
    """When S3 fails too the downloads wait for the portal again, in the account's own queue."""
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)
    fake_ledger.divert(ACCOUNT)
    fake_ledger.sources({"s3": News(shun=600.0, why="out")})

    assert fake_ledger.divert(ACCOUNT) == 1
    assert released(fake_ledger) == set()
    fake_ledger.resume(ACCOUNT)
    assert released(fake_ledger) == {here}
    assert not claimed(fake_ledger, here).beside


def test_the_portal_is_not_asked_for_what_ran_beside(fake_ledger: Ledger) -> None:
    """What S3 did not give waits with the others, once: it is not diverted again."""
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)
    fake_ledger.divert(ACCOUNT)
    released(fake_ledger)
    claim = claimed(fake_ledger, here)

    assert fake_ledger.switch(claim) == "quota"
    assert [state.running for state in fake_ledger.account_states()] == [1, 0]
    assert fake_ledger.divert(ACCOUNT) == 0


def test_when_the_pause_is_over_it_goes_on_over_the_portal(fake_ledger: Ledger) -> None:
    """The same attempt takes a place of the account, if there is one."""
    (here,) = admitted(fake_ledger, request_of("a"))
    paused(fake_ledger)
    fake_ledger.divert(ACCOUNT)
    released(fake_ledger)
    claim = claimed(fake_ledger, here)
    fake_ledger.resume(ACCOUNT)

    assert fake_ledger.switch(claim) == ""
    fake_ledger.cancel([here])
    with pytest.raises(LeaseLostError, match="another worker"):
        fake_ledger.switch(replace(claim, token="1"))
