"""What ends a pause, and what does not; what a cancel frees; which clock a lease follows."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis.commands.core import HashCommands

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.leases import clock as lease_clock
from geodes_tasks.model.states import Reason
from tests.conftest import Clock
from tests.unit.ledger.test_account import (
    REFUSED,
    THROTTLED,
    ends,
    succeeds,
)
from tests.unit.ledger.test_ledger import ACCOUNT, claimed, many, sent_ids, with_limits


def pause_of(ledger: Ledger) -> tuple[str | None, float | None]:
    """Return why the account is paused, and until when."""
    (state,) = ledger.account.states()
    return state.paused, state.paused_until


@pytest.mark.parametrize("why", ["by hand", "the key was refused"])
def test_quota_that_is_back_ends_no_pause_of_another_cause(
    fake_ledger: Ledger, clock: Clock, why: str
) -> None:
    """A good answer about the quota leaves a pause by a person, or for a refused key, as it is."""
    many(fake_ledger, 2)
    fake_ledger.account.pause(ACCOUNT, why)

    for left in (50, -2):
        asked = fake_ledger.connection.server_time()
        assert not fake_ledger.account.note_quota(ACCOUNT, left, asked)
        clock.advance(1.0)

    assert pause_of(fake_ledger) == (why, None)
    assert sent_ids(fake_ledger) == []


@pytest.mark.parametrize("verb", ["note_quota", "reset"])
def test_a_pause_by_hand_at_the_same_moment_stays(
    fake_ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """A user pauses the account between the look at its pause and the end of that."""
    ends(fake_ledger, claimed(fake_ledger, many(fake_ledger, 1)[0]), REFUSED)
    assert pause_of(fake_ledger)[0] == Reason.QUOTA
    asked = fake_ledger.connection.server_time()
    name = "hget" if verb == "note_quota" else "hgetall"
    read = getattr(HashCommands, name)

    def interrupted(*args: Any) -> Any:
        found = read(*args)
        monkeypatch.undo()
        fake_ledger.account.pause(ACCOUNT, "by hand", by_hand=True)
        return found

    monkeypatch.setattr(HashCommands, name, interrupted)
    if verb == "note_quota":
        fake_ledger.account.note_quota(ACCOUNT, 50, asked)
    else:
        fake_ledger.account.reset(ACCOUNT)

    assert pause_of(fake_ledger) == ("by hand", None)


@pytest.mark.parametrize("why", ["by hand", "the key was refused"])
def test_a_download_that_succeeds_ends_no_pause_of_another_cause(
    fake_ledger: Ledger, clock: Clock, why: str
) -> None:
    """The download that probed for quota gets its file after a person paused the account."""
    requests = many(fake_ledger, 3)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)
    clock.advance(3700.0)
    probing = claimed(fake_ledger, requests[1])
    fake_ledger.account.pause(ACCOUNT, why)

    fake_ledger.account.end_probe(probing)
    clock.advance(3600.0)

    assert pause_of(fake_ledger)[0] == why


def test_a_long_pause_is_not_cut_short_by_a_short_one(fake_ledger: Ledger, clock: Clock) -> None:
    """After a pause of an hour a 429 of some seconds reopens nothing."""
    requests = many(fake_ledger, 2)
    claim = claimed(fake_ledger, requests[0])
    fake_ledger.account.pause(ACCOUNT, "quota", 3600.0)
    before = pause_of(fake_ledger)

    ends(fake_ledger, claim, THROTTLED)
    fake_ledger.account.pause(ACCOUNT, "throttled", 20.0)

    assert pause_of(fake_ledger) == before
    clock.advance(60.0)
    assert sent_ids(fake_ledger) == []


def test_a_short_pause_is_extended_by_a_long_one(fake_ledger: Ledger, clock: Clock) -> None:
    """The later end of two pauses holds."""
    many(fake_ledger, 1)
    fake_ledger.account.pause(ACCOUNT, "throttled", 20.0)

    fake_ledger.account.pause(ACCOUNT, "quota", 3600.0)
    clock.advance(60.0)

    assert pause_of(fake_ledger)[0] == "quota"
    assert sent_ids(fake_ledger) == []


def test_a_cancelled_download_leaves_room_for_another_message(fake_ledger: Ledger) -> None:
    """The messages of cancelled downloads do not use up the window of messages in the broker."""
    ledger = with_limits(fake_ledger, concurrent=2)
    requests = many(ledger, 1000)
    first = sent_ids(ledger)
    assert 0 < len(first) < len(requests)

    ledger.control.cancel(first)

    assert len(sent_ids(ledger)) == len(first)


def test_a_success_after_a_pause_by_quota_ends_it(fake_ledger: Ledger, clock: Clock) -> None:
    """The control of the tests above: a pause for the quota does end when there is quota."""
    requests = many(fake_ledger, 2)
    ends(fake_ledger, claimed(fake_ledger, requests[0]), REFUSED)
    assert pause_of(fake_ledger)[0] == "quota"
    clock.advance(3700.0)

    succeeds(fake_ledger, requests[1])

    assert pause_of(fake_ledger)[0] is None


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux has this clock")
def test_a_lease_runs_out_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of leases counts the time of a suspended machine (clock_gettime(2), BOOTTIME)."""
    clocks = {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 100.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)

    assert lease_clock() == 5000.0
