"""The end expected of a batch: its speed, its quota, its waits, and when nothing is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from geodes_tasks.errors import TransferError
from geodes_tasks.ledger import Ledger, Limits, Progress, Turn, Wait, turns_of
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason
from geodes_tasks.monitoring.expected_end import NO_SIZE, End, expected_end
from geodes_tasks.monitoring.picture import (
    batch_row,
    end_text,
    needs_a_person,
    sections,
    wait_row,
)
from geodes_tasks.monitoring.snapshot import SILENT_PERIODS, Pause, Snapshot, SnapshotReader
from geodes_tasks.monitoring.terminal import Picture
from geodes_tasks.monitoring.wording import clock as clock_text
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import BATCH, ENTRY, ask, claimed, postponed, request_of
from tests.unit.monitoring.scene import ACCOUNT, NOW, batch_of

FREE = replace(ACCOUNT, quota_count=0, quota_reopens=None)
MOVING: dict[str, Any] = {
    "bytes_total": 10_000_000,
    "bytes_done": 4_000_000,
    "bytes_per_second": 100_000.0,
}


def picture_of(snapshot: Snapshot) -> str:
    """Return a snapshot as a wide terminal shows it."""
    console = Console(width=160)
    with console.capture() as shown:
        console.print(Picture([*sections(snapshot)]))
    return shown.get()


def test_the_speed_bounds_the_end_where_nothing_else_does() -> None:
    """Six megabytes at 100 kB/s are over in a minute."""
    end = expected_end(batch_of("b", started=2, pending=3, **MOVING), FREE, at=NOW)

    assert end == End(NOW + 60)


def test_the_quota_bounds_the_end() -> None:
    """24 in two minutes, all spent, the next in 54 s: 60 files need three windows."""
    status = batch_of("b", started=2, pending=60, **MOVING)
    end = expected_end(status, ACCOUNT, at=NOW)

    assert end == End(NOW + 54 + 2 * 120, "60 files at 24/2minutes")


def test_what_s3_serves_needs_no_quota() -> None:
    """Downloads that S3 can serve are not counted against the window of the portal."""
    status = batch_of("b", started=2, pending=60, **MOVING)

    assert expected_end(status, ACCOUNT, at=NOW, on_s3=60) == End(NOW + 60)


def test_batches_of_one_account_share_its_quota() -> None:
    """As many of another batch come first as of this one, all of a more urgent one, no others."""
    status = batch_of("b", started=2, pending=60, **MOVING)
    turns = [
        Turn("b", 60, 0, 1),
        Turn("longer", 5000, 0, 1),
        Turn("shorter", 10, 0, 1),
        Turn("heavier", 5000, 0, 2),
        Turn("urgent", 30, 1, 1),
        Turn("later", 5000, -1, 1),
    ]

    end = expected_end(status, ACCOUNT, at=NOW, turns=turns)

    # 60 of its own, and before its last one 60, 10, 120 and 30.
    windows = math.ceil(280 / 24) - 1
    assert end == End(NOW + 54 + windows * 120, "60 files and 220 of other batches at 24/2minutes")


def test_a_batch_that_requests_nothing_waits_for_no_other() -> None:
    """All its files are under way: the quota of others does not move its end."""
    turns = [Turn("b", 0, 0, 1), Turn("urgent", 500, 1, 1)]

    end = expected_end(batch_of("b", started=4, **MOVING), ACCOUNT, at=NOW, turns=turns)

    assert end == End(NOW + 60)


def test_the_turns_of_an_account_are_read(fake_ledger: Ledger) -> None:
    """Only what needs a request counts, by batch, with its rank."""
    fake_ledger.control.prioritize("second", 3, 2)
    ask(fake_ledger, *(request_of(f"a{number}") for number in range(3)), batch="first")
    ask(fake_ledger, *(request_of(f"b{number}") for number in range(5)), batch="second")

    turns = turns_of(fake_ledger.connection, "acc")

    assert turns == [Turn("second", 5, 3, 2), Turn("first", 3, 0, 1)]


def test_no_end_is_known_while_the_portal_refuses_and_no_quota_is_set() -> None:
    """The next try is no end: it may be refused as well."""
    refused = replace(FREE, paused="quota", paused_until=NOW + 60, probing=True)
    status = batch_of("b", started=0, pending=10, **MOVING)

    end = expected_end(status, refused, at=NOW)

    assert end == End(None, "the portal refused for its quota, and no setting names it")


def test_what_failed_is_not_waited_for(fake_ledger: Ledger) -> None:
    """Bytes of failed and of cancelled downloads are never fetched."""
    requests = [request_of(name, name.encode() * 1000) for name in ("a", "b", "c", "d")]
    ask(fake_ledger, *requests)
    fake_ledger.leases.fail(claimed(fake_ledger, requests[0]), TransferError("h", "x"), ENTRY)
    fake_ledger.control.cancel([requests[1].download_id])

    status = fake_ledger.reading.status(BATCH)

    assert (status.bytes_total, status.bytes_left) == (4000, 2000)
    assert "bytes_ended" not in status.to_dict()
    # The version before did not count them, and this one counts one back that is retried.
    key = fake_ledger.connection.key("batch", BATCH)
    fake_ledger.connection.client.hset(key, "bytes_ended", -1000)
    assert fake_ledger.reading.status(BATCH).bytes_left == 4000


def test_a_wait_bounds_the_end() -> None:
    """A download that is due in ten minutes ends no sooner."""
    status = batch_of("b", {"backoff": 1}, started=1, retry=1, **MOVING)

    assert expected_end(status, FREE, at=NOW, next_due=NOW + 600) == End(NOW + 600)


def test_a_pause_of_the_account_bounds_the_end_of_what_is_queued() -> None:
    """What the portal has waits for the end of the pause, what S3 serves does not."""
    account = replace(FREE, paused="quota", paused_until=NOW + 300)
    queued = batch_of("b", pending=3)

    assert expected_end(queued, account, at=NOW) == End(NOW + 300)
    assert expected_end(queued, account, at=NOW, on_s3=3) == End(None)


def test_the_tape_hides_no_end_of_the_others() -> None:
    """One file of four on tape: the end of all is unknown, that of the other three is known."""
    status = batch_of("b", {"offline": 1}, started=3, retry=1, **MOVING | {"bytes_done": 2_000_000})

    end = expected_end(status, FREE, at=NOW)

    assert end == End(None, "the tape names no time", NOW + 60)
    snapshot = Snapshot(NOW, [status], {"b": end})
    assert end_text(snapshot, status) == (
        f"about {clock_text(NOW + 60, NOW)}",
        "end without the tape",
    )
    assert snapshot.status_object(status)["expected_end"] is None


@pytest.mark.parametrize(
    ("fields", "options", "why"),
    [
        ({"success": 3}, {}, ""),
        ({"pending": 3}, {"is_paused": True}, ""),
        ({"pending": 3}, {"standstill": "no worker is alive"}, "no worker is alive"),
        ({"pending": 3, "retry": 1, "waiting": {"offline": 1}}, {}, "the tape names no time"),
        ({"started": 3, "retry": 1, "waiting": {"paused": 1}}, {}, "a source is paused"),
        ({"started": 3}, {}, ""),
    ],
)
def test_an_unknown_end_is_none_and_says_why(
    fields: dict[str, object], options: dict[str, object], why: str
) -> None:
    """A pause, a tape, no worker, no speed yet: no time of day is made up."""
    status = batch_of("b", **fields)  # type: ignore[arg-type]  # numbers and waits

    assert expected_end(status, FREE, at=NOW, **options) == End(None, why)  # type: ignore[arg-type]


UNSIZED: dict[str, Any] = {
    "bytes_total": 3_000_000, "bytes_done": 4_000_000, "bytes_per_second": 100_000.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "share", "size"),
    [
        ({"success": 1, "started": 3} | UNSIZED, "25 %", "4.0 MB"),
        ({"success": 1, "pending": 3} | UNSIZED | {"bytes_done": 3_000_000}, "25 %", "3.0 MB"),
        ({"started": 4} | UNSIZED | {"bytes_total": 0}, "0 %", "4.0 MB"),
        ({"success": 2, "started": 2} | UNSIZED | {"bytes_done": 3_000_000}, "100 %", "3.0 MB of"),
    ],
)
def test_files_without_a_size_in_the_catalogue_make_no_number_false(
    fields: dict[str, Any], share: str, size: str
) -> None:
    """No 100 %, no end that is now, no sum that is above the whole while some are left."""
    status = batch_of("b", **fields)
    is_known = share == "100 %"
    end = expected_end(status, FREE, at=NOW)
    row = batch_row(Snapshot(NOW, [status], {"b": end}), status)

    assert row.cells[1] == share
    assert row.cells[3].startswith(size)
    assert ("of" in row.cells[3]) is is_known
    assert end == (End(NOW) if is_known else End(None, NO_SIZE))


def test_nothing_moves_in_a_fleet_that_is_dead(fake_ledger: Ledger, clock: Clock) -> None:
    """Killed workers have no speed, run nothing, take nothing over, and no wait ends by itself."""
    ask(fake_ledger, request_of("runs"), request_of("queued"), request_of("waits"))
    fake_ledger.dispatch.register("node1", 4)
    later = Decision(True, Reason.BACKOFF, delay_s=600.0)
    postponed(fake_ledger, claimed(fake_ledger, request_of("waits")), later)
    claim = claimed(fake_ledger, request_of("runs"), "node1")
    fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 5, received_bytes=500)])
    clock.advance(SILENT_PERIODS * Limits().register_seconds + 1)

    snapshot = SnapshotReader(fake_ledger, [BATCH]).read()
    text = picture_of(snapshot)

    assert fake_ledger.reading.status(BATCH).bytes_per_second > 0
    assert snapshot.status_object(snapshot.batches[0])["bytes_per_second"] == 0
    assert "1 queued, 1 on a silent worker" in text
    assert "running" not in text.partition("ACCOUNTS")[0]
    assert "0 workers alive with 0 slots, 0 files at 0 B/s" in text
    assert "1 file taken over when another worker starts" in text
    assert "CONTINUES BY ITSELF" not in text
    assert snapshot.silent[0].taken_over_at is None


def test_a_lease_that_has_ended_is_taken_over_now(fake_ledger: Ledger, clock: Clock) -> None:
    """No time of the past is shown for what is still to come."""
    ask(fake_ledger, request_of("runs"))
    claimed(fake_ledger, request_of("runs"), "node1")
    clock.advance(Limits().lease_seconds + 1)
    fake_ledger.dispatch.register("node2", 4)

    snapshot = SnapshotReader(fake_ledger, [BATCH]).read()

    assert snapshot.silent[0].taken_over_at == snapshot.at
    assert "1 file taken over now" in picture_of(snapshot)


def test_a_speed_of_the_past_leads_to_no_end(fake_ledger: Ledger, clock: Clock) -> None:
    """When all that is left waits, its wait bounds the end, and the mean that sinks does not."""
    ask(fake_ledger, request_of("a"))
    fake_ledger.dispatch.register("node1", 4)
    claim = claimed(fake_ledger, request_of("a"), "node1")
    clock.advance(1.0)
    fake_ledger.leases.renew([Progress(claim.download_id, claim.token, 1, received_bytes=500)])
    postponed(fake_ledger, claim, Decision(True, Reason.BACKOFF, delay_s=600.0))

    snapshot = SnapshotReader(fake_ledger, [BATCH]).read()

    assert fake_ledger.reading.status(BATCH).bytes_per_second > 0
    assert snapshot.batches[0].bytes_per_second == 0
    assert snapshot.ends[BATCH].at == pytest.approx(snapshot.at + 600, abs=1)


def test_between_two_runs_on_one_machine_no_end_is_expected(fake_ledger: Ledger) -> None:
    """A private server that is read between two runs has no workers, and needs none."""
    ask(fake_ledger, request_of("a"), request_of("b"))
    fake_ledger.connection.url = "redis+socket:///run/x.sock"
    later = Decision(True, Reason.BACKOFF, delay_s=600.0)
    postponed(fake_ledger, claimed(fake_ledger, request_of("a")), later)
    fake_ledger.control.end_run()

    snapshot = SnapshotReader(fake_ledger, [BATCH]).read()
    text = picture_of(snapshot)

    assert snapshot.status_object(snapshot.batches[0])["expected_end"] is None
    assert "no run is under way" in text
    assert "CONTINUES BY ITSELF" not in text
    assert "geodes-tasks worker" not in text


def test_the_waits_of_other_batches_and_accounts_are_not_those_of_a_batch(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """Two batches wait for one reason, each until a time of its own, in every view."""
    fake_ledger.dispatch.register("node1", 4)
    for batch, delay_s in (("soon", 60.0), ("late", 3600.0)):
        ask(fake_ledger, request_of(batch), batch=batch)
        decision = Decision(True, Reason.BACKOFF, delay_s=delay_s)
        postponed(fake_ledger, claimed(fake_ledger, request_of(batch)), decision)

    alone, both = (SnapshotReader(fake_ledger, n).read() for n in (["late"], ["soon", "late"]))

    now = clock.time()
    assert alone.waits[0].next_due == pytest.approx(now + 3600, abs=1)
    assert both.waits[0].next_due == pytest.approx(now + 60, abs=1)
    assert both.ends["soon"].at == pytest.approx(now + 60, abs=1)
    assert alone.ends["late"] == both.ends["late"]


def test_the_quota_of_another_account_ends_no_wait() -> None:
    """The time is that of the account of the batch that waits."""
    status = batch_of("b", {"quota": 3}, retry=3)
    mine = replace(ACCOUNT, quota_reopens=NOW + 500)
    other = replace(ACCOUNT, name="other", quota_reopens=NOW + 5)
    wait = Wait("quota", 3, None)
    snapshot = Snapshot(NOW, [status], accounts=[other, mine], waits=[wait])

    assert f"next at {clock_text(NOW + 500, NOW)}" in wait_row(snapshot, wait).cells[2]


@pytest.mark.parametrize(
    ("reason", "due", "end"),
    [
        ("backoff", None, 300),
        ("backoff", NOW + 500, 500),
        ("quota", None, 400),
        ("offline", NOW + 9, 9),
    ],
)
def test_what_is_due_waits_for_the_pause_of_its_account(
    reason: str, due: float | None, end: float
) -> None:
    """The later time counts, whatever the reason; only the tape is asked during a pause."""
    status = batch_of("b", {reason: 3}, retry=3)
    mine = replace(ACCOUNT, paused="throttled", paused_until=NOW + 300, quota_reopens=NOW + 400)
    by_hand = replace(ACCOUNT, name="other", paused="by hand")
    wait = Wait(reason, 3, due)
    snapshot = Snapshot(NOW, [status], accounts=[by_hand, mine], waits=[wait])

    assert f"at {clock_text(NOW + end, NOW)}" in wait_row(snapshot, wait).cells[2]


def test_what_waits_for_the_network_is_shown_with_the_next_try() -> None:
    """A source is tried again at a time of its own, later than the wait of a download."""
    status = batch_of("b", {"outage": 2}, retry=2)
    outage = Pause("source", "geodes", Reason.OUTAGE, NOW + 8)
    wait = Wait("outage", 2, None)
    snapshot = Snapshot(NOW, [status], waits=[wait], accounts=[FREE], pauses=[outage])

    assert f"next at {clock_text(NOW + 8, NOW)}" in wait_row(snapshot, wait).cells[2]


def test_a_refused_key_is_named_to_a_batch_that_has_not_met_it() -> None:
    """The account was paused by a batch that is forgotten: the command is there all the same."""
    refused = "401 from https://p/x: the key was refused"
    snapshot = Snapshot(
        NOW, [batch_of("b", pending=3)], pauses=[Pause("account", "default", refused)]
    )

    (row,) = needs_a_person(snapshot)

    assert row.notes == ("geodes-tasks resume --account default",)


def test_what_a_user_must_resume_does_not_continue_by_itself() -> None:
    """The quota of a paused account may have opened again: its downloads wait all the same."""
    status = batch_of("b", {"quota": 2}, pending=3, retry=2)
    snapshot = Snapshot(NOW, [status], waits=[Wait("quota", 2, None)])
    refused = Pause("account", "default", "the key was refused")
    by_hand = Pause("batch", "b", "by hand")

    titles = [
        {one.title for one in sections(replace(snapshot, pauses=pauses))}
        for pauses in ([], [refused], [by_hand])
    ]

    assert ["continues by itself" in one for one in titles] == [True, False, False]


def test_a_source_paused_by_hand_hides_no_end() -> None:
    """The other source serves the files: the end is as known as before."""
    status = batch_of("b", started=1, pending=1, bytes_total=100)
    by_hand = Pause("source", "s3", "by hand")

    assert not Snapshot(NOW, [status], pauses=[by_hand]).is_held(status)
