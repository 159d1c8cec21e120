"""Loops that survive every exception, and log it once a minute at most."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.monitoring.metrics import LedgerCollector
from geodes_tasks.tasks import loop_guard
from geodes_tasks.tasks.loop_guard import LOG_S, LoopGuard, publish_failures

logger = logging.getLogger(__name__)


def test_one_line_a_minute_with_how_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure is logged at once; those of the next minute are counted in one line."""
    now = [1000.0]
    monkeypatch.setattr(loop_guard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    guard = LoopGuard(logger, "work")

    for _ in range(61):
        with guard:
            raise LedgerUnavailableError("redis://h", "refused")
        now[0] += LOG_S / 60

    first, second = caplog.messages
    assert first.startswith("work failed: no answer from Redis")
    assert second.startswith("work failed 60 times since the last report: no answer from Redis")
    assert not any(one.exc_info for one in caplog.records)


def test_a_defect_has_its_traceback_and_a_line_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another kind of failure within the minute is not hidden by the first."""
    guard = LoopGuard(logger, "work")

    for error in (LedgerUnavailableError("redis://h", "refused"), ZeroDivisionError("a defect")):
        with guard:
            raise error

    assert [bool(one.exc_info) for one in caplog.records] == [False, True]
    assert "work failed: ZeroDivisionError: a defect" in caplog.text


def test_what_ends_a_process_is_not_swallowed() -> None:
    """SystemExit goes through."""
    with pytest.raises(SystemExit, match="3"), LoopGuard(logger, "work"):
        raise SystemExit(3)


def test_failures_reach_the_metrics(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failed turn is counted once, also when Redis is away at first."""
    monkeypatch.setattr(loop_guard, "_failures", Counter())
    count = fake_ledger.dispatch.count_loop_failures
    guard = LoopGuard(logger, "work")
    for _ in range(3):
        with guard:
            raise ValueError("x")

    def away(_: object) -> None:
        raise LedgerUnavailableError("redis://h", "refused")

    monkeypatch.setattr(fake_ledger.dispatch, "count_loop_failures", away)
    with pytest.raises(LedgerUnavailableError):
        publish_failures(fake_ledger)
    monkeypatch.setattr(fake_ledger.dispatch, "count_loop_failures", count)
    for _ in range(2):
        publish_failures(fake_ledger)

    text = generate_latest(LedgerCollector(fake_ledger)).decode()
    assert 'geodes_tasks_loop_failures_total{loop="work"} 3.0' in text
