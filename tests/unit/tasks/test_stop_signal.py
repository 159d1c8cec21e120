"""The stop signal: shared by all processes of a worker."""

from __future__ import annotations

from geodes_tasks.tasks.stop_signal import StopSignal


def test_a_stop_lets_attempts_go_on_for_the_grace_time() -> None:
    """Set with a grace time it has not expired yet; with none it has; cleared it never does."""
    stop = StopSignal()
    never = stop.expired
    stop.set(60.0)
    soon = stop.expired
    stop.set(0.0)
    now = stop.expired
    stop.clear()

    assert (never, soon, now, stop.expired) == (False, False, True, False)
    assert stop.deadline == 0.0


def test_a_second_stop_is_never_a_later_one() -> None:
    """A worker asked to end at once ends at once, whoever asks more kindly afterwards."""
    stop = StopSignal()
    stop.set(0.0)
    stop.set(60.0)

    assert stop.expired
