"""The portal, S3 and other hosts that are out of reach: what goes on elsewhere, and what tries."""

from __future__ import annotations

import pytest

from geodes_tasks.ledger import Claim, Ledger, News, Request, Verdict
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from tests.conftest import Clock
from tests.unit.ledger.test_account import REFUSED, ends
from tests.unit.ledger.test_ledger import (
    ask,
    assert_counts_are_right,
    claimed,
    failed,
    many,
    postponed,
    request_of,
    result_of,
    sent_ids,
    state_of,
    with_limits,
)

OUT_S = 60.0
OUT = News(shun=OUT_S, why="no route to host")
MIRROR = "geodes->mirror.invalid"


@pytest.fixture
def ledger(fake_ledger: Ledger) -> Ledger:
    """Return a ledger of a fleet that can use S3."""
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    return fake_ledger


def everywhere(ledger: Ledger, count: int) -> list[Request]:
    """Ask for files that the portal and S3 have."""
    requests = [
        request_of(
            f"both{number}", hrefs={"geodes": f"https://p/{number}", "s3": f"s3://b/{number}"}
        )
        for number in range(count)
    ]
    ask(ledger, *requests)
    return requests


def ids(requests: list[Request]) -> set[str]:
    """Return the ids of downloads."""
    return {request.download_id for request in requests}


def finished(ledger: Ledger, claim: Claim) -> set[str]:
    """Record the file of an attempt; return the ids that messages are sent for then."""
    released = ledger.leases.finish(claim, result_of(claim))
    return {wakeup.download_id for wakeup in released} | set(sent_ids(ledger))


def test_while_the_portal_is_away_s3_serves_what_it_has(ledger: Ledger) -> None:
    """Files of the portal alone wait, and an attempt knows why the portal is left alone."""
    alone, both = many(ledger, 2), everywhere(ledger, 3)

    ledger.sources.exchange({"geodes": OUT})

    assert set(sent_ids(ledger)) == ids(both)
    assert claimed(ledger, both[0]).portal_pause == "outage"
    assert ledger.leases.claim(alone[0].download_id, "w") is Verdict.WAITING
    assert_counts_are_right(ledger)


def test_after_an_outage_of_the_portal_one_download_tries(ledger: Ledger, clock: Clock) -> None:
    """The others wait for its result, and go on when it has its file."""
    alone = many(ledger, 4)
    ledger.sources.exchange({"geodes": OUT})
    clock.advance(OUT_S + 1)

    (first,) = sent_ids(ledger)
    claim = claimed(ledger, next(one for one in alone if one.download_id == first))
    meanwhile = sent_ids(ledger)
    others = {ledger.leases.claim(one, "w") for one in ids(alone) - {first}}
    (known,) = [outage for outage in ledger.sources.outages() if outage == "geodes"]
    after = finished(ledger, claim)

    assert (claim.probes, meanwhile, known) == (True, [], "geodes")
    assert others == {Verdict.WAITING}
    assert after == ids(alone) - {first}
    assert ledger.sources.outages() == {}


def test_after_a_refusal_s3_goes_on_and_one_download_tries_the_portal(
    ledger: Ledger, clock: Clock
) -> None:
    """While it is not known whether there is quota again, only what needs the portal waits."""
    (refused,) = many(ledger, 1)
    ends(ledger, claimed(ledger, refused), REFUSED)
    alone, both = many(ledger, 3, start=1), everywhere(ledger, 3)
    while_paused = set(sent_ids(ledger))
    while_refused = {claimed(ledger, one).portal_pause for one in both}
    clock.advance(3601.0)
    ledger.sources.exchange({"s3": News(offered=True)})

    late = request_of("late", hrefs=both[0].asset.hrefs)
    ask(ledger, late)
    sent = set(sent_ids(ledger))

    assert while_paused == ids(both)
    assert while_refused == {"quota"}
    assert len(sent & ids([refused, *alone])) == 1
    assert claimed(ledger, late).portal_pause == "quota"


def test_one_download_tries_s3_after_its_outage(ledger: Ledger, clock: Clock) -> None:
    """The next one takes the portal until the first has its file."""
    first, second = everywhere(ledger, 2)
    ledger.sources.exchange({"s3": OUT})
    ledger.sources.exchange({"geodes": OUT})
    clock.advance(OUT_S + 1)
    ledger.sources.exchange(
        {"geodes": News(shun=OUT_S, why="still away"), "s3": News(offered=True)}
    )

    tries = claimed(ledger, first)
    while_it_tries = ledger.leases.claim(second.download_id, "w")
    ledger.leases.finish(tries, result_of(tries, source="s3"))

    assert tries.probes
    assert while_it_tries is Verdict.WAITING
    assert not claimed(ledger, second).probes


@pytest.mark.parametrize("is_on_s3", [True, False])
def test_a_redirect_that_leads_nowhere_stops_only_what_it_alone_serves(
    ledger: Ledger, clock: Clock, is_on_s3: bool
) -> None:
    """A file that S3 has too comes from there, though the host of the redirect is away."""
    (request,) = everywhere(ledger, 1) if is_on_s3 else many(ledger, 1)
    other = request_of("other")
    held = Decision(True, Reason.OUTAGE, 5.0, counted=False, held=MIRROR)

    postponed(ledger, claimed(ledger, request), held)
    ledger.sources.exchange({MIRROR: OUT, "s3": News(offered=True)})
    clock.advance(6.0)
    ledger.dispatch.recover("w", slots=4)
    ask(ledger, other)

    assert set(sent_ids(ledger)) == ids([other, request] if is_on_s3 else [other])
    clock.advance(OUT_S)
    ledger.dispatch.recover("w", slots=4)
    sent_ids(ledger)
    claim = claimed(ledger, request)
    assert (claim.redirect, claim.host) == (MIRROR, "")


def test_what_a_redirect_serves_needs_the_portal_first(ledger: Ledger, clock: Clock) -> None:
    """While the portal is away nobody can be redirected by it."""
    (request,) = many(ledger, 1)
    held = Decision(True, Reason.OUTAGE, 5.0, counted=False, held=MIRROR)
    postponed(ledger, claimed(ledger, request), held)

    ledger.sources.exchange({"geodes": OUT, MIRROR: News(shun=0.0)})
    clock.advance(6.0)
    ledger.dispatch.recover("w", slots=4)

    assert sent_ids(ledger) == []
    assert ledger.leases.claim(request.download_id, "w") is Verdict.WAITING


def test_one_worker_alone_does_not_stop_a_source_for_all(ledger: Ledger, clock: Clock) -> None:
    """A source that gave another worker a file meanwhile is out of reach for one worker only."""
    first, second = many(ledger, 2)
    sent = finished(ledger, claimed(ledger, first))
    clock.advance(1.0)

    ledger.sources.exchange({"geodes": News(shun=OUT_S, why="no route", fleet=True)})

    assert sent == ids([second])
    assert ledger.sources.outages() == {}
    assert claimed(ledger, second).portal_pause == ""


def test_another_download_tries_when_the_record_of_the_one_is_gone(
    ledger: Ledger, clock: Clock
) -> None:
    """A record that was removed by hand holds the account for no longer than its lease."""
    refused, tries, *rest = many(ledger, 4)
    ends(ledger, claimed(ledger, refused), REFUSED)
    clock.advance(3601.0)
    claimed(ledger, tries)

    ledger.connection.client.delete(ledger.connection.key("download", tries.download_id))
    clock.advance(601.0)
    ledger.dispatch.recover("w", slots=4)
    sent = sent_ids(ledger)

    assert len(sent) == 1
    assert set(sent) <= ids([refused, *rest])


def test_a_file_whose_path_was_another_ones_meanwhile_is_retried(ledger: Ledger) -> None:
    """Its path is free again once the other file has failed or was cancelled."""
    first = request_of("first")
    second = Request(request_of("second", b"other").asset, first.path)
    failed(ledger, first)
    failed(ledger, second)

    begun = ledger.control.retry([first.download_id])

    assert begun == 1
    assert state_of(ledger, first) is State.PENDING


def test_an_attempt_knows_the_host_in_place_of_the_portal(ledger: Ledger) -> None:
    """Its answers are not the portal's, so they pause no account."""
    elsewhere = request_of("elsewhere", hrefs={"geodes": "https://data.invalid/1"})
    portals = request_of("portals")
    ask(with_limits(ledger, portal_url="https://portal.invalid"), elsewhere, portals)

    assert claimed(ledger, elsewhere).host == "data.invalid"
    assert claimed(ledger, portals).host == ""


def test_workers_share_what_they_found(ledger: Ledger, clock: Clock) -> None:
    """A source that failed is tried last for its time, by all, with the reason."""
    ledger.sources.exchange({"s3": News(shun=OUT_S, avoid=90.0, why="no route to host")})
    clock.advance(30.0)
    known = ledger.sources.exchange({})
    clock.advance(61.0)
    later = ledger.sources.exchange({})

    assert known["s3"].why == "no route to host"
    assert known["s3"].shunned_s == pytest.approx(60.0, abs=5.0)
    assert known["geodes"].shunned_s == 0.0
    assert later["s3"].shunned_s == 0.0


def test_messages_for_s3_on_their_way_do_not_keep_the_portal_from_its_try(
    ledger: Ledger, clock: Clock
) -> None:
    """Where the broker always holds some for S3, one download tries the portal all the same."""
    (refused,) = many(ledger, 1)
    ends(ledger, claimed(ledger, refused), REFUSED)
    both = everywhere(ledger, 3)
    on_their_way = set(sent_ids(ledger))
    clock.advance(3601.0)

    tries = sent_ids(ledger)

    assert on_their_way == ids(both)
    assert tries == [refused.download_id]
    assert sent_ids(ledger) == []
    assert claimed(ledger, refused).probes
