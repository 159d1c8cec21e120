"""Words for batches: counts in a line, and messages without addresses."""

from __future__ import annotations

import re

import pytest

from geodes_tasks.model.results import BatchStatus
from geodes_tasks.monitoring.wording import clock, summary, without_addresses
from tests.unit.monitoring.scene import NOW
from tests.unit.monitoring.test_terminal import status_of


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (status_of(success=3), "3 of 3 done"),
        (status_of(success=1, started=2, pending=3), "1 of 6 done, 2 running, 3 queued"),
        (
            status_of(waiting={"quota": 2, "offline": 1}, retry=3),
            "0 of 3 done, 2 waiting for the quota, 1 on tape",
        ),
        (status_of(failure=1, revoked=2), "0 of 3 done, 1 failed, 2 cancelled"),
    ],
)
def test_a_batch_is_summed_up_in_a_line(status: BatchStatus, text: str) -> None:
    """Why downloads wait is part of it."""
    assert summary(status) == text


def test_states_that_nothing_is_in_may_be_left_out() -> None:
    """A single download outside a ledger has the one state that it is in."""
    one = BatchStatus(batch="b", total=1, states={"FAILURE": 1}, outcomes={})

    assert summary(one) == "0 of 1 done, 1 failed"


@pytest.mark.parametrize(
    ("ahead_s", "form"),
    [(60, r"\d\d:\d\d:\d\d \S+"), (3600, r"\d\d:\d\d \S+"), (9e5, r"\d\d \w+ \d\d:\d\d")],
)
def test_a_time_of_day_is_local_and_has_its_zone(ahead_s: float, form: str) -> None:
    """Seconds when it is near, a date when it is far."""
    assert re.fullmatch(form, clock(NOW + ahead_s, NOW))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("https://portal.example/a: refused", "refused"),
        ("('https://portal.example/a', 404)", "(404)"),
        ("see https://portal.example/doc", "see https://portal.example/doc"),
        (
            f"https://portal.example/api/download/{'URN:FEATURE:' * 5}V1/files/0123 needs a key",
            "https://portal.example/.../0123 needs a key",
        ),
    ],
)
def test_addresses_before_the_reason_are_left_out(message: str, shown: str) -> None:
    """The reason is what a short line has room for; an address that is the point stays."""
    assert without_addresses(message) == shown
