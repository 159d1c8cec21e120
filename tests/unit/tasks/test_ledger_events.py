"""Events that the thread beside Flower makes from the ledger."""

from __future__ import annotations

import time

from celery.events.state import Task, Worker

from geodes_tasks.ledger import Ledger
from geodes_tasks.model.results import Decision
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import make
from geodes_tasks.tasks.ledger_events import BEGIN_S, LedgerEvents, corrections
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import ask, claimed, postponed, proven, request_of


def test_a_wait_does_not_depend_on_the_clock_of_this_host(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """The due time is that of the server's clock, here weeks ahead of the host's."""
    clock.advance(2e6)
    request = request_of("a")
    ask(fake_ledger, request)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, delay_s=300.0))
    record = fake_ledger.reading.record(request.download_id)
    assert record is not None

    (event,) = corrections(request.download_id, "STARTED", record, "w@h")

    assert event["type"] == "task-retried"
    assert event["exception"].endswith(f"(waits until {record.due_at})")


def begun(ledger: Ledger, **stored: str) -> LedgerEvents:
    """Return the thread as it is right after the start of Flower; it does not run.

    ``stored`` are the states of downloads that Flower read from its file.
    """
    tasks = {one: Task(one, worker=Worker("w@h"), state=state) for one, state in stored.items()}
    events = LedgerEvents(make(Config()), ledger, tasks)
    events._began = time.monotonic()
    return events


def compared(events: LedgerEvents) -> list[tuple[str, str]]:
    """Compare twice, as an event may be on its way; return the kinds and ids that are missing."""
    list(events.missing())
    return [(event["type"], event["uuid"]) for event in events.missing()]


def test_what_started_and_is_queued_again_is_corrected_right_after_the_start(
    fake_ledger: Ledger,
) -> None:
    """Flower goes back from STARTED to PENDING only after a retry."""
    request = request_of("a")
    ask(fake_ledger, request)
    events = begun(fake_ledger)
    events.note({"type": "task-started", "uuid": request.download_id, "hostname": "w@h"})

    missing = compared(events)

    assert missing == [
        ("task-retried", request.download_id),
        ("task-sent", request.download_id),
    ]


def test_what_flower_stored_is_corrected_once_it_listens(fake_ledger: Ledger) -> None:
    """What ended while Flower was down ends in it, and what had ended there is queued again."""
    done, again = request_of("done"), request_of("again")
    proven(fake_ledger, done)
    ask(fake_ledger, again)
    events = begun(fake_ledger, **{done.download_id: "STARTED", again.download_id: "SUCCESS"})

    early = compared(events)
    events._began -= BEGIN_S
    late = compared(events)

    assert early == [("task-retried", again.download_id), ("task-sent", again.download_id)]
    assert ("task-succeeded", done.download_id) in late
