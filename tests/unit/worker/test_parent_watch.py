"""The watch of the parent process in one-machine mode."""

from __future__ import annotations

import os
import threading

import pytest

from geodes_tasks.ledger import Ledger
from worker import parent_watch
from worker.parent_watch import ParentWatch


def test_a_thread_that_cannot_start_is_started_again(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of threads the worker of a dead command still ends, a little later."""
    watch = ParentWatch(os.getppid() + 1, fake_ledger)
    cleaned, tries = threading.Event(), []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(watch, "_clean_up", lambda _: cleaned.set())
    monkeypatch.setattr(parent_watch, "POLL_S", 0.001)
    monkeypatch.setattr(threading.Thread, "start", start)

    watch.run()

    assert cleaned.wait(5)
    assert len(tries) == 3
