"""One-machine runs, one after another: what each leaves, and what the next one takes up."""

from __future__ import annotations

from geodes_tasks.ledger import Admission, Ledger, Progress, Renewal
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import (
    ACCOUNT,
    BATCH,
    PROOF,
    ask,
    assert_counts_are_right,
    assert_totals_are_right,
    claimed,
    failed,
    postponed,
    proven,
    request_of,
    sent_ids,
    state_of,
)

DAY_S = 86400.0
"""Seconds of a day."""


def test_a_file_is_in_the_batch_of_the_last_run_alone(fake_ledger: Ledger) -> None:
    """However often it is enqueued: an earlier batch keeps the rest, and goes with its last one."""
    proven(fake_ledger, request_of("a"), batch="monday")
    failed(fake_ledger, request_of("b"), batch="monday")
    fake_ledger.control.begin_run([])

    ask(fake_ledger, request_of("a"), batch="tuesday", at=PROOF)
    rest = [record.item_id for record in fake_ledger.reading.records("monday")]
    ask(fake_ledger, request_of("b"), batch="tuesday")

    assert rest == [request_of("b").asset.item_id]
    assert fake_ledger.reading.batches() == ["tuesday"]
    assert fake_ledger.reading.failures("tuesday") == []
    assert_counts_are_right(fake_ledger)
    assert_totals_are_right(fake_ledger)


def test_a_lease_of_a_killed_run_holds_nothing_up(fake_ledger: Ledger) -> None:
    """The file that was under way is enqueued again and can start at once."""
    fake_ledger.control.begin_run([])
    ask(fake_ledger, request_of("a"), batch="monday")
    claimed(fake_ledger, request_of("a"))
    fake_ledger.control.begin_run([])

    ask(fake_ledger, request_of("a"), batch="tuesday")

    assert sent_ids(fake_ledger) == [request_of("a").download_id]


def test_what_is_enqueued_between_two_runs_is_for_the_next(fake_ledger: Ledger) -> None:
    """It is not taken for what an earlier run left; in the run after next it is."""
    fake_ledger.control.begin_run([])
    fake_ledger.control.end_run()
    ask(fake_ledger, request_of("a"), batch="between")

    fake_ledger.control.begin_run([])
    sent = sent_ids(fake_ledger)
    fake_ledger.control.begin_run([])
    while fake_ledger.control.end_left_overs():
        pass

    assert sent == [request_of("a").download_id]
    assert state_of(fake_ledger, request_of("a")) is State.REVOKED


def test_a_batch_with_a_handle_is_continued_until_it_is_over(fake_ledger: Ledger) -> None:
    """Interrupted runs of other batches do not cancel it; when it is over it is one of the past."""
    ask(fake_ledger, request_of("a"), batch="handle")
    ask(fake_ledger, request_of("b"), batch="other")
    fake_ledger.control.keep("handle")
    fake_ledger.control.keep("unknown")

    for _ in range(2):
        fake_ledger.control.begin_run([])
        while fake_ledger.control.end_left_overs():
            pass
    sent = sent_ids(fake_ledger)
    fake_ledger.control.cancel([request_of("a").download_id])
    fake_ledger.control.begin_run([])
    ask(fake_ledger, request_of("a"), batch="new")

    assert sent == [request_of("a").download_id]
    assert state_of(fake_ledger, request_of("b")) is State.REVOKED
    assert "unknown" not in fake_ledger.reading.batches()
    assert "handle" not in fake_ledger.reading.batches()
    assert_counts_are_right(fake_ledger)


def test_what_is_retried_between_two_runs_is_for_the_next(fake_ledger: Ledger) -> None:
    """The retry of a batch of an earlier run is taken up by the next one; the rest stays ended."""
    failed(fake_ledger, request_of("a"), batch="monday")
    ask(fake_ledger, request_of("b"), batch="monday")
    fake_ledger.control.begin_run([])
    fake_ledger.control.end_run()
    while fake_ledger.control.end_left_overs():
        pass

    fake_ledger.control.retry([request_of("a").download_id])
    fake_ledger.control.begin_run([])

    assert not fake_ledger.control.end_left_overs()
    assert sent_ids(fake_ledger) == [request_of("a").download_id]
    assert state_of(fake_ledger, request_of("b")) is State.REVOKED


def test_a_pause_by_hand_outlasts_the_run(fake_ledger: Ledger) -> None:
    """And so does a limit; other pauses end with the run: the next one may have a new key."""
    ask(fake_ledger, request_of("a"))
    fake_ledger.account.pause(ACCOUNT, "auth")
    fake_ledger.control.begin_run([])
    (after_auth,) = fake_ledger.account.states()
    fake_ledger.control.pause_account(ACCOUNT, "by hand")
    fake_ledger.control.pause("source", "s3", "by hand")
    fake_ledger.account.set_limit(ACCOUNT, 2)

    fake_ledger.control.begin_run([])

    assert after_auth.paused is None
    assert [(one.paused, one.concurrent, one.why) for one in fake_ledger.account.states()] == [
        ("by hand", 2, "set by hand")
    ]
    assert ("source", "s3") in fake_ledger.control.pauses()


def test_nothing_waits_for_a_key_in_a_run_that_continues_a_batch(fake_ledger: Ledger) -> None:
    """The new run may have a new key; what an earlier run left so is ended."""
    wanted, left = request_of("wanted"), request_of("left")
    for request, batch in ((wanted, "tuesday"), (left, "monday")):
        ask(fake_ledger, request, batch=batch)
        decision = Decision(True, Reason.AUTH, counted=False, pause="key")
        postponed(fake_ledger, claimed(fake_ledger, request), decision)
        fake_ledger.account.reset(ACCOUNT)

    fake_ledger.control.begin_run([], ["tuesday"])

    assert fake_ledger.reading.status("tuesday").waiting == {}
    assert sent_ids(fake_ledger) == [wanted.download_id]
    assert state_of(fake_ledger, left) is State.REVOKED


def test_old_batches_go_and_the_stats_of_their_files_stay(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Forgotten, a file costs one stat again; its batch and its failures are gone."""
    fake_ledger.control.begin_run([])
    proven(fake_ledger, request_of("a"), batch="monday")
    failed(fake_ledger, request_of("b"), batch="monday")
    clock.advance(10 * DAY_S)
    proven(fake_ledger, request_of("c"), batch="young")
    clock.advance(25 * DAY_S)
    fake_ledger.control.begin_run([])

    fake_ledger.retention.forget_older(30.0)

    assert fake_ledger.reading.batches() == ["young"]
    assert fake_ledger.reading.record(request_of("b").download_id) is None
    (answer,) = ask(fake_ledger, request_of("a"), batch="tuesday", at=PROOF)
    assert answer.admission is Admission.PRESENT
    assert not fake_ledger.connection.client.exists(fake_ledger.connection.key("kept"))
    assert_counts_are_right(fake_ledger)


def test_a_private_ledger_can_be_emptied(fake_ledger: Ledger) -> None:
    """The stats of forgotten batches can be forgotten too; those of others stay."""
    fake_ledger.control.begin_run([])
    proven(fake_ledger, request_of("a"), batch="monday")
    proven(fake_ledger, request_of("b"), batch="tuesday")
    fake_ledger.retention.forget("monday")
    fake_ledger.retention.sweep()

    fake_ledger.retention.forget_stats()

    assert fake_ledger.reading.record(request_of("a").download_id) is None
    assert state_of(fake_ledger, request_of("b")) is State.SUCCESS
    assert_totals_are_right(fake_ledger)


def test_an_unfinished_batch_is_never_too_old(fake_ledger: Ledger, clock: Clock) -> None:
    """What still waits on a shared ledger is kept, however long ago it was enqueued."""
    ask(fake_ledger, request_of("a"))
    clock.advance(100 * DAY_S)

    fake_ledger.retention.forget_older(30.0)

    assert state_of(fake_ledger, request_of("a")) is State.PENDING


def test_what_runs_in_a_forgotten_batch_ends_itself(fake_ledger: Ledger) -> None:
    """Its attempt removes its part files and gives its lease back, as on a shared ledger."""
    fake_ledger.control.begin_run([])
    request = request_of("a")
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    fake_ledger.control.withdraw(BATCH, [request.download_id])
    fake_ledger.retention.forget(BATCH, unfinished=True)

    fake_ledger.retention.sweep()

    assert fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)]) == [
        Renewal.CANCELLED
    ]
    fake_ledger.leases.revoke(claim)
    fake_ledger.retention.sweep()
    assert fake_ledger.reading.record(request.download_id) is None
    assert fake_ledger.account.states()[0].running == 0
    assert_totals_are_right(fake_ledger)


def test_downloads_of_one_score_end_in_one_block(fake_ledger: Ledger) -> None:
    """Two commands that enqueue into one batch at once may give two downloads one place."""
    requests = [request_of(name) for name in "abc"]
    ask(fake_ledger, *requests, batch="earlier")
    ids = [one.download_id for one in requests]
    connection = fake_ledger.connection
    downloads = connection.key("batch", "earlier", "downloads")
    connection.client.zadd(downloads, dict.fromkeys(ids, 7))
    fake_ledger.control.begin_run([])

    while fake_ledger.control.end_left_overs(1):
        pass

    assert fake_ledger.reading.status("earlier").states[State.REVOKED] == 3
