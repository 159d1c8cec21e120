"""The end expected of a batch: its speed, its quota, its waits, and when nothing is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodes_tasks.monitoring.expected_end import End, expected_end
from geodes_tasks.monitoring.picture import end_text
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.monitoring.wording import clock
from tests.unit.monitoring.scene import ACCOUNT, NOW, batch_of

FREE = replace(ACCOUNT, quota_count=0, quota_reopens=None)
MOVING: dict[str, Any] = {
    "bytes_total": 10_000_000,
    "bytes_done": 4_000_000,
    "bytes_per_second": 100_000.0,
}


def test_the_speed_bounds_the_end_where_nothing_else_does() -> None:
    """Six megabytes at 100 kB/s are over in a minute."""
    end = expected_end(batch_of("b", started=2, pending=3, **MOVING), FREE, at=NOW, alive=1)

    assert end == End(NOW + 60)


def test_the_quota_bounds_the_end() -> None:
    """24 in two minutes, all spent, the next in 54 s: 60 files need three windows."""
    status = batch_of("b", started=2, pending=60, **MOVING)
    end = expected_end(status, ACCOUNT, at=NOW, alive=1)

    assert end == End(NOW + 54 + 2 * 120, "60 files at 24/2minutes")


def test_what_s3_serves_needs_no_quota() -> None:
    """Downloads that S3 can serve are not counted against the window of the portal."""
    status = batch_of("b", started=2, pending=60, **MOVING)

    assert expected_end(status, ACCOUNT, at=NOW, alive=1, on_s3=60) == End(NOW + 60)


def test_a_wait_bounds_the_end() -> None:
    """A download that is due in ten minutes ends no sooner."""
    status = batch_of("b", {"backoff": 1}, started=1, retry=1, **MOVING)

    assert expected_end(status, FREE, at=NOW, alive=1, next_due=NOW + 600) == End(NOW + 600)


def test_a_pause_of_the_account_bounds_the_end_of_what_is_queued() -> None:
    """What the portal has waits for the end of the pause, what S3 serves does not."""
    account = replace(FREE, paused="quota", paused_until=NOW + 300)
    queued = batch_of("b", pending=3)

    assert expected_end(queued, account, at=NOW, alive=1) == End(NOW + 300)
    assert expected_end(queued, account, at=NOW, alive=1, on_s3=3) == End(None)


def test_the_tape_hides_no_end_of_the_others() -> None:
    """One file of four on tape: the end of all is unknown, that of the other three is known."""
    status = batch_of("b", {"offline": 1}, started=3, retry=1, **MOVING | {"bytes_done": 2_000_000})

    end = expected_end(status, FREE, at=NOW, alive=1)

    assert end == End(None, "the tape names no time", NOW + 60)
    snapshot = Snapshot(NOW, [status], {"b": end})
    assert end_text(snapshot, status) == (f"about {clock(NOW + 60, NOW)}", "end without the tape")
    assert snapshot.status_object(status)["expected_end"] is None


@pytest.mark.parametrize(
    ("fields", "options", "why"),
    [
        ({"success": 3}, {}, ""),
        ({"pending": 3}, {"is_paused": True}, ""),
        ({"pending": 3}, {"alive": 0}, "no worker is alive"),
        ({"pending": 3, "retry": 1, "waiting": {"offline": 1}}, {}, "the tape names no time"),
        ({"started": 3}, {}, ""),
    ],
)
def test_an_unknown_end_is_none_and_says_why(
    fields: dict[str, object], options: dict[str, object], why: str
) -> None:
    """A pause, a tape, no worker, no speed yet: no time of day is made up."""
    status = batch_of("b", **fields)  # type: ignore[arg-type]  # numbers and waits

    assert expected_end(status, FREE, at=NOW, **{"alive": 1} | options) == End(None, why)  # type: ignore[arg-type]
