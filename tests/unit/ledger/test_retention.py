"""Forgetting: a batch goes, with the records that no other batch has, and nothing else."""

from __future__ import annotations

import pytest

from geodes_tasks.errors import BatchUnfinishedError, UnknownBatchError
from geodes_tasks.ledger import Admission, Ledger, Withdrawn
from geodes_tasks.ledger.leases import Progress, Renewal
from geodes_tasks.ledger.retention import BLOCK, DAY_S, HOOKS_S, Forgotten
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
    result_of,
    sent_ids,
    state_of,
)


def forgotten(ledger: Ledger, batch: str = BATCH, *, unfinished: bool = False) -> Forgotten:
    """Forget a batch with its records."""
    ledger.retention.forget(batch, unfinished=unfinished)
    return ledger.retention.sweep()


def left_of(ledger: Ledger) -> set[str]:
    """Name the keys that only downloads and batches have."""
    kinds = ("download:", "batch:", "batches", "paths", "forgotten", "since:", "account:acc:ring")
    names = [
        name.removeprefix(ledger.connection.prefix) for name in ledger.connection.client.keys("*")
    ]
    return {name for name in names if name.startswith(kinds)}


def test_nothing_is_left_of_a_forgotten_batch(fake_ledger: Ledger) -> None:
    """Records, paths, lists and counts go; counters of what was transferred stay."""
    for number in range(BLOCK + 5):
        ask(fake_ledger, request_of(f"n{number}"))
    fake_ledger.control.cancel(list(fake_ledger.reading.downloads(BATCH)))
    proven(fake_ledger, request_of("good"))
    failed(fake_ledger, request_of("bad"))

    done = forgotten(fake_ledger)

    assert done == Forgotten(removed=BLOCK + 7, left=0)
    assert left_of(fake_ledger) == set()
    assert (fake_ledger.reading.batches(), fake_ledger.dispatch.release()) == ([], [])
    assert_totals_are_right(fake_ledger)
    assert fake_ledger.reading.totals().parts("bytes") == {"geodes:PEPS_S2_L1C": 10}


def test_forgetting_twice_is_forgetting_once(fake_ledger: Ledger) -> None:
    """The second time there is no such batch, and nothing more goes."""
    proven(fake_ledger, request_of())
    forgotten(fake_ledger)

    with pytest.raises(UnknownBatchError, match="'b' is not in the ledger"):
        fake_ledger.retention.forget(BATCH)

    assert fake_ledger.retention.sweep() == Forgotten()


def test_a_batch_that_grows_while_it_is_forgotten_is_kept(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague enqueues into it between the look and the removal: nothing of theirs is lost."""
    proven(fake_ledger, request_of())
    run = fake_ledger.connection.run

    def run_late(script: str, *args: object) -> object:
        if script == "forget_batch":
            monkeypatch.undo()
            ask(fake_ledger, request_of("late"))
        return run(script, *args)

    monkeypatch.setattr(fake_ledger.connection, "run", run_late)

    with pytest.raises(BatchUnfinishedError):
        fake_ledger.retention.forget(BATCH)

    assert fake_ledger.reading.status(BATCH).total == 2


def test_a_batch_that_grows_while_its_end_is_noted_is_open(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is noted when the download that came late has ended, too."""
    proven(fake_ledger, request_of())
    server_time = fake_ledger.connection.server_time
    calls: list[int] = []

    def late() -> float:
        calls.append(1)
        if len(calls) == 2:
            monkeypatch.undo()
            ask(fake_ledger, request_of("late"))
        return server_time()

    monkeypatch.setattr(fake_ledger.connection, "server_time", late)
    fake_ledger.retention.end_batches()

    client, key = fake_ledger.connection.client, fake_ledger.connection.key
    assert len(calls) == 2
    assert client.smembers(key("open")) == {BATCH}
    assert client.hget(key("batch", BATCH), "finished") is None


def test_an_unfinished_batch_is_kept(fake_ledger: Ledger) -> None:
    """What is queued, runs or waits keeps its batch; nothing is changed by the asking."""
    ask(fake_ledger, request_of("a"), request_of("b"))
    claimed(fake_ledger, request_of("a"))

    with pytest.raises(BatchUnfinishedError, match=r"has unfinished downloads \(2\)"):
        fake_ledger.retention.forget(BATCH)

    assert fake_ledger.reading.status(BATCH).total == 2
    assert_counts_are_right(fake_ledger)


def test_what_another_batch_has_stays(fake_ledger: Ledger) -> None:
    """A record in two batches stays with the other one, with its proof and its path."""
    shared, alone = request_of("shared"), request_of("alone")
    proven(fake_ledger, shared)
    proven(fake_ledger, alone)
    ask(fake_ledger, shared, batch="other", at=PROOF)

    done = forgotten(fake_ledger)

    assert done == Forgotten(removed=1)
    assert [r.download_id for r in fake_ledger.reading.records("other")] == [shared.download_id]
    assert_counts_are_right(fake_ledger)
    (answer,) = ask(fake_ledger, shared, batch="third", at=PROOF)
    assert answer.admission is Admission.PRESENT


def test_forced_what_others_wait_for_goes_on(fake_ledger: Ledger) -> None:
    """Forgotten by the batch that it was served for, a queued download is served for the other."""
    shared = request_of("shared")
    ask(fake_ledger, shared, batch="first")
    ask(fake_ledger, shared, request_of("alone"), batch="second")
    withdrawn = fake_ledger.control.withdraw(
        "second", list(fake_ledger.reading.downloads("second"))
    )

    done = forgotten(fake_ledger, "second", unfinished=True)

    assert withdrawn == Withdrawn(cancelled=1, left=1)
    assert done == Forgotten(removed=1)
    assert sent_ids(fake_ledger) == [shared.download_id]
    assert_counts_are_right(fake_ledger)


def test_what_runs_goes_when_it_has_stopped(fake_ledger: Ledger) -> None:
    """A running download is told to stop and stays until it has; its part files are swept first."""
    ask(fake_ledger, request_of())
    claim = claimed(fake_ledger, request_of())
    fake_ledger.control.withdraw(BATCH, list(fake_ledger.reading.downloads(BATCH)))

    first = forgotten(fake_ledger, unfinished=True)
    answer = fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)])
    fake_ledger.leases.revoke(claim)
    last = fake_ledger.retention.sweep()

    assert (first, last) == (Forgotten(left=1), Forgotten(removed=1))
    assert answer == [Renewal.CANCELLED]
    assert left_of(fake_ledger) == set()
    assert_totals_are_right(fake_ledger)


def test_litter_is_swept_first(fake_ledger: Ledger, clock: Clock) -> None:
    """The record stays as long as somebody needs it to find part files of a dead attempt."""
    ask(fake_ledger, request_of())
    claimed(fake_ledger, request_of())
    fake_ledger.dispatch.recover()
    fake_ledger.control.cancel(list(fake_ledger.reading.downloads(BATCH)))
    for seconds in (30.0, 31.0, 5.0):
        clock.advance(seconds)
        fake_ledger.dispatch.recover()
    before = state_of(fake_ledger, request_of())

    first = forgotten(fake_ledger)
    swept = fake_ledger.retention.litter()
    clock.advance(1.0)
    last = fake_ledger.retention.sweep()

    assert before is State.REVOKED
    assert (first, last) == (Forgotten(left=1), Forgotten(removed=1))
    assert [one.path for one in swept] == [request_of().path]


def test_a_forgotten_name_may_be_used_again(fake_ledger: Ledger) -> None:
    """A new batch of the same name has its own downloads, also before the old ones are gone."""
    old, new = request_of("old"), request_of("new")
    proven(fake_ledger, old)
    fake_ledger.retention.forget(BATCH)
    ask(fake_ledger, new)

    done = fake_ledger.retention.sweep()

    assert done == Forgotten(removed=1)
    assert [r.download_id for r in fake_ledger.reading.records(BATCH)] == [new.download_id]
    assert_counts_are_right(fake_ledger)


def test_a_forgotten_file_is_looked_at_anew(fake_ledger: Ledger) -> None:
    """Its proof is gone with its record: asked for again, the worker reads it."""
    proven(fake_ledger, request_of())
    forgotten(fake_ledger)

    (answer,) = ask(fake_ledger, request_of())

    assert answer.admission is Admission.NEW


def test_batches_by_age(fake_ledger: Ledger, clock: Clock) -> None:
    """Only what was asked for longer ago is old, the oldest first."""
    for name in ("first", "second"):
        ask(fake_ledger, request_of(name), batch=name)
        clock.advance(100.0)
    ask(fake_ledger, request_of("third"), batch="third")

    assert fake_ledger.retention.older_batches(50.0) == ["first", "second"]
    assert fake_ledger.retention.older_batches(500.0) == []
    assert ACCOUNT in fake_ledger.dispatch.accounts()


def test_the_age_of_a_batch_counts_from_its_end(fake_ledger: Ledger, clock: Clock) -> None:
    """A batch that took longer than its age allows is kept as long after its end."""
    ask(fake_ledger, request_of("a"))
    clock.advance(40 * DAY_S)
    claim = claimed(fake_ledger, request_of("a"))
    fake_ledger.leases.finish(claim, result_of(claim))
    fake_ledger.retention.end_batches()
    clock.advance(20 * DAY_S)
    fake_ledger.retention.forget_older(30.0)
    kept = fake_ledger.reading.batches()
    clock.advance(20 * DAY_S)

    fake_ledger.retention.forget_older(30.0)

    assert (kept, fake_ledger.reading.batches()) == ([BATCH], [])


def test_a_batch_that_is_enqueued_again_is_not_too_old(fake_ledger: Ledger, clock: Clock) -> None:
    """Between two blocks of its enqueue nothing of it is unfinished; it stays, with its proofs."""
    proven(fake_ledger, request_of("a"))
    fake_ledger.admission.end(BATCH)
    fake_ledger.retention.end_batches()
    clock.advance(40 * DAY_S)
    fake_ledger.admission.admit(BATCH, ACCOUNT, [request_of("a")], lambda _: PROOF)()

    fake_ledger.retention.forget_older(30.0)

    ask(fake_ledger, request_of("b"))
    assert fake_ledger.reading.status(BATCH).total == 2
    assert fake_ledger.retention.proofs([request_of("a").download_id])


def test_nothing_is_kept_for_hooks_that_no_worker_has_any_more(fake_ledger: Ledger) -> None:
    """What ends is kept for a while after the last worker with hooks, and is removed then."""
    client, key = fake_ledger.connection.client, fake_ledger.connection.key
    fake_ledger.retention.newly_finished()
    proven(fake_ledger, request_of("a"))
    fake_ledger.retention.end_batches()
    left = [client.ttl(key(name)) for name in ("hooks", "over")]
    assert all(0 < seconds <= HOOKS_S for seconds in left), left
    assert client.hlen(key("over")) == 1

    client.delete(key("hooks"), key("over"))  # that time is over
    proven(fake_ledger, request_of("b"), batch="later")
    fake_ledger.retention.end_batches()

    assert not client.exists(key("over"))


def test_a_turn_reads_some_of_what_stays_and_the_next_one_the_rest(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """A worker reads no more of a forgotten batch at once, however many part files keep records."""
    requests = [request_of(f"r{number}") for number in range(2 * BLOCK)]
    ask(fake_ledger, *requests)
    for request in requests:
        claim = claimed(fake_ledger, request)
        postponed(fake_ledger, claim, Decision(True, Reason.BACKOFF, delay_s=30.0))
    fake_ledger.control.cancel([one.download_id for one in requests])
    fake_ledger.retention.forget(BATCH)

    turns = []
    for _ in range(2):
        clock.advance(1.0)
        turns.append(fake_ledger.retention.sweep(BLOCK))
    last = fake_ledger.retention.litter(BLOCK)
    for _ in range(2):
        clock.advance(1.0)
        turns.append(fake_ledger.retention.sweep(BLOCK))

    assert len(last) == BLOCK
    assert turns[:2] == [Forgotten(left=BLOCK)] * 2
    assert sum(turns[2:], Forgotten()) == Forgotten(removed=BLOCK, left=BLOCK)
    assert_totals_are_right(fake_ledger)
