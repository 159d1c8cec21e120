"""Events that the thread beside Flower makes from the ledger."""

from __future__ import annotations

from geodes_tasks.ledger import Ledger
from geodes_tasks.model.results import Decision
from geodes_tasks.tasks.ledger_events import corrections
from tests.conftest import Clock
from tests.unit.ledger.test_ledger import ask, claimed, postponed, request_of


def test_a_wait_does_not_depend_on_the_clock_of_this_host(
    fake_ledger: Ledger, clock: Clock
) -> None:
    """The seconds left are those of the server's clock, here weeks ahead of the host's."""
    clock.advance(2e6)
    request = request_of("a")
    ask(fake_ledger, request)
    postponed(fake_ledger, claimed(fake_ledger, request), Decision(True, delay_s=300.0))
    record = fake_ledger.reading.record(request.download_id)
    now = fake_ledger.connection.server_time()

    (event,) = corrections(request.download_id, "STARTED", record, "w@h", now)

    assert event["type"] == "task-retried"
    assert event["exception"].endswith("(waits 300 s)")
