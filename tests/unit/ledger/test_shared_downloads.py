"""Downloads that are in several batches: a pause or the end of one batch concerns no other."""

from __future__ import annotations

import pytest

from geodes_tasks.errors import TransferError
from geodes_tasks.ledger import Claim, Ledger, Progress, Renewal, Verdict
from geodes_tasks.ledger.control import Withdrawn
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import (
    ACCOUNT,
    AGAIN_AT_ONCE,
    BATCH,
    ENTRY,
    ask,
    assert_counts_are_right,
    claimed,
    many,
    postponed,
    request_of,
    result_of,
    sent_ids,
    state_of,
)

NEXT = "next"


@pytest.mark.parametrize("paused", [BATCH, NEXT])
def test_a_paused_batch_stops_no_other_one(fake_ledger: Ledger, paused: str) -> None:
    """Its downloads start for the batch that is not paused, whichever of both came first."""
    requests = many(fake_ledger, 3)
    fake_ledger.control.pause("batch", paused, "by hand")
    ask(fake_ledger, *requests, batch=NEXT)

    sent = sent_ids(fake_ledger)
    answers = [fake_ledger.leases.claim(one, "w") for one in sent]

    assert sorted(sent) == sorted(one.download_id for one in requests)
    assert all(isinstance(one, Claim) for one in answers)
    assert sent_ids(fake_ledger) == []
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize("paused", [BATCH, NEXT])
def test_what_is_tried_again_starts_for_the_batch_that_goes_on(
    fake_ledger: Ledger, paused: str
) -> None:
    """A batch is paused while an attempt is under way: the next attempt is the other batch's."""
    (request,) = many(fake_ledger, 1)
    ask(fake_ledger, request, batch=NEXT)
    claim = claimed(fake_ledger, request)
    fake_ledger.control.pause("batch", paused, "by hand")

    released = fake_ledger.leases.postpone(
        claim, TransferError("href", "reset"), AGAIN_AT_ONCE, ENTRY
    )

    assert [one.download_id for one in released] == [request.download_id]
    assert isinstance(fake_ledger.leases.claim(request.download_id, "w"), Claim)


def test_what_only_paused_batches_have_waits(fake_ledger: Ledger) -> None:
    """It continues when one of them does, and is sent once."""
    (request,) = many(fake_ledger, 1)
    ask(fake_ledger, request, batch=NEXT)
    sent_before = sent_ids(fake_ledger)
    for batch in (BATCH, NEXT):
        fake_ledger.control.pause("batch", batch, "by hand")

    answer = fake_ledger.leases.claim(request.download_id, "w")
    while_paused = sent_ids(fake_ledger)
    fake_ledger.control.resume("batch", BATCH)

    assert (sent_before, while_paused) == ([request.download_id], [])
    assert answer is Verdict.WAITING
    assert sent_ids(fake_ledger) == [request.download_id]
    fake_ledger.control.resume("batch", NEXT)
    assert sent_ids(fake_ledger) == []


def test_what_is_due_after_its_newest_batch_was_forgotten_starts_for_the_other(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Nothing of a forgotten batch comes back, not even its name."""
    (request,) = many(fake_ledger, 1)
    ask(fake_ledger, request, batch=NEXT)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, Reason.BACKOFF, 5.0))
    fake_ledger.retention.forget(NEXT, unfinished=True)
    clock.advance(6.0)

    fake_ledger.dispatch.recover()

    redis, key = fake_ledger.connection.client, fake_ledger.connection.key
    assert sent_ids(fake_ledger) == [request.download_id]
    assert redis.smembers(key("open")) == {BATCH}
    assert redis.keys(key("batch", NEXT, "*")) == []


def test_what_no_batch_has_any_more_is_cancelled(fake_ledger: Ledger) -> None:
    """It waits for nothing when its only batch is forgotten, and goes with it."""
    (request,) = many(fake_ledger, 1)
    sent_ids(fake_ledger)
    fake_ledger.retention.forget(BATCH, unfinished=True)

    fake_ledger.retention.sweep()

    assert fake_ledger.leases.claim(request.download_id, "w") is Verdict.UNKNOWN
    assert fake_ledger.retention.sweep().left == 0


def test_a_state_that_is_none_costs_the_admission_of_no_other_download(
    fake_ledger: Ledger,
) -> None:
    """Another program wrote it: the download begins anew, and the block comes in whole."""
    requests = [request_of(name) for name in ("a", "b", "c")]
    ask(fake_ledger, requests[1])
    key = fake_ledger.connection.key("download", requests[1].download_id)
    fake_ledger.connection.client.hset(key, "state", "DONE")

    ask(fake_ledger, *requests, batch=NEXT)

    assert fake_ledger.reading.status(NEXT).total == 3
    assert {state_of(fake_ledger, one) for one in requests} == {State.PENDING}
    assert sorted(sent_ids(fake_ledger)) == sorted(one.download_id for one in requests)
    assert_counts_are_right(fake_ledger)


def test_the_list_of_a_paused_batch_does_not_grow(fake_ledger: Ledger) -> None:
    """Each try for the batch that goes on would put the download into it once more."""
    (request,) = many(fake_ledger, 1)
    ask(fake_ledger, request, batch=NEXT)
    fake_ledger.control.pause("batch", BATCH, "by hand")
    for _ in range(20):
        postponed(fake_ledger, claimed(fake_ledger, request))

    key = fake_ledger.connection.key("batch", BATCH, "ready", "geodes", ACCOUNT)
    assert fake_ledger.connection.client.llen(key) == 1


def test_a_batch_that_is_over_stays_so_when_another_fetches_its_file_again(
    fake_ledger: Ledger,
) -> None:
    """Its hook was called, and its age counts from its end."""
    fake_ledger.retention.newly_finished()
    (request,) = many(fake_ledger, 1)
    claim = claimed(fake_ledger, request)
    fake_ledger.leases.finish(claim, result_of(claim))
    first = [one.batch for one in fake_ledger.retention.newly_finished()]

    ask(fake_ledger, request, batch=NEXT)
    claim = claimed(fake_ledger, request)
    fake_ledger.leases.finish(claim, result_of(claim))

    assert first == [BATCH]
    assert [one.batch for one in fake_ledger.retention.newly_finished()] == [NEXT]


@pytest.mark.parametrize("end", ["finish", "fail", "postpone", "revoke"])
def test_the_name_of_a_forgotten_batch_counts_nothing_of_it(fake_ledger: Ledger, end: str) -> None:
    """What ran for a batch that was forgotten is none of the batch that has its name now."""
    old, new = request_of("old"), request_of("new")
    ask(fake_ledger, old)
    claim = claimed(fake_ledger, old)
    fake_ledger.control.withdraw(BATCH, [old.download_id])
    fake_ledger.retention.forget(BATCH, unfinished=True)
    ask(fake_ledger, new)

    if end == "finish":
        fake_ledger.leases.finish(claim, result_of(claim))
    elif end == "fail":
        fake_ledger.leases.fail(claim, TransferError("href", "reset"), ENTRY)
    elif end == "postpone":
        postponed(fake_ledger, claim, AGAIN_AT_ONCE)
    else:
        fake_ledger.leases.revoke(claim)

    status = fake_ledger.reading.status(BATCH)
    assert (status.total, status.unfinished, status.bytes_done) == (1, 1, 0)
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("batch", [BATCH, NEXT])
def test_what_is_enqueued_after_its_cancel_goes_on(
    fake_ledger: Ledger, batch: str, *, is_told: bool
) -> None:
    """A running download that is cancelled and enqueued again is downloaded, told or not yet."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    progress = [Progress(claim.download_id, claim.token, 3)]
    fake_ledger.control.withdraw(BATCH, [request.download_id])
    answers = fake_ledger.leases.renew(progress) if is_told else []

    ask(fake_ledger, request, batch=batch)

    if is_told:
        assert answers == [Renewal.CANCELLED]
        fake_ledger.leases.revoke(claim)
        claim = claimed(fake_ledger, request)
        assert claim.attempt == 1
    else:
        assert fake_ledger.leases.renew(progress) == [Renewal.OK]
    fake_ledger.leases.finish(claim, result_of(claim))
    assert state_of(fake_ledger, request) is State.SUCCESS
    # The batch that cancelled it has it no more, as if the other one had come first.
    assert fake_ledger.reading.status(BATCH).total == (batch == BATCH)
    assert_counts_are_right(fake_ledger)


def test_a_file_that_both_batches_cancelled_is_not_downloaded(fake_ledger: Ledger) -> None:
    """Cancelled by the first, enqueued by the second, cancelled by that one too."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    fake_ledger.control.withdraw(BATCH, [request.download_id])
    ask(fake_ledger, request, batch="other")

    assert fake_ledger.control.withdraw("other", [request.download_id]) == Withdrawn(1, 0)

    answer = fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)])
    assert answer == [Renewal.CANCELLED]
