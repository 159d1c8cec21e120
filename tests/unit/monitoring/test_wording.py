"""Words for batches: counts in a line, and messages without addresses."""

from __future__ import annotations

import pytest

from geodes_tasks.model.results import BatchStatus
from geodes_tasks.monitoring.wording import summary, time_left, without_addresses
from tests.unit.monitoring.test_terminal import status_of


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (status_of(success=3), "3 of 3 done"),
        (status_of(success=1, started=2, pending=3), "1 of 6 done, 2 running, 3 queued"),
        (
            status_of(waiting={"quota": 2, "offline": 1}, retry=3),
            "0 of 3 done, 3 waiting (quota 2, offline 1)",
        ),
        (status_of(failure=1, revoked=2), "0 of 3 done, 1 failed, 2 cancelled"),
    ],
)
def test_a_batch_is_summed_up_in_a_line(status: BatchStatus, text: str) -> None:
    """Why downloads wait is part of it."""
    assert summary(status) == text


@pytest.mark.parametrize(
    ("done", "bytes_per_s", "text"),
    [(500_000, 100_000.0, "5 s"), (500_000, 0.0, ""), (1_000_000, 100_000.0, "")],
)
def test_time_left_is_empty_when_it_is_unknown(done: int, bytes_per_s: float, text: str) -> None:
    """Without a speed, or with nothing left, no time is shown."""
    assert time_left(status_of(done=done), bytes_per_s) == text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("https://portal.example/a: refused", "refused"),
        ("('https://portal.example/a', 404)", "(404)"),
        ("see https://portal.example/doc", "see https://portal.example/doc"),
    ],
)
def test_addresses_before_the_reason_are_left_out(message: str, shown: str) -> None:
    """The reason is what a short line has room for; an address that is the point stays."""
    assert without_addresses(message) == shown
