"""The ledger: every script through its Python method; no clock is waited for."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import fakeredis
import pytest
import redis

from geodes_tasks.errors import (
    AuthError,
    ChecksumMismatchError,
    LeaseLostError,
    LedgerSchemaError,
    LedgerUnavailableError,
    NameTakenError,
    NoDataAssetError,
    TransferError,
    UnknownBatchError,
)
from geodes_tasks.ledger import (
    Admission,
    Admitted,
    Claim,
    Ledger,
    Limits,
    Progress,
    Refusal,
    Renewal,
    Request,
    Verdict,
    Withdrawn,
    redis_client,
    script_loader,
)
from geodes_tasks.ledger.reading import TURN
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import Decision, DownloadRecord, DownloadResult, Proof
from geodes_tasks.model.states import ALLOWED_MOVES, Outcome, Reason, State
from tests.conftest import Clock, asset_of, md5, publish_limits

BATCH, ACCOUNT = "b", "acc"
PROOF = Proof(7, 123, 45)
ENTRY = {"at": "now", "worker": "w", "source": "geodes", "bytes": 3, "transferred": 3, "error": "x"}
AGAIN_AT_ONCE = Decision(True, Reason.WORKER_STOPPED, counted=False)


def request_of(name: str = "a", content: bytes = b"content", **fields: object) -> Request:
    """Ask for a file of this name."""
    asset: Asset = asset_of(content, f"{name}.zip", **fields)
    return Request(asset, f"/data/{name}.zip")


def ask(
    ledger: Ledger, *requests: Request, batch: str = BATCH, at: Proof | None = None
) -> list[Admitted]:
    """Admit requests; ``at`` is what a stat shows at every path."""
    answers = ledger.admission.admit(batch, ACCOUNT, requests, lambda _: at)()
    ledger.admission.end(batch)
    return answers


def claimed(ledger: Ledger, request: Request, worker: str = "w") -> Claim:
    """Claim what must be free to claim."""
    answer = ledger.leases.claim(request.download_id, worker)
    assert isinstance(answer, Claim)
    return answer


def result_of(claim: Claim, **fields: object) -> DownloadResult:
    """Make the result of a right download."""
    known: dict[str, object] = {
        "outcome": Outcome.DOWNLOADED,
        "path": claim.path,
        "size_bytes": claim.asset.size_bytes or 7,
        "checksum": claim.asset.checksum,
        "verified": True,
        "bytes_transferred": 7,
        "source": "geodes",
        "proof": PROOF,
    }
    return DownloadResult(**known | fields)  # type: ignore[arg-type] # one dict of all types


def proven(ledger: Ledger, request: Request, batch: str = BATCH) -> Claim:
    """Ask for a download and bring it to SUCCESS."""
    ask(ledger, request, batch=batch)
    claim = claimed(ledger, request)
    ledger.leases.finish(claim, result_of(claim))
    return claim


def postponed(ledger: Ledger, claim: Claim, decision: Decision = AGAIN_AT_ONCE) -> None:
    """Let an attempt fail for a while."""
    ledger.leases.postpone(claim, TransferError("href", "reset"), decision, ENTRY)


def failed(ledger: Ledger, request: Request, batch: str = BATCH) -> None:
    """Ask for a download and bring it to FAILURE."""
    ask(ledger, request, batch=batch)
    ledger.leases.fail(claimed(ledger, request), TransferError("href", "reset"), ENTRY)


def record_of(ledger: Ledger, request: Request) -> DownloadRecord:
    """Read a record that must be there."""
    record = ledger.reading.record(request.download_id)
    assert record is not None
    return record


def state_of(ledger: Ledger, request: Request) -> State:
    """Read a state."""
    return record_of(ledger, request).state


def assert_counts_are_right(ledger: Ledger) -> None:
    """Compare the counters of every batch with a count over its records."""
    for batch in ledger.reading.batches():
        status = ledger.reading.status(batch)
        records = list(ledger.reading.records(batch))
        rows = [
            ledger.connection.client.hgetall(ledger.connection.key("download", r.download_id))
            for r in records
        ]
        assert status.total == len(records)
        assert nonzero(status.states) == Counter(str(r.state) for r in records)
        assert nonzero(status.outcomes) == Counter(str(r.outcome) for r in records if r.outcome)
        assert nonzero(status.waiting) == Counter(str(r.reason) for r in records if r.reason)
        assert status.bytes_total == sum(int(row.get("size", 0)) for row in rows)
        assert status.bytes_done == sum(int(row.get("done", 0)) for row in rows)
        unsuccessful = {State.FAILURE, State.REVOKED}
        assert status.bytes_left == sum(
            int(row.get("size", 0)) - int(row.get("done", 0))
            for row in rows
            if row["state"] not in unsuccessful
        )
    assert_totals_are_right(ledger)


def assert_totals_are_right(ledger: Ledger) -> None:
    """Compare the counters of the whole ledger with a count over all records."""
    names = ledger.connection.client.keys(ledger.connection.key("download", "*"))
    rows = {name.rpartition(":")[2]: ledger.connection.client.hgetall(name) for name in names}
    totals = ledger.reading.totals()
    outcomes = [row["outcome"] for row in rows.values() if row["state"] == State.SUCCESS]
    assert nonzero(totals.states) == Counter(row["state"] for row in rows.values())
    assert nonzero(totals.parts("outcome")) == Counter(outcomes)
    assert nonzero(totals.parts("waiting")) == Counter(
        row["reason"] for row in rows.values() if row.get("reason")
    )
    for reason in (*Reason, TURN):
        waits = {
            one
            for one, row in rows.items()
            if row.get("reason") == reason or (reason == TURN and row["state"] == State.PENDING)
        }
        assert (
            set(ledger.connection.client.zrange(ledger.connection.key("since", reason), 0, -1))
            == waits
        )


def nonzero(counts: object) -> dict[str, int]:
    """Leave out what is 0."""
    return {name: count for name, count in dict(counts).items() if count}  # type: ignore[call-overload]


def sent_ids(ledger: Ledger) -> list[str]:
    """Release, and name what messages are to be sent for."""
    return [wakeup.download_id for wakeup in ledger.dispatch.release()]


# --- admit ---------------------------------------------------------------------------------------


def test_a_new_download_is_pending(fake_ledger: Ledger) -> None:
    """What was never asked for is queued, with all that the catalogue says of it."""
    request = request_of()

    answers = ask(fake_ledger, request)

    record = record_of(fake_ledger, request)
    assert [a.admission for a in answers] == [Admission.NEW]
    assert (record.state, record.attempts, record.path) == (State.PENDING, 0, request.path)
    assert (record.checksum, record.size_bytes) == (str(md5(b"content")), 7)
    assert_counts_are_right(fake_ledger)


def test_asking_twice_is_asking_once(fake_ledger: Ledger) -> None:
    """The same download in the same batch is counted once and sent once."""
    request = request_of()

    answers = ask(fake_ledger, request, request) + ask(fake_ledger, request)

    assert [a.admission for a in answers] == [Admission.NEW, Admission.JOINED, Admission.JOINED]
    assert fake_ledger.reading.status(BATCH).total == 1
    assert sent_ids(fake_ledger) == [request.download_id]
    assert_counts_are_right(fake_ledger)


def test_two_batches_share_one_download(fake_ledger: Ledger) -> None:
    """A running download counts in a second batch too, and ends in both."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)])

    joined = ask(fake_ledger, request, batch="second")[0].admission
    during = fake_ledger.reading.status("second")
    fake_ledger.leases.finish(claim, result_of(claim))

    assert joined is Admission.JOINED
    assert (during.states[State.STARTED], during.bytes_done) == (1, 3)
    assert [fake_ledger.reading.status(b).states[State.SUCCESS] for b in (BATCH, "second")] == [
        1,
        1,
    ]
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize(
    ("found", "expected"),
    [(PROOF, Admission.PRESENT), (Proof(7, 124, 45), Admission.AGAIN), (None, Admission.AGAIN)],
)
def test_a_proven_file_is_looked_at_once(
    fake_ledger: Ledger, found: Proof | None, expected: Admission
) -> None:
    """Unchanged, one stat is enough; changed or gone, the download begins anew."""
    request = request_of()
    proven(fake_ledger, request)

    answers = ask(fake_ledger, request, batch="second", at=found)

    assert [a.admission for a in answers] == [expected]
    assert_counts_are_right(fake_ledger)


def test_a_present_file_says_so(fake_ledger: Ledger, clock: Clock) -> None:
    """In the batch that found it; that which fetched it keeps its outcome, bytes, times, source."""
    request = request_of()
    proven(fake_ledger, request)
    (before,) = fake_ledger.reading.records(BATCH)
    clock.advance(60.0)

    for name in ("second", "a third", "second"):
        ask(fake_ledger, request, batch=name, at=PROOF)

    (first,), (record,) = map(list, map(fake_ledger.reading.records, (BATCH, "second")))
    assert first == before == record_of(fake_ledger, request)
    assert (record.state, record.outcome) == (State.SUCCESS, Outcome.ALREADY_PRESENT)
    assert (record.bytes_transferred, record.source, record.verified) == (0, None, True)
    assert (record.started_at, dict(record.sources)) == (None, {})
    assert str(record.finished_at) > str(before.finished_at)
    assert fake_ledger.dispatch.release() == []
    assert_counts_are_right(fake_ledger)


def test_a_present_file_that_is_fetched_again_is_that_in_all_batches(fake_ledger: Ledger) -> None:
    """What a batch found is gone with the file, and what a forgotten batch found with the batch."""
    request = request_of()
    proven(fake_ledger, request)
    ask(fake_ledger, request, batch="gone", at=PROOF)
    fake_ledger.retention.forget("gone")
    ask(fake_ledger, request, batch="second", at=PROOF)
    key = fake_ledger.connection.key("download", request.download_id)
    found = [name for name in fake_ledger.connection.client.hkeys(key) if "present" in name]
    ask(fake_ledger, request, batch="third", at=None)
    fake_ledger.leases.finish(claim := claimed(fake_ledger, request), result_of(claim))

    assert found == ["present:second"]
    for name in (BATCH, "second", "third"):
        assert nonzero(fake_ledger.reading.status(name).outcomes) == {"DOWNLOADED": 1}
    assert_counts_are_right(fake_ledger)


def test_only_files_that_were_proven_are_looked_at(fake_ledger: Ledger) -> None:
    """A new download costs no stat on a slow shared file system."""
    looked: list[str] = []

    def stat(request: Request) -> Proof | None:
        looked.append(request.path)
        return PROOF

    old, new = request_of("old"), request_of("new")
    proven(fake_ledger, old)
    answers = fake_ledger.admission.admit(BATCH, ACCOUNT, [new, old], stat)()

    assert looked == [old.path]
    assert [a.admission for a in answers] == [Admission.NEW, Admission.PRESENT]


@pytest.mark.parametrize("end", ["failed", "revoked"])
def test_what_ended_badly_begins_anew(fake_ledger: Ledger, end: str) -> None:
    """A failure or a cancellation is no verdict for ever: asked again, it is forgotten."""
    request = request_of()
    if end == "failed":
        failed(fake_ledger, request)
    else:
        ask(fake_ledger, request)
        fake_ledger.control.cancel([request.download_id])

    answer = ask(fake_ledger, request)[0].admission

    record = record_of(fake_ledger, request)
    assert answer is Admission.AGAIN
    assert (record.state, record.error, record.attempts) == (State.PENDING, None, 0)
    assert (record.finished_at, record.history) == (None, ())
    assert_counts_are_right(fake_ledger)


def test_a_path_belongs_to_one_file(fake_ledger: Ledger) -> None:
    """Two files that want one path: the second is refused, and told who has it."""
    first = request_of("a", b"one")
    second = Request(asset_of(b"two", "b.zip"), first.path)

    answers = ask(fake_ledger, first, second)

    assert [a.admission for a in answers] == [Admission.NEW, Admission.TAKEN]
    assert isinstance(answers[1].error, NameTakenError)
    assert answers[1].error.other == first.asset.item_id
    assert fake_ledger.reading.record(second.download_id) is None
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize("proven_first", [False, True])
def test_a_newer_version_waits_for_the_older_one(fake_ledger: Ledger, proven_first: bool) -> None:
    """Other bytes of the same item may take the path, but not from a download under way."""
    old = request_of("a", b"one", item_id="URN:x:V1", key="data")
    new = request_of("a", b"two", item_id="URN:x:V2", key="data")
    if proven_first:
        proven(fake_ledger, old)
    else:
        ask(fake_ledger, old)

    answer = ask(fake_ledger, new)[0]

    assert answer.admission is (Admission.NEW if proven_first else Admission.TAKEN)
    assert "still under way" in str(answer.error) or proven_first


def test_a_proven_file_of_another_item_is_not_overwritten(fake_ledger: Ledger) -> None:
    """A path that holds another item's proven file is taken."""
    proven(fake_ledger, request_of("a", b"one"))
    other = request_of("a", b"two", item_id="URN:other:V1")

    answer = ask(fake_ledger, other)[0]

    assert answer.admission is Admission.TAKEN


def test_a_failed_download_leaves_its_path(fake_ledger: Ledger) -> None:
    """Who failed holds no name."""
    failed(fake_ledger, request_of("a", b"one"))

    answer = ask(fake_ledger, request_of("a", b"two", item_id="URN:other:V1"))[0]

    assert answer.admission is Admission.NEW


def test_asking_again_does_not_take_a_path_back(fake_ledger: Ledger) -> None:
    """A failed download whose path went to another file is not queued on top of that file."""
    loser = request_of("a", b"one")
    failed(fake_ledger, loser)
    winner = request_of("a", b"two", item_id="URN:other:V1")
    proven(fake_ledger, winner)

    fake_ledger.control.retry([loser.download_id])

    assert state_of(fake_ledger, loser) is State.FAILURE


def test_bytes_are_counted_once_where_the_catalogue_is_silent(fake_ledger: Ledger) -> None:
    """A file whose size only the transfer told counts once, however often it is asked for."""
    request = request_of(size_bytes=None)
    proven(fake_ledger, request)

    proven(fake_ledger, request)

    assert_counts_are_right(fake_ledger)


def test_a_batch_is_unknown_until_somebody_asks(fake_ledger: Ledger) -> None:
    """An unknown batch is an error, an unknown download is None: neither is PENDING."""
    with pytest.raises(UnknownBatchError, match="'nothing' is not in the ledger"):
        fake_ledger.reading.status("nothing")
    with pytest.raises(UnknownBatchError, match="'nothing' is not in the ledger"):
        list(fake_ledger.reading.downloads("nothing"))

    assert fake_ledger.reading.record("nothing") is None
    assert fake_ledger.leases.claim("nothing", "w") is Verdict.UNKNOWN


def test_nothing_asked_for_makes_no_batch(fake_ledger: Ledger) -> None:
    """An empty block changes nothing."""
    assert ask(fake_ledger) == []
    fake_ledger.admission.refuse(BATCH, ACCOUNT, [])

    assert fake_ledger.reading.batches() == []


def test_the_order_of_asking_is_the_order_of_the_report(fake_ledger: Ledger) -> None:
    """Records come as they were asked for, over several blocks."""
    requests = [request_of(f"f{number}") for number in range(7)]
    ask(fake_ledger, *requests[:3])
    ask(fake_ledger, *requests[3:])

    assert list(fake_ledger.reading.downloads(BATCH)) == [
        request.download_id for request in requests
    ]


# --- refuse --------------------------------------------------------------------------------------


def refusal_of(item: str = "URN:bad") -> Refusal:
    """Make something that can never be downloaded."""
    return Refusal(item, "C", "", NoDataAssetError(item, "no asset is left"))


def test_a_refusal_is_a_failure_with_a_reason(fake_ledger: Ledger) -> None:
    """Reports name what cannot be downloaded, and why, and count it once."""
    for _ in range(2):
        fake_ledger.admission.refuse(BATCH, ACCOUNT, [refusal_of()])

    (record,) = fake_ledger.reading.records(BATCH)
    assert (record.item_id, record.state, record.path) == ("URN:bad", State.FAILURE, "")
    assert record.error is not None
    assert record.error.type == "NoDataAssetError"
    assert_counts_are_right(fake_ledger)


def test_a_refusal_cannot_be_asked_for_again(fake_ledger: Ledger) -> None:
    """Without an href there is nothing to try: only a new item mends it."""
    fake_ledger.admission.refuse(BATCH, ACCOUNT, [refusal_of()])

    begun = fake_ledger.control.retry([refusal_of().download_id])

    assert begun == 0
    assert_counts_are_right(fake_ledger)


# --- release -------------------------------------------------------------------------------------


def many(ledger: Ledger, count: int, batch: str = BATCH, start: int = 0) -> list[Request]:
    """Ask for many downloads."""
    requests = [request_of(f"{batch}{number}") for number in range(start, start + count)]
    ask(ledger, *requests, batch=batch)
    return requests


def with_limits(ledger: Ledger, **limits: object) -> Ledger:
    """Return the same ledger as workers with other settings have it, which they publish."""
    other = replace(ledger.connection.limits, **limits)  # type: ignore[arg-type] # fields of any type
    same = Ledger(ledger.connection.client, other)
    publish_limits(same)
    return same


def test_messages_are_bounded_by_the_window(fake_ledger: Ledger) -> None:
    """A hundred thousand downloads do not become as many messages."""
    ledger = with_limits(fake_ledger, window=5)
    many(ledger, 12)

    first, second = sent_ids(ledger), sent_ids(ledger)

    assert (len(first), second) == (5, [])


def test_a_message_shows_what_flower_shows(fake_ledger: Ledger) -> None:
    """Item, file and size are in the wake-up."""
    ask(fake_ledger, request_of())

    (wakeup,) = fake_ledger.dispatch.release()

    assert (wakeup.title, wakeup.size_bytes) == ("a.zip", 7)
    assert wakeup.item_id == request_of().asset.item_id


def test_batches_take_turns(fake_ledger: Ledger) -> None:
    """A small batch does not wait behind a large one."""
    ledger = with_limits(fake_ledger, window=4)
    large, small = many(ledger, 10, "large"), many(ledger, 2, "small")

    sent = sent_ids(ledger)

    assert {request.download_id for request in small} <= set(sent)
    assert sent[0] == large[0].download_id


def test_with_more_slots_than_places_only_places_are_filled(fake_ledger: Ledger) -> None:
    """When workers outnumber the account's places, no message can only say WAITING."""
    ledger = with_limits(fake_ledger, concurrent=2)
    requests = many(ledger, 5)
    ledger.dispatch.recover("w", slots=16)

    first = sent_ids(ledger)
    claim = claimed(ledger, requests[0])
    none = sent_ids(ledger)
    after = [w.download_id for w in ledger.leases.finish(claim, result_of(claim))]

    assert first == [requests[0].download_id, requests[1].download_id]
    assert (none, after) == ([], [requests[2].download_id])


def test_a_paused_account_sends_nothing(fake_ledger: Ledger) -> None:
    """Pause is a flag of the account; resume lets it go on."""
    requests = many(fake_ledger, 2)
    claim = claimed(fake_ledger, requests[0])
    postponed(fake_ledger, claim, Decision(True, Reason.AUTH, counted=False, pause="key refused"))

    paused = sent_ids(fake_ledger)
    resumed, twice = (
        fake_ledger.control.resume_account(ACCOUNT),
        fake_ledger.control.resume_account(ACCOUNT),
    )

    assert (paused, resumed, twice) == ([], True, False)
    assert set(sent_ids(fake_ledger)) == {request.download_id for request in requests}


def test_what_a_key_was_refused_for_starts_first_after_the_resume(fake_ledger: Ledger) -> None:
    """Nothing waits for a key any more; what waits for the key of another account stays."""
    theirs, requests = request_of("theirs"), many(fake_ledger, 4)
    fake_ledger.admission.admit("other", "other", [theirs], lambda _: None)()
    refused = [claimed(fake_ledger, request) for request in (theirs, *requests[:2])]
    for claim in refused:
        error = AuthError("href", "the key", "401")
        wait = Decision(True, Reason.AUTH, counted=False, pause="key")
        fake_ledger.leases.postpone(claim, error, wait, ENTRY)
    # Messages that were on their way: their downloads stand in front of the refused ones.
    for request in requests[2:]:
        assert fake_ledger.leases.claim(request.download_id, "w") is Verdict.WAITING

    fake_ledger.control.resume_account(ACCOUNT)

    assert fake_ledger.reading.status(BATCH).waiting == {}
    assert fake_ledger.reading.failures(BATCH) == []
    assert fake_ledger.reading.status("other").waiting == {Reason.AUTH: 1}
    assert sent_ids(fake_ledger)[:2] == [claim.download_id for claim in refused[1:]]
    assert_counts_are_right(fake_ledger)


def test_a_pause_with_an_end_ends(fake_ledger: Ledger, clock: Clock) -> None:
    """Throttled for 20 s, the account goes on by itself after 20 s and not before."""
    (request,) = many(fake_ledger, 1)
    wait = Decision(True, Reason.THROTTLED, 0.0, False, pause="throttled", pause_s=20.0)
    postponed(fake_ledger, claimed(fake_ledger, request), wait)

    clock.advance(19.0)
    early = sent_ids(fake_ledger)
    clock.advance(2.0)

    assert (early, sent_ids(fake_ledger)) == ([], [request.download_id])


def test_accounts_do_not_pause_each_other(fake_ledger: Ledger) -> None:
    """One user's refused key stops nobody else."""
    ours, theirs = request_of("ours"), request_of("theirs")
    ask(fake_ledger, ours)
    fake_ledger.admission.admit("other", "other", [theirs], lambda _: None)()
    claim = claimed(fake_ledger, ours)
    postponed(fake_ledger, claim, Decision(True, Reason.AUTH, counted=False, pause="key"))

    assert sent_ids(fake_ledger) == [theirs.download_id]
    assert fake_ledger.dispatch.accounts() == [ACCOUNT, "other"]


def test_downloads_that_wait_for_quota_are_sent_as_the_window_allows(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """What waits for quota is not woken to be turned away again."""
    ledger = with_limits(fake_ledger, quota_count=2, quota_seconds=60.0, concurrent=8)
    claims = [claimed(ledger, request) for request in many(ledger, 4)]
    spent = [ledger.account.spend(ACCOUNT).wait_s for _ in range(3)]
    for claim in claims:
        postponed(ledger, claim, Decision(True, Reason.QUOTA, 0.0, counted=False))

    used_up = sent_ids(ledger)
    clock.advance(63.0)
    reopened = sent_ids(ledger)

    assert spent[:2] == [0.0, 0.0]
    assert 61.0 < spent[2] <= 62.0
    assert (used_up, len(reopened)) == ([], 2)


# --- claim ---------------------------------------------------------------------------------------


def test_a_claim_brings_all_that_the_attempt_needs(fake_ledger: Ledger) -> None:
    """Asset, path, attempt number, account, and a token."""
    request = request_of()
    ask(fake_ledger, request)

    claim = claimed(fake_ledger, request, "w1")

    assert (claim.asset, claim.path, claim.attempt) == (request.asset, request.path, 1)
    assert (claim.account, claim.proof, claim.suspect) == (ACCOUNT, None, None)
    assert record_of(fake_ledger, request).worker == "w1"
    assert_counts_are_right(fake_ledger)


def test_a_second_delivery_is_turned_away(fake_ledger: Ledger) -> None:
    """While one worker has the lease, nobody else gets it; when it is over, nobody needs it."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)

    during = fake_ledger.leases.claim(request.download_id, "twin")
    fake_ledger.leases.finish(claim, result_of(claim))
    after = fake_ledger.leases.claim(request.download_id, "twin")

    assert (during, after) == (Verdict.RUNNING, Verdict.FINISHED)
    assert record_of(fake_ledger, request).worker == "w"


def test_tokens_only_rise(fake_ledger: Ledger, clock: Clock) -> None:
    """Each lease has a higher token than all before, also when Redis forgot its counter."""
    first, second, third = many(fake_ledger, 3)
    tokens = [int(claimed(fake_ledger, first).token), int(claimed(fake_ledger, second).token)]
    fake_ledger.connection.client.delete(fake_ledger.connection.key("fence"))
    clock.advance(1.0)
    tokens.append(int(claimed(fake_ledger, third).token))

    assert tokens == sorted(set(tokens))


def test_a_claim_before_its_time_is_turned_away(fake_ledger: Ledger, clock: Clock) -> None:
    """A stray message does not shorten a back-off."""
    request = request_of()
    ask(fake_ledger, request)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, Reason.BACKOFF, 30.0))

    early = fake_ledger.leases.claim(request.download_id, "w")
    clock.advance(31.0)

    assert early is Verdict.EARLY
    assert claimed(fake_ledger, request).attempt == 2


def test_the_whole_fleet_shares_the_places_of_an_account(fake_ledger: Ledger) -> None:
    """Beyond the cap a claim says WAITING, and the download is sent again when a place is free."""
    ledger = with_limits(fake_ledger, concurrent=1)
    first, second = many(ledger, 2)
    sent_ids(ledger)
    claim = claimed(ledger, first)

    waiting = ledger.leases.claim(second.download_id, "w2")
    released = ledger.leases.finish(claim, result_of(claim))

    assert waiting is Verdict.WAITING
    assert state_of(ledger, second) is State.PENDING
    assert second.download_id in [w.download_id for w in released] + sent_ids(ledger)
    assert_counts_are_right(ledger)


def test_a_paused_account_grants_nothing(fake_ledger: Ledger) -> None:
    """A message that was on its way when the account paused starts no transfer."""
    first, second = many(fake_ledger, 2)
    claim = claimed(fake_ledger, first)
    postponed(fake_ledger, claim, Decision(True, Reason.AUTH, counted=False, pause="key"))

    assert fake_ledger.leases.claim(second.download_id, "w") is Verdict.WAITING


def test_a_suspect_copy_is_remembered_for_the_next_attempt(fake_ledger: Ledger) -> None:
    """The digest of a wrong whole copy comes back with the next claim."""
    request = request_of()
    ask(fake_ledger, request)
    error = ChecksumMismatchError(request.path, "md5:a", str(md5(b"wrong")))
    decision = Decision(True, Reason.BACKOFF, 0.0, suspect=md5(b"wrong"))

    fake_ledger.leases.postpone(claimed(fake_ledger, request), error, decision, ENTRY)

    assert claimed(fake_ledger, request).suspect == md5(b"wrong")


# --- renew ---------------------------------------------------------------------------------------


def test_progress_renews_the_lease(fake_ledger: Ledger, clock: Clock) -> None:
    """A download that moves is never taken away, however long it takes."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)

    for done in range(1, 4):
        clock.advance(59.0)
        answer = fake_ledger.leases.renew(
            [Progress(claim.download_id, claim.token, done, "geodes")]
        )
        ended = fake_ledger.dispatch.recover("w", 1)
        assert (answer, ended) == ([Renewal.OK], (0, 0))

    (running,) = fake_ledger.reading.running()
    assert (running.done_bytes, running.source, running.worker) == (3, "geodes", "w")
    assert_counts_are_right(fake_ledger)


def steady(ledger: Ledger, clock: Clock, claim: Claim, seconds: int, start: int = 0) -> None:
    """Renew once a second while 1,000 bytes a second come, after ``start`` that were adopted."""
    for second in range(1, seconds + 1):
        clock.advance(1.0)
        done, received = start + 1000 * second, 1000 * second
        ledger.leases.renew(
            [Progress(claim.download_id, claim.token, done, "geodes", received, "C")]
        )


def test_the_speed_is_a_mean_that_the_ledger_keeps(fake_ledger: Ledger, clock: Clock) -> None:
    """A steady transfer shows its speed after three seconds as after a minute; then it fades."""
    request = request_of(size_bytes=1_000_000)
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)

    seen = []
    for seconds in (3, 57):
        steady(fake_ledger, clock, claim, seconds)
        (running,) = fake_ledger.reading.running()
        seen += [fake_ledger.reading.status(BATCH).bytes_per_second, running.bytes_per_second]
    for silent_s in (15.0, 46.0):
        clock.advance(silent_s)
        (running,) = fake_ledger.reading.running()
        seen += [fake_ledger.reading.status(BATCH).bytes_per_second, running.bytes_per_second]

    assert seen[:4] == pytest.approx([1000.0] * 4, rel=0.1)
    assert seen[4:] == pytest.approx([472.0] * 2 + [0.0] * 2, rel=0.1)


def test_resumed_bytes_are_neither_speed_nor_transfer(fake_ledger: Ledger, clock: Clock) -> None:
    """Bytes that a dead attempt left count as done; the totals move as bytes come, once each."""
    request = request_of(size_bytes=1_000_000)
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    adopted = Progress(claim.download_id, claim.token, 900_000, "geodes", 0, "C")
    fake_ledger.leases.renew([adopted])
    adopting = fake_ledger.reading.status(BATCH)
    steady(fake_ledger, clock, claim, 10, start=900_000)
    moving = fake_ledger.reading.totals().parts("bytes")
    result = replace(result_of(claim), bytes_transferred=10_500, source="geodes")
    fake_ledger.leases.finish(claim, result)

    assert (adopting.bytes_done, adopting.bytes_per_second) == (900_000, 0)
    assert moving == {"geodes:C": 10_000}
    assert sum(fake_ledger.reading.totals().parts("bytes").values()) == 10_500


def test_bytes_of_a_dead_worker_stay_counted(fake_ledger: Ledger, clock: Clock) -> None:
    """The record and the totals keep what came before the worker died."""
    request = request_of(size_bytes=1_000_000)
    ask(fake_ledger, request)
    steady(fake_ledger, clock, claimed(fake_ledger, request), 5)
    clock.advance(61.0)
    fake_ledger.dispatch.recover()
    fake_ledger.dispatch.recover()
    clock.advance(5.0)
    fake_ledger.dispatch.recover()
    record = fake_ledger.reading.record(request.download_id)

    assert record is not None
    assert record.reason == Reason.WORKER_LOST
    assert (record.bytes_transferred, dict(record.sources)) == (5000, {"geodes": 5000})
    assert fake_ledger.reading.totals().parts("bytes") == {"geodes:C": 5000}

    clock.advance(61.0)
    fake_ledger.dispatch.recover()
    claim = claimed(fake_ledger, request)
    report = result_of(claim, bytes_transferred=700, sources={"geodes": 500, "s3": 200})
    fake_ledger.leases.finish(claim, report)
    record = record_of(fake_ledger, request)

    assert (record.bytes_transferred, record.sources) == (5700, {"geodes": 5500, "s3": 200})


def test_an_attempt_knows_that_it_is_taken_over(fake_ledger: Ledger, clock: Clock) -> None:
    """Only the attempt after that of a dead worker is told, not one after an error."""
    request = request_of()
    ask(fake_ledger, request)
    first = claimed(fake_ledger, request)
    clock.advance(61.0)
    fake_ledger.dispatch.recover()
    clock.advance(5.0)
    fake_ledger.dispatch.recover()
    second = claimed(fake_ledger, request)
    postponed(fake_ledger, second)

    third = claimed(fake_ledger, request)

    assert [one.is_taken_over for one in (first, second, third)] == [False, True, False]


def test_one_round_trip_renews_many_leases(fake_ledger: Ledger) -> None:
    """Each lease has its own answer, in order."""
    good, gone, stopped = many(fake_ledger, 3)
    claims = [claimed(fake_ledger, one) for one in (good, gone, stopped)]
    postponed(fake_ledger, claims[1])
    fake_ledger.control.cancel([stopped.download_id])

    answers = fake_ledger.leases.renew([Progress(c.download_id, c.token, -1) for c in claims])

    assert answers == [Renewal.OK, Renewal.LOST, Renewal.CANCELLED]


# --- record --------------------------------------------------------------------------------------


def test_success_is_recorded_whole(fake_ledger: Ledger) -> None:
    """Outcome, bytes, source, proof and times are in the record."""
    request = request_of()

    proven(fake_ledger, request)

    record = record_of(fake_ledger, request)
    assert (record.state, record.outcome) == (State.SUCCESS, Outcome.DOWNLOADED)
    assert (record.verified, record.bytes_transferred, record.source) == (True, 7, "geodes")
    assert (record.attempts, record.error) == (1, None)
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.started_at.endswith("+00:00")
    assert record.started_at <= record.finished_at
    assert fake_ledger.reading.running() == []
    assert_counts_are_right(fake_ledger)


def test_a_size_that_the_catalogue_did_not_know_is_learnt(fake_ledger: Ledger) -> None:
    """After the transfer the record has the size and the digest, and the batch the bytes."""
    request = request_of(size_bytes=None, checksum=None)
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    before = record_of(fake_ledger, request)

    got = result_of(claim, size_bytes=11, checksum=md5(b"what came"), verified=False)
    fake_ledger.leases.finish(claim, got)

    after = record_of(fake_ledger, request)
    assert (before.size_bytes, before.checksum) == (None, None)
    assert (after.size_bytes, after.checksum) == (11, str(md5(b"what came")))
    assert after.verified is False
    assert fake_ledger.reading.status(BATCH).bytes_total == 11
    assert_counts_are_right(fake_ledger)


def test_a_failure_keeps_its_error_and_its_history(fake_ledger: Ledger) -> None:
    """The report says what failed, why, and what to do."""
    request = request_of()

    failed(fake_ledger, request)

    record = record_of(fake_ledger, request)
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("TransferError", "href: reset")
    assert record.error.hint == TransferError.remedy
    assert [dict(entry) for entry in record.history] == [ENTRY]
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize(("counted", "attempts"), [(True, 1), (False, 0)])
def test_waiting_has_a_reason_and_a_time(fake_ledger: Ledger, counted: bool, attempts: int) -> None:
    """RETRY shows why and until when; only attempts that count are counted."""
    request = request_of()
    ask(fake_ledger, request)

    wait = Decision(True, Reason.BACKOFF, 30.0, counted)
    postponed(fake_ledger, claimed(fake_ledger, request), wait)

    record = record_of(fake_ledger, request)
    assert (record.state, record.reason, record.attempts) == (State.RETRY, "backoff", attempts)
    assert record.due_at is not None
    assert fake_ledger.reading.status(BATCH).waiting == {"backoff": 1}
    assert fake_ledger.dispatch.release() == []
    assert_counts_are_right(fake_ledger)


def test_history_is_bounded(fake_ledger: Ledger) -> None:
    """A download that waits for weeks does not grow for ever."""
    request = request_of()
    ask(fake_ledger, request)
    for _ in range(25):
        postponed(fake_ledger, claimed(fake_ledger, request))

    assert len(record_of(fake_ledger, request).history) == 20


@pytest.mark.parametrize("end", ["succeed", "postpone", "fail", "revoke"])
def test_a_lost_token_records_nothing(fake_ledger: Ledger, clock: Clock, end: str) -> None:
    """A worker that was taken for dead and comes back changes nothing of its successor's."""
    request = request_of()
    ask(fake_ledger, request)
    old = claimed(fake_ledger, request, "old")
    clock.advance(61.0)
    fake_ledger.dispatch.recover()
    new = claimed(fake_ledger, request, "new")
    calls: dict[str, Callable[[], object]] = {
        "succeed": lambda: fake_ledger.leases.finish(old, result_of(old)),
        "postpone": lambda: postponed(fake_ledger, old),
        "fail": lambda: fake_ledger.leases.fail(old, TransferError("h", "x"), ENTRY),
        "revoke": lambda: fake_ledger.leases.revoke(old),
    }

    with pytest.raises(LeaseLostError, match="the lease went to another worker"):
        calls[end]()

    assert state_of(fake_ledger, request) is State.STARTED
    assert fake_ledger.leases.renew([Progress(new.download_id, new.token, 1)]) == [Renewal.OK]
    assert_counts_are_right(fake_ledger)


# --- recover -------------------------------------------------------------------------------------


def test_a_dead_workers_download_goes_on_elsewhere(fake_ledger: Ledger, clock: Clock) -> None:
    """When the lease has run out the download waits for nobody, and its history says why."""
    request = request_of()
    ask(fake_ledger, request)
    sent_ids(fake_ledger)
    claimed(fake_ledger, request, "dead")
    clock.advance(61.0)

    ended, _ = fake_ledger.dispatch.recover("w", 2)

    record = record_of(fake_ledger, request)
    assert (ended, record.state, record.reason) == (1, State.RETRY, "worker-lost")
    assert record.history[0]["error"] == "WorkerLostError: its worker died or went silent"
    assert record.history[0]["worker"] == "dead"
    assert sent_ids(fake_ledger) == [request.download_id]
    assert_counts_are_right(fake_ledger)


def test_a_file_that_kills_its_workers_is_given_up(fake_ledger: Ledger, clock: Clock) -> None:
    """After the last attempt a download whose workers die ends with a named error."""
    ledger = with_limits(fake_ledger, max_attempts=2)
    request = request_of()
    ask(ledger, request)
    for _ in range(2):
        claimed(ledger, request)
        clock.advance(61.0)
        # The first look after a long silence spares leases: their workers may renew them now.
        ledger.dispatch.recover()
        clock.advance(4.0)
        ledger.dispatch.recover()

    record = record_of(ledger, request)
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "WorkerLostError"
    assert record.error.message.startswith("2 of 2 attempts ended as their worker died")
    assert_counts_are_right(ledger)


def test_only_dead_workers_are_counted_as_dead(fake_ledger: Ledger, clock: Clock) -> None:
    """One worker dies after a failed transfer: the error counts one death, not two."""
    ledger = with_limits(fake_ledger, max_attempts=2)
    request = request_of()
    ask(ledger, request)
    postponed(ledger, claimed(ledger, request), Decision(True, Reason.BACKOFF))
    claimed(ledger, request)
    clock.advance(61.0)

    ledger.dispatch.recover()

    record = record_of(ledger, request)
    assert record.error is not None
    assert record.error.message == "1 of 2 attempts ended as their worker died or went silent"
    assert_counts_are_right(ledger)


def test_times_of_the_history_have_one_format(fake_ledger: Ledger, clock: Clock) -> None:
    """Written by a worker or by recovery, a time is ISO 8601 with its offset."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    entry = {**ENTRY, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    fake_ledger.leases.postpone(claim, TransferError("h", "x"), AGAIN_AT_ONCE, entry)
    claimed(fake_ledger, request)
    clock.advance(61.0)
    fake_ledger.dispatch.recover()

    times = [datetime.fromisoformat(one["at"]) for one in record_of(fake_ledger, request).history]
    assert [one.utcoffset() for one in times] == [timedelta(0)] * 2


def test_what_is_due_is_woken(fake_ledger: Ledger, clock: Clock) -> None:
    """A back-off that is over is sent again by the next look, once."""
    request = request_of()
    ask(fake_ledger, request)
    sent_ids(fake_ledger)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, Reason.BACKOFF, 30.0))

    early = fake_ledger.dispatch.recover()
    clock.advance(31.0)
    due, again = fake_ledger.dispatch.recover(), fake_ledger.dispatch.recover()

    assert (early, due, again) == ((0, 0), (0, 1), (0, 0))
    assert sent_ids(fake_ledger) == [request.download_id]


def test_workers_count_while_they_are_seen(fake_ledger: Ledger, clock: Clock) -> None:
    """Slots are those of the workers seen lately; one that leaves or dies counts no more."""
    fake_ledger.dispatch.recover("one", 4)
    fake_ledger.dispatch.recover("two", 8)
    both = fake_ledger.dispatch.workers()
    fake_ledger.dispatch.unregister("one")
    left = fake_ledger.dispatch.workers()
    clock.advance(31.0)
    fake_ledger.dispatch.recover()

    assert (both, left) == ({"one": 4, "two": 8}, {"two": 8})
    assert fake_ledger.dispatch.workers() == {}
    assert fake_ledger.connection.client.get(fake_ledger.connection.key("slots")) == "0"


def test_a_lost_message_is_sent_again(fake_ledger: Ledger, clock: Clock) -> None:
    """What was sent long ago and never claimed can be put back, and only that."""
    lost, running = many(fake_ledger, 2)
    sent_ids(fake_ledger)
    claimed(fake_ledger, running)
    clock.advance(11.0)

    old = fake_ledger.dispatch.sent(ACCOUNT, 10.0)
    put_back = fake_ledger.dispatch.resend(ACCOUNT, 10.0, [*old, running.download_id])

    assert (old, put_back) == ([lost.download_id], 1)
    assert sent_ids(fake_ledger) == [lost.download_id]
    # Another worker that found the same loss comes too late: it is on its way again.
    assert fake_ledger.dispatch.resend(ACCOUNT, 10.0, old) == 0


# --- cancel, again, new runs ---------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_what_does_not_run_is_cancelled_at_once(fake_ledger: Ledger, waits: bool) -> None:
    """Queued or waiting, it is REVOKED, sent no more, and its message finds nothing to do."""
    request = request_of()
    ask(fake_ledger, request)
    sent_ids(fake_ledger)
    if waits:
        postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, delay_s=30.0))

    cancelled = fake_ledger.control.cancel([request.download_id])

    assert (cancelled, state_of(fake_ledger, request)) == (1, State.REVOKED)
    assert fake_ledger.leases.claim(request.download_id, "w") is Verdict.FINISHED
    assert fake_ledger.dispatch.release() == []
    assert_counts_are_right(fake_ledger)


def test_what_runs_is_told_and_ends_revoked(fake_ledger: Ledger) -> None:
    """A running download learns it at its next renewal."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)

    cancelled = fake_ledger.control.cancel([request.download_id])
    during = state_of(fake_ledger, request)
    answer = fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 3)])
    fake_ledger.leases.revoke(claim)

    assert (cancelled, during, answer) == (1, State.STARTED, [Renewal.CANCELLED])
    assert state_of(fake_ledger, request) is State.REVOKED
    assert fake_ledger.reading.status(BATCH).bytes_done == 0
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize("end", ["postpone", "die"])
def test_a_cancelled_attempt_that_ends_otherwise_is_revoked_too(
    fake_ledger: Ledger, clock: Clock, end: str
) -> None:
    """Whether it failed or its worker died meanwhile, a cancelled download does not come back."""
    request = request_of()
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    fake_ledger.control.cancel([request.download_id])

    if end == "postpone":
        postponed(fake_ledger, claim)
    else:
        clock.advance(61.0)
        fake_ledger.dispatch.recover()

    assert state_of(fake_ledger, request) is State.REVOKED
    assert [left.token for left in fake_ledger.retention.litter()] == [claim.token]
    assert fake_ledger.dispatch.release() == []
    assert_counts_are_right(fake_ledger)


def test_a_cancelled_download_of_a_dead_worker_is_no_failure(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Also where that was its last attempt."""
    ledger = Ledger(fake_ledger.connection.client, Limits(max_attempts=1))
    ask(ledger, request_of("a"))
    claimed(ledger, request_of("a"))
    ledger.control.cancel([request_of("a").download_id])
    clock.advance(ledger.connection.limits.lease_seconds + 1)

    ledger.dispatch.recover()

    assert state_of(ledger, request_of("a")) is State.REVOKED


@pytest.mark.parametrize("newest", [True, False])
def test_what_another_batch_asks_for_goes_on(fake_ledger: Ledger, newest: bool) -> None:
    """A batch that is cancelled loses what it shares, and the other batch gets it all the same."""
    alone, shared = request_of("alone"), request_of("shared")
    first, second = ("other", BATCH) if newest else (BATCH, "other")
    ask(fake_ledger, shared, batch=first)
    ask(fake_ledger, shared, batch=second)
    ask(fake_ledger, alone)

    withdrawn = fake_ledger.control.withdraw(BATCH, list(fake_ledger.reading.downloads(BATCH)))
    again = fake_ledger.control.withdraw(BATCH, [alone.download_id, shared.download_id])

    assert (withdrawn, again) == (Withdrawn(cancelled=1, left=1), Withdrawn())
    assert list(fake_ledger.reading.downloads(BATCH)) == [alone.download_id]
    assert (
        fake_ledger.reading.status(BATCH).states[State.REVOKED]
        == fake_ledger.reading.status(BATCH).total
        == 1
    )
    assert sent_ids(fake_ledger) == [shared.download_id]
    assert_counts_are_right(fake_ledger)


def test_what_is_over_cannot_be_cancelled(fake_ledger: Ledger) -> None:
    """A proven file stays proven, a failure stays a failure, an unknown id is nothing."""
    good, bad = request_of("good"), request_of("bad")
    proven(fake_ledger, good)
    failed(fake_ledger, bad)

    cancelled = fake_ledger.control.cancel([good.download_id, bad.download_id, "unknown"])

    assert cancelled == 0
    assert state_of(fake_ledger, good) is State.SUCCESS
    assert state_of(fake_ledger, bad) is State.FAILURE
    assert fake_ledger.control.cancel([]) == 0


def test_asking_again_begins_anew(fake_ledger: Ledger) -> None:
    """Failed, cancelled and waiting downloads are queued, with their attempts forgotten."""
    bad, stopped, waits, good = (request_of(name) for name in ("bad", "stopped", "waits", "good"))
    failed(fake_ledger, bad)
    ask(fake_ledger, stopped, waits)
    fake_ledger.control.cancel([stopped.download_id])
    postponed(fake_ledger, claimed(fake_ledger, waits), Decision(True, delay_s=600.0))
    proven(fake_ledger, good)
    everything = [one.download_id for one in (bad, stopped, waits, good)]

    begun = fake_ledger.control.retry(everything)

    assert begun == 3
    assert [state_of(fake_ledger, one) for one in (bad, stopped, waits)] == [State.PENDING] * 3
    assert state_of(fake_ledger, good) is State.SUCCESS
    assert set(sent_ids(fake_ledger)) == set(everything[:3])
    assert claimed(fake_ledger, bad).attempt == 1
    assert fake_ledger.control.retry([]) == 0
    assert_counts_are_right(fake_ledger)


def test_a_private_server_begins_anew(fake_ledger: Ledger) -> None:
    """After a kill, leases and messages are gone; batches and the proofs of files are kept."""
    good, open_, waits = (request_of(name) for name in ("good", "open", "waits"))
    proven(fake_ledger, good)
    ask(fake_ledger, open_, waits)
    claimed(fake_ledger, waits)
    sent_ids(fake_ledger)
    fake_ledger.connection.client.rpush(fake_ledger.connection.key("geodes"), "a message")

    fake_ledger.control.begin_run(["geodes"])

    assert (fake_ledger.dispatch.release(), fake_ledger.reading.running()) == ([], [])
    assert fake_ledger.reading.status(BATCH).total == 3
    assert not fake_ledger.connection.client.exists(fake_ledger.connection.key("geodes"))
    answers = ask(fake_ledger, good, open_, batch="next", at=PROOF)
    assert [a.admission for a in answers] == [Admission.PRESENT, Admission.AGAIN]
    assert_counts_are_right(fake_ledger)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_what_earlier_runs_left_ends_in_blocks(fake_ledger: Ledger, blocks: int) -> None:
    """What the new run enqueues again goes on, before and after its turn; the others end."""
    again, ended, taken = (request_of(name) for name in ("again", "ended", "taken"))
    ask(fake_ledger, again, ended, taken)
    claimed(fake_ledger, ended)
    other = replace(request_of("other", b"other"), path=taken.path)
    fake_ledger.control.begin_run([])
    for _ in range(blocks):
        fake_ledger.control.end_left_overs(1)

    answers = ask(fake_ledger, again, other)
    while fake_ledger.control.end_left_overs(1):
        pass

    assert [one.admission for one in answers] == [Admission.AGAIN, Admission.NEW]
    assert [state_of(fake_ledger, one) for one in (again, other)] == [State.PENDING] * 2
    assert [state_of(fake_ledger, one) for one in (ended, taken)] == [State.REVOKED] * 2
    assert set(sent_ids(fake_ledger)) == {again.download_id, other.download_id}
    assert not fake_ledger.connection.client.keys(fake_ledger.connection.key("left_over"))
    assert_counts_are_right(fake_ledger)


def test_a_batch_name_may_be_used_again_after_a_new_beginning(fake_ledger: Ledger) -> None:
    """Counts of a batch are right, also when one of the same name was forgotten."""
    request = request_of()
    ask(fake_ledger, request)
    fake_ledger.control.begin_run([])

    ask(fake_ledger, request)

    assert_counts_are_right(fake_ledger)


# --- moves ---------------------------------------------------------------------------------------

PAIRS = list(itertools.product([None, *State], State))


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=lambda state: str(state))
def test_the_ledger_refuses_every_move_that_is_not_in_the_table(
    fake_ledger: Ledger, old: State | None, new: State
) -> None:
    """The table of moves is checked by the script that writes, not by its callers."""
    script = script_loader.assembled(
        "move(record('x'), ARGV[1], { reason = ARGV[1] == 'RETRY' and 'backoff' or nil,"
        " outcome = ARGV[1] == 'SUCCESS' and 'DOWNLOADED' or nil })"
    )
    if old is not None:
        row = {"state": str(old), "reason": "quota", "outcome": "RESUMED"}
        fake_ledger.connection.client.hset(fake_ledger.connection.key("download", "x"), mapping=row)

    refusal = ""
    try:
        fake_ledger.connection.client.eval(script, 1, fake_ledger.connection.prefix, str(new))
    except redis.ResponseError as error:
        refusal = str(error)

    expected = new if (old, new) in ALLOWED_MOVES else old
    assert ("BADMOVE" in refusal) is ((old, new) not in ALLOWED_MOVES)
    found = fake_ledger.connection.client.hget(fake_ledger.connection.key("download", "x"), "state")
    assert found == (str(expected) if expected else None)


@pytest.mark.parametrize("seed", range(4))
def test_counters_always_equal_a_recount(fake_ledger: Ledger, clock: Clock, seed: int) -> None:
    """Whatever happens in whatever order, the counts of a batch are those of its records."""
    walk = _Walk(with_limits(fake_ledger, max_attempts=3, window=4, concurrent=3), clock, seed)
    for _ in range(40):
        walk.step()
        assert_counts_are_right(fake_ledger)


class _Walk:
    """Does one thing after another to a few downloads in two batches."""

    def __init__(self, ledger: Ledger, clock: Clock, seed: int) -> None:
        self.ledger, self.clock = ledger, clock
        self.random = random.Random(seed)
        self.requests = [request_of(f"f{number}") for number in range(5)]
        self.claims: list[Claim] = []

    def step(self) -> None:
        """Do something."""
        self.random.choice(
            [
                self.ask,
                self.ask,
                self.work,
                self.work,
                self.end,
                self.end,
                self.pass_time,
                self.stop,
            ]
        )()

    def ask(self) -> None:
        some = self.random.sample(self.requests, 2)
        ask(self.ledger, *some, batch=self.random.choice("bc"), at=PROOF)

    def work(self) -> None:
        self.ledger.dispatch.release()
        answer = self.ledger.leases.claim(self.random.choice(self.requests).download_id, "w")
        if isinstance(answer, Claim):
            self.claims.append(answer)
        self.ledger.leases.renew([Progress(c.download_id, c.token, 3) for c in self.claims])

    def end(self) -> None:
        if not self.claims:
            return
        claim = self.claims.pop(self.random.randrange(len(self.claims)))
        wait = Decision(True, Reason.BACKOFF, self.random.choice([0.0, 5.0]))
        ends: list[Callable[[], object]] = [
            lambda: self.ledger.leases.finish(claim, result_of(claim)),
            lambda: postponed(self.ledger, claim, wait),
            lambda: self.ledger.leases.fail(claim, TransferError("h", "x"), ENTRY),
            lambda: self.ledger.leases.revoke(claim),
        ]
        try:
            self.random.choice(ends)()
        except LeaseLostError:
            return

    def pass_time(self) -> None:
        self.clock.advance(self.random.choice([1.0, 10.0, 61.0]))
        self.ledger.dispatch.recover("w", self.random.choice([0, 2, 9]))

    def stop(self) -> None:
        one = self.random.choice(self.requests).download_id
        if self.random.random() < 0.5:
            self.ledger.control.cancel([one])
        else:
            self.ledger.control.retry([one])


# --- the connection ------------------------------------------------------------------------------


def test_a_dead_redis_is_named_without_its_password() -> None:
    """Every question to an unreachable server ends in one error that says where it is."""
    server = fakeredis.FakeServer()
    server.connected = False
    client = fakeredis.FakeRedis(server=server, decode_responses=True)
    ledger = Ledger(client, url="redis://user:hunter2@redis.invalid:6379/0")

    with pytest.raises(LedgerUnavailableError, match=r"redis://user:\*\*\*@redis\.invalid:6379"):
        ledger.connection.ping()
    with pytest.raises(LedgerUnavailableError, match="no answer"):
        ledger.dispatch.release()
    with pytest.raises(LedgerUnavailableError, match="no answer"):
        ledger.reading.status(BATCH)


@pytest.mark.parametrize("schema", ["1", "99"])
def test_records_of_another_schema_are_not_touched(fake_ledger: Ledger, schema: str) -> None:
    """Unfinished downloads of a version with other records are refused, with both numbers."""
    ask(fake_ledger, request_of("a"))
    fake_ledger.connection.client.hset(fake_ledger.connection.key("totals"), "state:PENDING", 1)
    fake_ledger.connection.client.set(fake_ledger.connection.key("schema"), schema)

    with pytest.raises(LedgerSchemaError, match=f"schema {schema} .* reads schema 2") as caught:
        fake_ledger.connection.ping()

    assert "geodes-tasks 0.1.0" in caught.value.hint
    assert fake_ledger.connection.client.get(fake_ledger.connection.key("schema")) == schema


def test_a_ledger_of_the_former_schema_is_taken_over_when_all_is_over(fake_ledger: Ledger) -> None:
    """Finished or forgotten with the former version, it continues here; errors are listed."""
    ask(fake_ledger, request_of("a"))
    failed(fake_ledger, request_of("b"))
    fake_ledger.connection.client.set(fake_ledger.connection.key("schema"), "1")
    fake_ledger.connection.client.delete(fake_ledger.connection.key("errors", BATCH))
    fake_ledger.control.cancel(list(fake_ledger.reading.downloads(BATCH)))

    fake_ledger.connection.ping()

    assert fake_ledger.connection.client.get(fake_ledger.connection.key("schema")) == "2"
    assert list(fake_ledger.reading.failed(BATCH)) == [request_of("b").download_id]
    assert fake_ledger.reading.batches() == [BATCH]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://h:1/2", "rediss://h:1/2"),
    ],
)
def test_the_brokers_spelling_of_a_socket_is_understood(ours: str, theirs: str) -> None:
    """One address serves the broker and the ledger."""
    assert redis_client.client_url(ours) == theirs


def test_no_secret_is_stored(fake_ledger: Ledger) -> None:
    """What is in Redis of an asset is what the catalogue says of it, and no more."""
    request = request_of()
    ask(fake_ledger, request)

    spec = fake_ledger.connection.client.hget(
        fake_ledger.connection.key("download", request.download_id), "spec"
    )

    assert json.loads(str(spec)) == request.asset.to_dict()
    assert set(request.asset.to_dict()) == {
        "item", "collection", "key", "title", "hrefs", "size", "checksum",
    }  # fmt: skip


def test_a_signature_leaves_the_ledger_with_the_download(fake_ledger: Ledger) -> None:
    """A signed href is kept as long as a worker needs it, and comes back with a new request."""
    href = "https://mirror.example/a.zip?token=hush-hush"
    request = request_of(hrefs={"geodes": href})
    ask(fake_ledger, request)
    claim = claimed(fake_ledger, request)
    assert claim.asset.hrefs == {"geodes": href}

    fake_ledger.leases.finish(claim, result_of(claim))
    client = fake_ledger.connection.client
    kept = [client.hgetall(key) for key in client.keys("*download:*")]
    ask(fake_ledger, request, at=None)

    assert kept
    assert "hush" not in str(kept)
    assert claimed(fake_ledger, request).asset.hrefs == {"geodes": href}


def test_keys_are_readable_and_prefixed(fake_ledger: Ledger) -> None:
    """Several fleets may share one Redis."""
    ledger = Ledger(fake_ledger.connection.client, Limits(), prefix="mine:")
    proven(ledger, request_of())

    keys = set(ledger.connection.client.keys()) - {"geodes:limits"}

    assert keys
    assert all(key.startswith("mine:") for key in keys)


@pytest.mark.parametrize("server", ["Redis", "Valkey", "Other"])
@pytest.mark.parametrize(
    "said",
    ["BUSY {} is busy running a script.", "Command # 1 of pipeline caused error: BUSY {} is"],
)
def test_a_blocked_server_is_waited_for_whatever_its_name(
    fake_ledger: Ledger, server: str, said: str
) -> None:
    """The answer BUSY of Redis, Valkey and their kin, alone or in a pipeline, is an outage."""
    known = fake_ledger.connection.failure(redis.ResponseError(said.format(server)))

    assert isinstance(known, LedgerUnavailableError)


def test_a_refused_command_of_a_pipeline_is_not_quoted(fake_ledger: Ledger) -> None:
    """A viewer who sets a limit reads what is missing, not keys of the ledger."""
    said = "Command # 1 (HSET geodes:account:default places 3) of pipeline caused error: no right"
    known = fake_ledger.connection.failure(redis.exceptions.NoPermissionError(said))

    assert str(known).splitlines()[0].endswith("refuses: no right")


def test_a_script_that_a_new_server_does_not_know_is_sent_later(fake_ledger: Ledger) -> None:
    """NOSCRIPT within a pipeline, after a failover, is an outage that passes."""
    known = fake_ledger.connection.failure(redis.exceptions.NoScriptError("No matching script"))

    assert isinstance(known, LedgerUnavailableError)
