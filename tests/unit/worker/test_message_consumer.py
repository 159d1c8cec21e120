"""The timer of a worker: what comes while it waits is called in time, and it ends at once."""

from __future__ import annotations

import threading
import time

from worker.message_consumer import Timer


def test_an_entry_that_comes_while_the_timer_waits_is_called_in_time() -> None:
    """Events are kept for a tenth of a second, whatever else is due later."""
    timer, called = Timer(max_interval=5.0), threading.Event()
    timer.call_after(30.0, int)
    time.sleep(0.2)  # it waits for that one by now

    timer.call_after(0.05, called.set)

    assert called.wait(2.0)
    timer.stop()


def test_a_timer_ends_at_once() -> None:
    """A stop does not last until the next entry is due."""
    timer = Timer(max_interval=5.0)
    timer.call_after(30.0, int)
    time.sleep(0.2)
    began = time.monotonic()

    timer.stop()

    assert time.monotonic() - began < 2.0
