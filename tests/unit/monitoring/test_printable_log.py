"""A log: no name of a stranger reaches the terminal as a code, or forges a line."""

from __future__ import annotations

import io
import logging

import pytest

from geodes_tasks.monitoring.printable_log import escape_codes

CODES = "\x1b]0;owned\x07\x1b[2J\u202e"


def logged(name: str, message: str, *args: object, error: BaseException | None = None) -> str:
    """Return what a logger of this name writes."""
    out, logger = io.StringIO(), logging.Logger(name)  # noqa: LOG001 - of this test alone
    logger.addHandler(logging.StreamHandler(out))
    escape_codes(logger)
    logger.warning(message, *args, exc_info=error)
    return out.getvalue()


@pytest.mark.parametrize("name", ["geodes_tasks.tasks.outcome", "worker.recovery", "celery.app"])
def test_no_line_passes_codes_on(name: str) -> None:
    """Codes are escaped wherever they come from, in an error and its traceback too."""
    text = logged(name, "FAILED %s", f"/d/{CODES}", error=ValueError(f"in {CODES}"))

    assert text.replace("\n", "").isprintable()
    assert r"/d/\x1b]0;owned\x07" in text
    assert r"ValueError: in \x1b]0;owned" in text


def test_a_name_forges_no_line() -> None:
    """One event is one line of ours; tracebacks in Celery's messages keep theirs."""
    forged = "a.zip\n[2026-01-01 00:00:00,000: INFO] DOWNLOADED b.zip"

    assert logged("geodes_tasks.tasks.outcome", "FAILED %s", forged).count("\n") == 1
    assert logged("celery.app.trace", "raised:\n  File x\n") == "raised:\n  File x\n\n"


def test_other_lines_stay_as_they_are() -> None:
    """Letters of all languages are printable."""
    assert logged("worker", "%s: é 語 %d", "a.zip", 3) == "a.zip: é 語 3\n"
