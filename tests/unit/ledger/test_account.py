"""The account in the ledger: places, quota, tape, holds, priorities."""

from __future__ import annotations

import pytest

from geodes_tasks.errors import OfflineError, QuotaError, ThrottledError, TransferError
from geodes_tasks.ledger import Claim, Ledger, News, Request, TapeAnswer, Verdict
from geodes_tasks.ledger.offline import NO_QUOTA, NOT_SAID
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer.retry import decide
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import (
    ACCOUNT,
    ENTRY,
    ask,
    assert_counts_are_right,
    claimed,
    many,
    request_of,
    result_of,
    sent_ids,
    state_of,
    with_limits,
)

POLICY = Config(offline_poll_seconds=400.0, probe_seconds=60.0)
THROTTLED = ThrottledError("href", 1.0)
OFFLINE = OfflineError("href", 410)
REFUSED = QuotaError("href", "exceeds quota limit")
BROKEN = TransferError("href", "reset")


def ends(ledger: Ledger, claim: Claim, error: Exception) -> None:
    """Let an attempt end as the retry rules have it."""
    decision: Decision = decide(error, 1, claim.download_id, POLICY)
    ledger.leases.postpone(claim, error, decision, ENTRY)


def succeeds(ledger: Ledger, request: Request) -> None:
    """Bring a download to its end."""
    claim = claimed(ledger, request)
    ledger.leases.finish(claim, result_of(claim))


def places(ledger: Ledger) -> int:
    """Give the places that the account has now."""
    (state,) = ledger.account.states()
    return state.concurrent


# --- places --------------------------------------------------------------------------------------


def test_a_429_halves_the_places_once(fake_ledger: Ledger, clock: Clock) -> None:
    """All that were refused together count as one complaint, and the change says why."""
    ledger = with_limits(fake_ledger, concurrent=8)
    claims = [claimed(ledger, request) for request in many(ledger, 8)]

    for claim in claims[:3]:
        ends(ledger, claim, THROTTLED)

    (change,) = ledger.account.changes(ACCOUNT)
    assert places(ledger) == 4
    assert (change.before, change.places) == (8, 4)
    assert change.why == "too many requests (429) with 8 under way"


def test_a_later_429_halves_them_again_down_to_one(fake_ledger: Ledger, clock: Clock) -> None:
    """There is always one place left."""
    ledger = with_limits(fake_ledger, concurrent=4)
    seen = []
    for request in many(ledger, 5):
        clock.advance(30.0)
        ends(ledger, claimed(ledger, request), THROTTLED)
        seen.append(places(ledger))

    assert seen == [1] * 5


def test_a_limit_set_by_hand_stays_until_auto(fake_ledger: Ledger, clock: Clock) -> None:
    """Neither a 429 nor success moves it, and it binds claims; then the reaction has it again."""
    ledger = with_limits(fake_ledger, concurrent=8)
    ledger.account.set_limit(ACCOUNT, 4)
    first, *rest = [claimed(ledger, request) for request in many(ledger, 4)]

    ends(ledger, first, THROTTLED)
    for claim in rest:
        ledger.leases.finish(claim, result_of(claim))
    by_hand = places(ledger)
    (change,) = ledger.account.changes(ACCOUNT)
    ledger.account.set_limit(ACCOUNT, None)
    given_back = places(ledger)
    clock.advance(30.0)
    ends(ledger, claimed(ledger, many(ledger, 5)[4]), THROTTLED)

    assert (by_hand, given_back, places(ledger)) == (4, 8, 1)
    assert (change.before, change.places, change.why) == (8, 4, "set by hand")


def test_lowered_places_bind_claims_and_messages(fake_ledger: Ledger, clock: Clock) -> None:
    """Beyond the places left nothing is sent and nothing is granted."""
    ledger = with_limits(fake_ledger, concurrent=4)
    requests = many(ledger, 8)
    ledger.dispatch.recover("w", slots=16)
    claims = [claimed(ledger, request) for request in requests[:4]]
    ends(ledger, claims[0], THROTTLED)
    clock.advance(5.0)

    sent, verdict = sent_ids(ledger), ledger.leases.claim(requests[5].download_id, "w")

    assert (sent, verdict) == ([], Verdict.WAITING)


def test_places_come_back_one_by_one(fake_ledger: Ledger, clock: Clock) -> None:
    """After a full round that went well there is one more, up to the number that was refused."""
    ledger = with_limits(fake_ledger, concurrent=6)
    requests = iter(many(ledger, 400))
    busy = [claimed(ledger, next(requests)) for _ in range(6)]
    ends(ledger, busy.pop(), THROTTLED)
    clock.advance(5.0)
    seen = [places(ledger)]

    for _ in range(150):
        done = busy.pop(0)
        ledger.leases.finish(done, result_of(done))
        while len(busy) < places(ledger):
            busy.append(claimed(ledger, next(requests)))
        seen.append(places(ledger))

    grown = [seen.index(number) for number in (4, 5, 6)]
    assert seen[0] == 3
    assert grown[0] >= 3
    assert grown[1] - grown[0] >= 4
    assert grown[2] - grown[1] >= 99
    assert "went well" in ledger.account.changes(ACCOUNT)[0].why


def test_success_with_places_to_spare_raises_nothing(fake_ledger: Ledger, clock: Clock) -> None:
    """One download at a time does not show that more would be taken."""
    ledger = with_limits(fake_ledger, concurrent=8)
    requests = many(ledger, 40)
    claims = [claimed(ledger, request) for request in requests[:8]]
    for claim in claims:
        ends(ledger, claim, THROTTLED)
    clock.advance(5.0)

    for request in requests[8:]:
        succeeds(ledger, request)

    assert places(ledger) == 4


def test_success_without_a_complaint_changes_nothing(fake_ledger: Ledger) -> None:
    """At the limit of the settings there is nothing to rise to, and no change is reported."""
    ledger = with_limits(fake_ledger, concurrent=2)
    requests = iter(many(ledger, 12))
    busy = [claimed(ledger, next(requests)) for _ in range(2)]

    for request in requests:
        done = busy.pop(0)
        ledger.leases.finish(done, result_of(done))
        busy.append(claimed(ledger, request))

    assert ledger.account.changes(ACCOUNT) == []
    assert places(ledger) == 2


def test_broken_connections_lower_no_limit(fake_ledger: Ledger) -> None:
    """Only the portal's own answer 429 lowers the limit: a bad network is no such answer."""
    ledger = with_limits(fake_ledger, concurrent=8)
    claims = [claimed(ledger, request) for request in many(ledger, 8)]
    for claim in claims:
        ends(ledger, claim, BROKEN)

    assert places(ledger) == 8
    assert ledger.account.changes(ACCOUNT) == []


# --- quota ---------------------------------------------------------------------------------------


def test_after_a_refusal_one_download_at_a_time_tries(fake_ledger: Ledger, clock: Clock) -> None:
    """A minute later one is let go, and the next no sooner than a minute after that."""
    requests = many(fake_ledger, 6)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)

    waits = sent_ids(fake_ledger)
    clock.advance(61.0)
    (tries,) = sent_ids(fake_ledger)
    probe = fake_ledger.leases.claim(tries, "w")
    assert isinstance(probe, Claim)
    meanwhile = (sent_ids(fake_ledger), fake_ledger.leases.claim(requests[3].download_id, "w"))
    ends(fake_ledger, probe, REFUSED)
    again = sent_ids(fake_ledger)

    assert waits == again == []
    assert probe.probes
    assert meanwhile == ([], Verdict.WAITING)


def test_the_first_byte_lets_all_go_on(fake_ledger: Ledger, clock: Clock) -> None:
    """Nobody waits until the file that tried is whole."""
    requests = many(fake_ledger, 4)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)
    clock.advance(61.0)
    (tries,) = sent_ids(fake_ledger)
    probe = fake_ledger.leases.claim(tries, "w")
    assert isinstance(probe, Claim)

    fake_ledger.account.end_probe(probe)

    assert len(sent_ids(fake_ledger)) == 3


def test_a_try_that_tells_nothing_is_not_repeated_at_once(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """A file on tape says nothing of the quota: the next try is a minute after this one."""
    requests = many(fake_ledger, 4)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)
    clock.advance(61.0)
    (tries,) = sent_ids(fake_ledger)
    probe = fake_ledger.leases.claim(tries, "w")
    assert isinstance(probe, Claim)
    clock.advance(20.0)
    ends(fake_ledger, probe, OFFLINE)

    at_once = sent_ids(fake_ledger)
    clock.advance(41.0)

    assert (at_once, len(sent_ids(fake_ledger))) == ([], 1)


def test_a_file_that_is_there_costs_no_try(fake_ledger: Ledger, clock: Clock) -> None:
    """What needs no request says nothing of the quota, and the next may try at once."""
    requests = many(fake_ledger, 3)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)
    clock.advance(61.0)
    (tries,) = sent_ids(fake_ledger)
    probe = fake_ledger.leases.claim(tries, "w")
    assert isinstance(probe, Claim)

    released = fake_ledger.leases.finish(probe, result_of(probe, source=None, bytes_transferred=0))

    assert len(released) == 1


def test_what_the_portal_says_is_left_is_shown_and_stops_nothing(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Not even 0 does: only a refusal or the own window stops an account."""
    requests = many(fake_ledger, 4)
    asked = fake_ledger.connection.server_time()

    ended = fake_ledger.account.note_quota(ACCOUNT, 0, asked)

    (state,) = fake_ledger.account.states()
    assert not ended
    assert (state.portal_quota_left, state.paused) == (0, None)
    assert state.portal_quota_at == pytest.approx(asked, abs=0.01)
    assert len(sent_ids(fake_ledger)) == 4
    assert not claimed(fake_ledger, requests[0]).probes


@pytest.mark.parametrize("said", [NOT_SAID, NO_QUOTA])
def test_no_number_is_shown_where_the_portal_says_none(fake_ledger: Ledger, said: int) -> None:
    """It does not say, or there is no quota."""
    many(fake_ledger, 1)

    fake_ledger.account.note_quota(ACCOUNT, said, fake_ledger.connection.server_time())

    (state,) = fake_ledger.account.states()
    assert (state.portal_quota_left, state.portal_quota_at) == (None, None)


@pytest.mark.parametrize(
    ("left", "goes_on"), [(0, 0), (NOT_SAID, 0), (1, 1), (50, 1), (NO_QUOTA, 1)]
)
def test_what_is_left_ends_a_pause_by_a_refusal_early_for_one_that_tries(
    fake_ledger: Ledger, clock: Clock, left: int, goes_on: int
) -> None:
    """A portal that says 50 and refuses costs one request, not as many as there are slots."""
    requests = many(fake_ledger, 4)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)

    ended = fake_ledger.account.note_quota(ACCOUNT, left, fake_ledger.connection.server_time())

    assert (ended, len(sent_ids(fake_ledger))) == (bool(goes_on), goes_on)


def test_what_is_left_does_not_open_the_own_window(fake_ledger: Ledger) -> None:
    """The window of the settings is kept, whatever the portal would give."""
    requests = many(fake_ledger, 4)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), QuotaError("href", "own", 60.0, True))

    ended = fake_ledger.account.note_quota(ACCOUNT, 50, fake_ledger.connection.server_time())

    assert (ended, sent_ids(fake_ledger)) == (False, [])


def test_a_refusal_is_waited_out_until_the_time_it_names(fake_ledger: Ledger, clock: Clock) -> None:
    """Ten minutes when it says ten; then one tries."""
    requests = many(fake_ledger, 4)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), QuotaError("href", "used", 600.0))
    clock.advance(590.0)
    early = sent_ids(fake_ledger)
    clock.advance(11.0)

    assert (early, len(sent_ids(fake_ledger))) == ([], 1)


def test_a_refusal_uses_no_attempt(fake_ledger: Ledger, clock: Clock) -> None:
    """However often the portal refuses."""
    (request,) = many(fake_ledger, 1)
    for _ in range(12):
        ends(fake_ledger, claimed(fake_ledger, request), REFUSED)
        clock.advance(61.0)

    record = fake_ledger.reading.record(request.download_id)
    assert record is not None
    assert (record.state, record.attempts) == (State.RETRY, 0)


def test_the_portal_is_asked_for_the_quota_by_one_and_only_when_it_helps(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """An idle account has no question; a busy or a refused one has one a minute."""
    (request, *_) = many(fake_ledger, 4)

    idle = fake_ledger.account.begin_quota_poll(ACCOUNT, 60.0)
    claim = claimed(fake_ledger, request)
    first, second = (fake_ledger.account.begin_quota_poll(ACCOUNT, 60.0) for _ in range(2))
    fake_ledger.account.note_quota(ACCOUNT, NOT_SAID, fake_ledger.connection.server_time())
    clock.advance(61.0)
    silent = fake_ledger.account.begin_quota_poll(ACCOUNT, 60.0)
    ends(fake_ledger, claim, REFUSED)
    clock.advance(3600.0)
    refused = fake_ledger.account.begin_quota_poll(ACCOUNT, 60.0)
    clock.advance(3600.0)
    fake_ledger.control.pause_account(ACCOUNT, "by hand")

    assert (idle, second, silent) == (None, None, None)
    assert first is not None
    assert refused is not None
    assert fake_ledger.account.begin_quota_poll(ACCOUNT, 60.0) is None


def test_without_a_window_of_its_own_nothing_is_counted(fake_ledger: Ledger) -> None:
    """QUOTA=off: a thousand requests are granted, and none is kept in mind."""
    spent = [fake_ledger.account.spend(ACCOUNT) for _ in range(1000)]

    assert {one.wait_s for one in spent} == {0.0}
    assert fake_ledger.connection.client.keys("*:spent") == []


def test_a_request_that_never_reached_the_portal_is_returned(fake_ledger: Ledger) -> None:
    """The window has its place back, once."""
    ledger = with_limits(fake_ledger, quota_count=2, quota_seconds=60.0)
    first, _ = (ledger.account.spend(ACCOUNT) for _ in range(2))
    full = ledger.account.spend(ACCOUNT)

    for _ in range(3):
        ledger.account.refund(ACCOUNT, first.request)

    assert 55 < full.wait_s < 65
    assert [ledger.account.spend(ACCOUNT).wait_s > 0 for _ in range(2)] == [False, True]


def test_a_full_window_that_has_room_again_pauses_nothing(fake_ledger: Ledger) -> None:
    """The own window was full when the attempt looked; meanwhile a request came back."""
    ledger = with_limits(fake_ledger, quota_count=1, quota_seconds=600.0)
    first, second = many(ledger, 2)
    spent = ledger.account.spend(ACCOUNT)
    full = Decision(True, Reason.QUOTA, counted=False, pause=Reason.QUOTA, pause_s=600.0)

    ledger.leases.postpone(claimed(ledger, first), REFUSED, full, ENTRY)
    while_full = ledger.leases.claim(second.download_id, "w")
    ledger.control.resume_account(ACCOUNT)
    claim = claimed(ledger, second)
    ledger.account.refund(ACCOUNT, spent.request)
    ledger.leases.postpone(claim, REFUSED, full, ENTRY)

    assert while_full is Verdict.WAITING
    assert claimed(ledger, first).portal_pause == ""


def test_whether_the_key_gave_a_file_since(fake_ledger: Ledger, clock: Clock) -> None:
    """Only a download over the portal that began later says so."""
    before, asks, after, over_s3 = many(fake_ledger, 4)
    early = claimed(fake_ledger, before)
    clock.advance(1.0)
    claim = claimed(fake_ledger, asks)
    clock.advance(1.0)
    late, elsewhere = claimed(fake_ledger, after), claimed(fake_ledger, over_s3)
    seen = [fake_ledger.account.gave_since(claim)]
    for one, source in ((early, "geodes"), (elsewhere, "s3"), (late, "geodes")):
        fake_ledger.leases.finish(one, result_of(one, source=source))
        seen.append(fake_ledger.account.gave_since(claim))

    assert seen == [False, False, False, True]


# --- pauses --------------------------------------------------------------------------------------


def test_a_hold_by_hand_outlasts_what_passes_by_itself(fake_ledger: Ledger, clock: Clock) -> None:
    """A quota that is used up meanwhile, and reopens, does not let a held account go on."""
    requests = many(fake_ledger, 3)
    claim = claimed(fake_ledger, requests[0])
    held = fake_ledger.control.pause_account(ACCOUNT, "by hand")
    ends(fake_ledger, claim, QuotaError("href", "used", 5.0, True))
    clock.advance(100.0)

    assert (held, fake_ledger.control.pause_account(ACCOUNT, "by hand")) == (True, False)
    assert sent_ids(fake_ledger) == []
    assert fake_ledger.control.resume_account(ACCOUNT)
    assert len(sent_ids(fake_ledger)) == 3


def test_an_account_that_waits_by_itself_can_be_held(fake_ledger: Ledger, clock: Clock) -> None:
    """A hold replaces the end of a wait."""
    requests = many(fake_ledger, 2)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), ThrottledError("href", 5.0))

    held = fake_ledger.control.pause_account(ACCOUNT, "by hand")
    clock.advance(100.0)

    assert held
    assert sent_ids(fake_ledger) == []


def test_a_held_batch_waits_and_others_go_on(fake_ledger: Ledger) -> None:
    """Nothing of it is sent or granted; let go, it goes on whole."""
    first = many(fake_ledger, 3, "held")
    sent = set(sent_ids(fake_ledger))
    other = many(fake_ledger, 2, "other")

    began = fake_ledger.control.pause("batch", "held", "by hand")
    verdict = fake_ledger.leases.claim(first[0].download_id, "w")
    released = sent_ids(fake_ledger)
    was = fake_ledger.control.resume("batch", "held")

    assert sent == {one.download_id for one in first}
    assert (began, verdict, was) == (True, Verdict.WAITING, True)
    assert released == [one.download_id for one in other]
    assert sent_ids(fake_ledger) == [first[0].download_id]


def test_a_held_source_holds_what_it_alone_has(fake_ledger: Ledger) -> None:
    """What can be had elsewhere goes on, and is told which source to leave alone."""
    both = request_of("both", hrefs={"geodes": "https://p/1", "s3": "s3://b/1"})
    alone = request_of("alone")
    ask(fake_ledger, alone, both)
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    fake_ledger.control.pause("source", "geodes", "by hand")

    sent = sent_ids(fake_ledger)
    claim = claimed(fake_ledger, both)
    fake_ledger.control.resume("source", "geodes")

    assert sent == [both.download_id]
    assert claim.closed_sources == {"geodes"}
    assert sent_ids(fake_ledger) == [alone.download_id]
    assert_counts_are_right(fake_ledger)


def test_a_held_source_gives_back_what_was_sent_already(fake_ledger: Ledger) -> None:
    """A message on its way when the source is held starts nothing, and loses nothing."""
    (request,) = many(fake_ledger, 1)
    sent_ids(fake_ledger)
    fake_ledger.control.pause("source", "geodes", "by hand")

    verdict = fake_ledger.leases.claim(request.download_id, "w")
    fake_ledger.control.resume("source", "geodes")

    assert verdict is Verdict.WAITING
    assert sent_ids(fake_ledger) == [request.download_id]


# --- fair ----------------------------------------------------------------------------------------


def test_a_higher_priority_goes_first(fake_ledger: Ledger) -> None:
    """Ten urgent items do not wait behind many; a lower one waits for all."""
    ledger = with_limits(fake_ledger, window=4)
    fake_ledger.control.prioritize("urgent", 5)
    fake_ledger.control.prioritize("idle", -1)
    idle = many(ledger, 2, "idle")
    usual, urgent = many(ledger, 10, "usual"), many(ledger, 3, "urgent")

    first = sent_ids(ledger)
    for request in [*urgent, usual[0]]:
        succeeds(ledger, request)
    rest = [*sent_ids(ledger)]

    assert first == [one.download_id for one in [*urgent, usual[0]]]
    assert not {one.download_id for one in idle} & set(rest)


@pytest.mark.parametrize("is_after_small_files", [False, True])
def test_a_higher_priority_overtakes_what_no_worker_takes_soon(
    fake_ledger: Ledger, clock: Clock, is_after_small_files: bool
) -> None:
    """Of large files two messages a slot wait in the broker, also after many small ones."""
    ledger = with_limits(fake_ledger, concurrent=4)
    ledger.dispatch.recover("w", slots=2)
    if is_after_small_files:
        for request in many(ledger, 200, "small"):
            sent_ids(ledger)
            succeeds(ledger, request)
        clock.advance(3600)
        ledger.dispatch.recover("w", slots=2)
    usual = many(ledger, 100, "usual")

    first = sent_ids(ledger)
    fake_ledger.control.prioritize("urgent", 5)
    urgent = many(ledger, 3, "urgent")
    claim = claimed(ledger, usual[0])
    next_ones = ledger.leases.finish(claim, result_of(claim))

    assert first == [one.download_id for one in usual[:4]]
    assert [one.download_id for one in next_ones] == [urgent[0].download_id]


def test_a_batch_under_way_may_be_preferred(fake_ledger: Ledger) -> None:
    """A new priority counts from the next message on."""
    ledger = with_limits(fake_ledger, window=4)
    many(ledger, 6, "one")
    late = many(ledger, 4, "two")

    fake_ledger.control.prioritize("two", 3)

    assert sent_ids(ledger) == [one.download_id for one in late]


def test_weights_share_the_turns(fake_ledger: Ledger) -> None:
    """Weight 3 gets three turns to one, spread over time."""
    ledger = with_limits(fake_ledger, window=8)
    fake_ledger.control.prioritize("heavy", 0, 3)
    heavy = {one.download_id for one in many(ledger, 20, "heavy")}
    many(ledger, 20, "light")

    sent = sent_ids(ledger)

    assert [one in heavy for one in sent] == [True, False, True, True, True, False, True, True]


def test_batches_that_wait_for_the_portal_hide_no_others(fake_ledger: Ledger) -> None:
    """However many they are, a download that S3 serves is found within two calls."""
    for number in range(120):
        many(fake_ledger, 1, f"portal{number:03}")
    on_s3 = request_of("later", hrefs={"s3": "s3://b/1"})
    ask(fake_ledger, on_s3, batch="zz")
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    fake_ledger.control.pause("source", "geodes", "by hand")

    sent = [*sent_ids(fake_ledger), *sent_ids(fake_ledger)]

    assert sent == [on_s3.download_id]


@pytest.fixture
def still(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give a clock that goes on only when it is told to, however slow the machine is."""
    began = clock.time()
    monkeypatch.setattr(Clock, "time", lambda self: began + self.ahead_s)
    return clock


def test_few_messages_wait_in_the_broker_where_downloads_are_slow(
    fake_ledger: Ledger, still: Clock
) -> None:
    """Where a stroke takes long to drain the next is smaller, down to two a slot."""
    ledger = with_limits(fake_ledger, concurrent=4)
    many(ledger, 400)
    sent = sent_ids(ledger)
    at_first = len(sent)
    ledger.dispatch.recover("w", slots=2)
    for _ in range(150):
        still.advance(1.0)
        claim = ledger.leases.claim(sent.pop(0), "w")
        assert isinstance(claim, Claim)
        sent += [one.download_id for one in ledger.leases.finish(claim, result_of(claim))]

    assert (at_first, len(sent) <= 4) == (64, True)


def test_many_messages_are_sent_where_downloads_are_quick(
    fake_ledger: Ledger, still: Clock
) -> None:
    """Where a stroke is drained at once the next is larger, up to the window."""
    ledger = with_limits(fake_ledger, concurrent=4)
    many(ledger, 900)
    ledger.dispatch.recover("w", slots=2)
    sent = sent_ids(ledger)
    for _ in range(300):
        still.advance(0.001)
        claim = ledger.leases.claim(sent.pop(0), "w")
        assert isinstance(claim, Claim)
        sent += [one.download_id for one in ledger.leases.finish(claim, result_of(claim))]

    assert len(sent) > 190


# --- tape ----------------------------------------------------------------------------------------


def on_tape(ledger: Ledger, *requests: Request) -> list[str]:
    """Let downloads find their files on tape; gives their ids."""
    for request in requests:
        ends(ledger, claimed(ledger, request), OFFLINE)
    return [request.download_id for request in requests]


def test_a_file_on_tape_is_asked_about_by_one(fake_ledger: Ledger, clock: Clock) -> None:
    """Not before its time, not by two, and again by another when the first died."""
    ids = on_tape(fake_ledger, *many(fake_ledger, 3))

    early = fake_ledger.offline.begin(ACCOUNT, "a")
    clock.advance(101.0)
    first, second = (fake_ledger.offline.begin(ACCOUNT, worker) for worker in "ab")
    clock.advance(61.0)
    successor = fake_ledger.offline.begin(ACCOUNT, "b")
    late = fake_ledger.offline.answer(ACCOUNT, "a", TapeAnswer(online=ids), 9.0)

    assert early == second == []
    assert first == successor
    assert set(first) == set(ids)
    assert late == -1


def test_what_is_back_goes_first_the_soonest_to_expire_before_all(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Copies from tape are kept for a while only."""
    ids = on_tape(fake_ledger, *many(fake_ledger, 3))
    others = many(fake_ledger, 3, start=3)
    clock.advance(101.0)
    fake_ledger.offline.begin(ACCOUNT, "a")

    answer = TapeAnswer(online=[ids[2], ids[0]], offline=[ids[1]])
    came = fake_ledger.offline.answer(ACCOUNT, "a", answer, 9.0)

    assert came == 2
    assert sent_ids(fake_ledger) == [ids[2], ids[0], *(one.download_id for one in others)]


def test_the_questions_come_later_each_time_until_something_is_back(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """The period grows to its longest while nothing comes, and begins anew afterwards."""
    on_tape(fake_ledger, *many(fake_ledger, 1))
    clock.advance(101.0)
    waits = []
    for came in (0, 0, 0, 0, 1, 0):
        assert fake_ledger.offline.begin(ACCOUNT, "a")
        fake_ledger.offline.end(ACCOUNT, "a", 100.0, 300.0, came)
        told = fake_ledger.connection.client.hget(
            fake_ledger.connection.key("account", ACCOUNT, "poll"), "next"
        )
        waits.append(round(float(told) - fake_ledger.connection.server_time()))
        clock.advance(waits[-1] + 1.0)

    assert waits == [150, 225, 300, 300, 100, 150]


def test_a_file_that_is_not_online_when_it_is_said_to_be_asks_for_itself_later(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """After two refusals in spite of what the portal says, its word starts nothing any more."""
    (request,) = many(fake_ledger, 1)
    for _ in range(2):
        (identifier,) = on_tape(fake_ledger, request)
        clock.advance(101.0)
        fake_ledger.offline.begin(ACCOUNT, "a")
        came = fake_ledger.offline.answer(ACCOUNT, "a", TapeAnswer(online=[identifier]), 50.0)
        fake_ledger.offline.end(ACCOUNT, "a", 1.0, 1.0, came)

    assert came == 0
    assert sent_ids(fake_ledger) == []
    clock.advance(101.0)
    fake_ledger.dispatch.recover()
    assert sent_ids(fake_ledger) == [identifier]


def test_its_word_counts_again_when_it_has_changed(fake_ledger: Ledger, clock: Clock) -> None:
    """Off line in between, the file was really brought back."""
    (request,) = many(fake_ledger, 1)
    for _ in range(2):
        (identifier,) = on_tape(fake_ledger, request)
        clock.advance(101.0)
        fake_ledger.offline.begin(ACCOUNT, "a")
        fake_ledger.offline.answer(ACCOUNT, "a", TapeAnswer(offline=[identifier]), 50.0)
        came = fake_ledger.offline.answer(ACCOUNT, "a", TapeAnswer(online=[identifier]), 50.0)
        fake_ledger.offline.end(ACCOUNT, "a", 1.0, 1.0, came)

    assert came == 1


@pytest.mark.parametrize("act", ["claim", "cancel", "again"])
def test_nothing_starts_what_is_on_tape_but_a_person(fake_ledger: Ledger, act: str) -> None:
    """A stray message starts nothing; asked for again by hand it starts, cancelled it is over."""
    (request,) = many(fake_ledger, 1)
    (identifier,) = on_tape(fake_ledger, request)
    tape = fake_ledger.connection.key("account", ACCOUNT, "tape")

    if act == "claim":
        assert fake_ledger.leases.claim(identifier, "w") is Verdict.EARLY
        assert fake_ledger.connection.client.zcard(tape) == 1
        return
    if act == "cancel":
        assert fake_ledger.control.cancel([identifier]) == 1
        assert state_of(fake_ledger, request) is State.REVOKED
    else:
        assert fake_ledger.control.retry([identifier]) == 1
        assert sent_ids(fake_ledger) == [identifier]
    assert fake_ledger.connection.client.zcard(tape) == 0
    assert_counts_are_right(fake_ledger)


def test_a_paused_account_asks_for_nothing(fake_ledger: Ledger, clock: Clock) -> None:
    """No request goes out for an account whose key was refused or that somebody holds."""
    on_tape(fake_ledger, *many(fake_ledger, 1))
    fake_ledger.control.pause_account(ACCOUNT, "by hand")
    clock.advance(1000.0)

    held = fake_ledger.offline.begin(ACCOUNT, "a")
    fake_ledger.control.resume_account(ACCOUNT)

    assert held == []
    assert len(fake_ledger.offline.begin(ACCOUNT, "a")) == 1


def test_since_when_a_batch_waits(fake_ledger: Ledger, clock: Clock) -> None:
    """The first of the batch counts, not the first of the ledger."""
    early = many(fake_ledger, 1, "early")
    late = many(fake_ledger, 2, "late")
    on_tape(fake_ledger, *early)
    clock.advance(50.0)
    on_tape(fake_ledger, *late)

    since = [fake_ledger.reading.waits([batch])[0].since for batch in ("early", "late")]

    assert since[0] is not None
    assert since[1] is not None
    assert since[1] - since[0] == pytest.approx(50.0, abs=5.0)
    assert fake_ledger.reading.first_waiting(["late"], "quota") is None
