"""The words of the picture: what needs a person, what continues by itself, and with which hint."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from geodes_tasks.ledger import AccountState, FailureGroup, Ledger, Wait
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.history import history_sections
from geodes_tasks.monitoring.html import picture
from geodes_tasks.monitoring.picture import (
    MOST_CHARACTERS,
    Row,
    Tone,
    account_row,
    batch_row,
    file_row,
    sections,
)
from geodes_tasks.monitoring.snapshot import Pause, Snapshot, SnapshotReader
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import AGAIN_AT_ONCE, ask, claimed, failed, postponed, request_of
from tests.unit.monitoring.scene import ACCOUNT, NOW, batch_of, busy_snapshot, failure_of, running


def rows(snapshot: Snapshot, title: str) -> list[Row]:
    """Return the rows of a section; none where it is not drawn."""
    return [row for one in sections(snapshot) if one.title == title for row in one.rows]


def test_a_failure_has_a_hint_that_fits_and_a_command_that_works() -> None:
    """What failed is not retried by itself; the command names batch and class."""
    _, _, server = rows(busy_snapshot(), "needs you")

    assert server.cells == ("1", "ServerError: HTTP 503")
    assert server.notes == (
        "All attempts are used up: it is not retried by itself any more.",
        "geodes-tasks retry pyrenees-april --class ServerError",
    )


def test_commands_name_the_folder_of_a_private_ledger() -> None:
    """Without it they steer the cluster, where one is configured."""
    snapshot = replace(busy_snapshot(), folder=Path("/data"))

    commands = [row.notes[-1] for row in rows(snapshot, "needs you")]
    objects = [snapshot.status_object(one) for one in snapshot.batches]
    failures = [failure for one in objects for failure in one["failures"]]

    assert "geodes-tasks resume -o /data --batch pyrenees-april" in commands
    assert "geodes-tasks retry -o /data pyrenees-april --class ServerError" in commands
    assert {one["command"][:27] for one in failures} == {"geodes-tasks retry -o /data"}


def test_commands_of_hints_are_not_doubled() -> None:
    """The hint stays without its own command, which does not name the batch."""
    hint = "Accept the licence on the portal, then: geodes-tasks retry BATCH --class LicenceError"
    snapshot = replace(
        busy_snapshot(),
        failures={"urgent": [failure_of("LicenceError", 1, "not accepted (HTTP 423)", hint)]},
    )

    (*_, licence) = rows(snapshot, "needs you")

    assert licence.notes == (
        "Accept the licence on the portal",
        "geodes-tasks retry urgent --class LicenceError",
    )


def test_a_paused_batch_says_so_beside_its_name_and_how_to_resume_it() -> None:
    """Neither the batch nor what needs a person hides a pause by hand."""
    urgent, april = rows(busy_snapshot(), "batches")
    pause, *_ = rows(busy_snapshot(), "needs you")

    assert april.notes[0].startswith("PAUSED: batch pyrenees-april, 4 of 30 done")
    assert april.tone is Tone.PERSON
    assert "PAUSED" not in urgent.notes[0]
    assert pause.notes == ("geodes-tasks resume --batch pyrenees-april",)


@pytest.mark.parametrize(
    ("states", "tone"),
    [
        ({"success": 2}, Tone.DONE),
        ({"success": 1, "revoked": 1}, Tone.PLAIN),
        ({"success": 1, "revoked": 1, "failure": 1}, Tone.PERSON),
        ({"success": 1, "started": 1}, Tone.MOVES),
        ({"success": 1, "pending": 1}, Tone.WAITS),
    ],
)
def test_only_a_batch_that_is_done_is_green(states: dict[str, float], tone: Tone) -> None:
    """A batch that was cancelled is over, and not done."""
    row = batch_row(Snapshot(NOW, []), batch_of("april", None, **states))

    assert row.tone is tone


def test_pauses_of_batches_that_are_not_shown_are_left_out() -> None:
    """``status`` of one batch names what concerns it: sources, its account, not other batches."""
    snapshot = busy_snapshot()
    urgent, _ = snapshot.batches
    others = [*snapshot.pauses, Pause("account", "other", "by hand")]
    mine = [Pause("source", "s3", "by hand"), Pause("account", "default", "by hand")]

    shown = rows(replace(snapshot, batches=[urgent], pauses=others + mine), "needs you")

    paused = [row.cells[0] for row in shown if "is paused" in row.cells[0]]
    assert paused == ["source s3 is paused: by hand", "account default is paused: by hand"]


def test_a_missing_key_needs_a_person_and_is_not_called_refused() -> None:
    """A wait for a key is shown with its cause; it does not continue by itself."""
    message = "https://p/x needs an API key: GEODES_API_KEY is not set"
    missing = FailureGroup(
        State.RETRY, "KeyMissingError", 4, ErrorInfo("KeyMissingError", message), "URN:a"
    )
    paused = AccountState("default", message, None, 0, 6, 0, 0.0, 0, None, 6, "")
    snapshot = replace(
        busy_snapshot(), failures={"urgent": [missing]}, waits=[Wait("auth", 4, None)],
        accounts=[paused], pauses=[],
    )  # fmt: skip

    (needed,) = rows(snapshot, "needs you")
    (account,) = rows(snapshot, "accounts")

    assert "GEODES_API_KEY is not set" in needed.cells[1]
    assert needed.notes[-1] == "geodes-tasks resume --account default"
    assert rows(snapshot, "continues by itself") == []
    assert account.cells[1].startswith("PAUSED: ")
    assert "refused" not in "".join(account.cells)


def test_a_time_that_has_passed_is_never_shown_as_future() -> None:
    """What is due already waits for a free worker."""
    status = batch_of("b", {"backoff": 1}, retry=1)
    snapshot = Snapshot(NOW, [status], waits=[Wait("backoff", 1, NOW - 50)])

    (late,) = rows(snapshot, "continues by itself")

    assert late.cells == ("1", "waiting after an error", "next when a worker is free")


def test_a_silent_worker_is_named_with_the_time_of_the_take_over() -> None:
    """Its files have no speed, and are not shown as moving."""
    (silent,) = rows(busy_snapshot(), "workers")
    files = {row.cells[5]: row for row in rows(busy_snapshot(), "files")}

    assert silent.cells[0].startswith("celery@node2 is silent since ")
    assert "1 file taken over at" in silent.cells[0]
    assert files["node2 geodes"].cells[3] == "silent"
    assert files["node2 geodes"].tone is Tone.WAITS
    assert files["node1 geodes"].cells[3] == "505.0 kB/s"


def test_the_speed_of_the_workers_is_that_of_the_batches() -> None:
    """Small files are over before one of them has a speed of its own."""
    small = replace(running(1, "a.zip", "celery@node1"), bytes_per_second=0.0)
    snapshot = replace(busy_snapshot(), running=[small])

    (detail,) = (one.detail for one in sections(snapshot) if one.title == "workers")

    assert detail.endswith("1 file at 1.8 MB/s")


def test_the_worker_of_a_private_run_takes_no_room() -> None:
    """On one machine a file has its source and its bar, no name of a process."""
    row = file_row(running(1, "a.zip", "one-machine-29484-1@vm"), is_silent=False)

    assert row.cells[5] == "geodes"


def test_workers_with_different_settings_are_a_warning() -> None:
    """Two quotas in one fleet are named, as are two versions."""
    snapshot = busy_snapshot()
    one, two = snapshot.workers or ()
    other = replace(two, version="0.1.0", limits=Limits(concurrent=9))

    text = [row.cells[0] for row in rows(replace(snapshot, workers=[one, other]), "needs you")]

    assert "workers run with different versions: 0.1.0, 0.2.0" in text
    assert "workers run with different values of GEODES_TASKS_MAX_CONCURRENT: 6, 9" in text


def test_no_worker_is_the_first_thing_that_needs_a_person() -> None:
    """Without a worker nothing happens, and the command that starts one is there."""
    first, *_ = rows(replace(busy_snapshot(), workers=[], silent=[]), "needs you")

    assert (first.cells, first.notes) == (("no worker is alive",), ("geodes-tasks worker",))


def test_limits_nobody_has_published_are_unknown() -> None:
    """Before a worker has started, no quota of the viewer's own environment is shown."""
    row = account_row(AccountState("lab", None, None, 0, 0, 0, 0.0, 0, None), NOW)

    assert row.cells == ("lab", "0 running, limits unknown: no worker has started yet")


def test_a_wait_for_the_quota_is_named_once() -> None:
    """The time is the later of that of the window and that of the portal."""
    waits = replace(ACCOUNT, paused=Reason.QUOTA, paused_until=NOW + 90)

    row = account_row(waits, NOW)

    assert row.cells[1].startswith("quota 24/2minutes used up, next at ")
    assert row.cells[1].count("next at") == 1
    assert "(in 1 min 30 s)" in row.cells[1]
    assert row.tone is Tone.WAITS


def test_a_raised_limit_names_its_own_reason() -> None:
    """The reason shown is that of the last change, and no word of lowering stands before it."""
    state = AccountState("lab", None, None, 3, 5, 0, 0.0, 0, None, 6, "4 downloads went well")

    assert "3 of 5 at once (5 of 6: 4 downloads went well)" in account_row(state, NOW).cells[1]


def test_a_file_of_unknown_size_keeps_the_columns_of_the_others() -> None:
    """Its bytes do not stand below the per cents of another file."""
    snapshot = busy_snapshot()
    files = [
        replace(one, size_bytes=n and one.size_bytes) for n, one in enumerate(snapshot.running)
    ]
    html = picture(replace(snapshot, running=files))

    (table,) = re.findall(r"<h4>files .*?</table>", html)
    widths = {row.count("<td") for row in table.split("<tr")[1:]}

    assert len(files) > 1
    assert widths == {7}


def test_html_has_the_same_words_and_escapes_names() -> None:
    """The notebook and the page show each cell that the terminal shows; markup stays text."""
    snapshot = busy_snapshot()
    snapshot = replace(snapshot, batches=[batch_of("<b>urgent", success=1), snapshot.batches[1]])
    html = picture(snapshot, "/task/")

    words = [cell for one in sections(snapshot) for row in one.rows for cell in row.cells]
    assert all(word.replace("<", "&lt;").replace(">", "&gt;") in html for word in words)
    assert "<b>urgent" not in html
    assert "<a href='/task/id-1'>" in html
    assert "<code>geodes-tasks resume --batch pyrenees-april</code>" in html


def test_a_notebook_names_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python the view names what to call in place of each command that a call replaces."""
    monkeypatch.setattr("geodes_tasks.errors.remedies._is_at_shell", False)
    html = picture(busy_snapshot())

    assert "<code>geodes_tasks.batch(&#x27;pyrenees-april&#x27;).resume()</code>" in html
    assert ".retry(classes=[&#x27;ServerError&#x27;])</code>" in html
    assert "geodes-tasks re" not in html


def test_history_lists_each_attempt(fake_ledger: Ledger, clock: Clock) -> None:
    """The attempts of one file have time, worker and error, and the state is in words."""
    ask(fake_ledger, request_of("a"))
    for _ in range(2):
        postponed(fake_ledger, claimed(fake_ledger, request_of("a")), AGAIN_AT_ONCE)
        clock.advance(1.0)
    record = fake_ledger.reading.record(request_of("a").download_id)
    assert record is not None

    download, attempts = history_sections(record)

    assert download.rows[0].cells == ("state", "waiting after a stopped worker")
    assert len(attempts.rows) == 2
    assert attempts.rows[0].cells[1] == "w"


def test_the_reader_fills_every_section(fake_ledger: Ledger) -> None:
    """From a real ledger: failed, waiting and running downloads, a pause and a worker."""
    requests = [request_of(name) for name in "abc"]
    ask(fake_ledger, *requests)
    failed(fake_ledger, requests[0])
    claimed(fake_ledger, requests[1])
    fake_ledger.dispatch.register("w", 4)
    fake_ledger.dispatch.publish("w", ())
    fake_ledger.control.pause("source", "s3", "by hand")

    snapshot = SnapshotReader(fake_ledger, ["b"]).read()
    titles = [one.title for one in sections(snapshot)]
    form = snapshot.status_object(snapshot.batches[0])

    assert titles == ["batches", "needs you", "workers", "files", "accounts"]
    assert form["paused"] == [{"kind": "source", "name": "s3", "reason": "by hand", "until": None}]
    assert form["failures"][0]["command"].startswith("geodes-tasks retry b --class ")
    assert form["accounts"] == [
        {
            "name": "acc", "quota": "off", "quota_left": None, "portal_quota_left": None,
            "limit": 4, "running": 1,
        }
    ]  # fmt: skip
    assert form["workers"] == {"alive": 1, "silent": []}


@pytest.mark.parametrize("names", [["b"], ["b", "gone"]])
def test_a_batch_that_was_forgotten_leaves_the_picture(
    fake_ledger: Ledger, names: list[str]
) -> None:
    """The view goes on with the others."""
    ask(fake_ledger, request_of("a"))

    assert [one.batch for one in SnapshotReader(fake_ledger, names).read().batches] == ["b"]


def test_a_one_machine_run_whose_worker_starts_needs_nobody(fake_ledger: Ledger) -> None:
    """On a private server a missing worker is no alarm: the run starts it."""
    ask(fake_ledger, request_of("a"))
    fake_ledger.connection.url = "redis+socket:///run/x.sock"

    snapshot = SnapshotReader(fake_ledger, ["b"]).read()

    assert [one.title for one in sections(snapshot)] == ["batches", "accounts"]
    assert snapshot.ends["b"].why == ""


def test_a_text_without_measure_is_cut() -> None:
    """A tenant of Redis may write 100 MB as a name: a terminal would lay them out for minutes."""
    row = Row(("x" * 10_000_000, "whole"), notes=("y" * 10_000_000,))

    assert [len(text) for text in (*row.cells, *row.notes)] == [MOST_CHARACTERS, 5, MOST_CHARACTERS]
    assert row.cells[0].endswith("x...")
