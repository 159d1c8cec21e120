"""Counts, times and messages in the words that every view uses."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NoReturn

from geodes_tasks.errors import ConfigError
from geodes_tasks.model.formatting import human_seconds, instant
from geodes_tasks.model.results import BatchStatus, ErrorInfo
from geodes_tasks.model.states import Outcome, Reason, State

STATE_WORDS = {
    State.PENDING: "queued",
    State.STARTED: "running",
    State.RETRY: "waiting",
    State.SUCCESS: "done",
    State.FAILURE: "failed",
    State.REVOKED: "cancelled",
}
"""Celery's state to the word that people read."""
OUTCOME_WORDS = {
    Outcome.DOWNLOADED: "downloaded",
    Outcome.RESUMED: "resumed",
    Outcome.ALREADY_PRESENT: "already here",
}
WAIT_WORDS: dict[str, str] = {
    Reason.BACKOFF: "waiting after an error",
    Reason.QUOTA: "waiting for the quota",
    Reason.THROTTLED: "waiting as the portal asked to",
    Reason.AUTH: "waiting for an API key",
    Reason.OFFLINE: "on tape",
    Reason.OUTAGE: "waiting for the network",
    Reason.PAUSED: "paused by hand",
    Reason.DISK: "waiting for a disk",
    Reason.WORKER_LOST: "waiting after a dead worker",
    Reason.WORKER_STOPPED: "waiting after a stopped worker",
}
"""Reason of a wait to the words behind a number: ``3 on tape``."""
SOON_S, DAY_S = 600.0, 72_000.0
"""Seconds from now up to which a time is shown with seconds, and without a date."""
# The address repeats in every line and hides the reason. Each match takes the whole word, so a
# text of many addresses takes linear time.
_ADDRESS = re.compile(r"'?https?://[^\s']+(?:', | )?")
# Bounded, for the same reason.
_LONG_ADDRESS = re.compile(r"\b(https?://[^/\s]{1,200}/)\S{40,400}/([^\s/:,']+)")


def summary(status: BatchStatus, lost: int = 0) -> str:
    """Return a batch in a few words: ``12 of 20 done (9 downloaded, 3 resumed), 4 on tape``.

    Args:
        status: Its counts.
        lost: Number of its running downloads whose workers are silent.
    """
    states = Counter(status.states)
    states[State.STARTED] -= lost
    outcomes = [
        f"{status.outcomes[name]} {words}"
        for name, words in OUTCOME_WORDS.items()
        if status.outcomes.get(name)
    ]
    how = f" ({', '.join(outcomes)})" if outcomes else ""
    parts = [f"{states[State.SUCCESS]} of {status.total} done{how}"]
    for state in (State.STARTED, State.PENDING, State.FAILURE, State.REVOKED):
        if states[state]:
            parts.append(f"{states[state]} {STATE_WORDS[state]}")
    if lost:
        parts.append(f"{lost} on a silent worker")
    for reason, count in status.waiting.items():
        parts.append(f"{count} {WAIT_WORDS.get(reason, reason)}")
    return ", ".join(parts)


def without_addresses(message: str) -> str:
    """Remove the addresses before a colon or another value; of a long other one the middle."""
    return short_addresses(
        _ADDRESS.sub(lambda found: "" if found[0].endswith((": ", "', ")) else found[0], message)
    )


def short_addresses(message: str) -> str:
    """Return a message with the host and the end of each long address."""
    return _LONG_ADDRESS.sub(r"\1.../\2", message)


def in_words(word: str, error: ErrorInfo) -> str:
    """Return one line with an error and its remedy; of a long address its host and its end."""
    message = short_addresses(error.message)
    # Three dots show that a text was cut: they stay.
    end = "" if message.endswith((".", "?")) else "."
    return f"{word}: {message}{end} {error.hint}".rstrip()


def end_with(error: ConfigError) -> NoReturn:
    """End a program of Celery with exit code 2 and one line: it would print a traceback."""
    sys.stderr.write(in_words("error", ErrorInfo.of(error)) + "\n")
    sys.exit(2)


def clock(when: float, now: float) -> str:
    """Return a local time with its zone: with seconds when it is near, with a date when it is far.

    Args:
        when: Seconds since 1970.
        now: The present, in the same seconds.
    """
    distance = abs(when - now)
    # Local time, as squeue(1) and journalctl(1) show it; its zone is for those who read elsewhere.
    form = "%H:%M:%S %Z" if distance < SOON_S else "%H:%M %Z" if distance < DAY_S else "%d %b %H:%M"
    return instant(when).astimezone().strftime(form)


def local_time(text: str) -> str:
    """Return an ISO 8601 time as a local one with its zone; any other text as it is."""
    with contextlib.suppress(ValueError):
        return f"{datetime.fromisoformat(text).astimezone():%d %b %H:%M:%S %Z}"
    return text


def until(when: float | None, now: float) -> str:
    """Return when a wait ends: ``next at 17:20:05 CET (in 12 s)``; never a time that has passed."""
    if when is None or when <= now:
        return "next when a worker is free"
    return f"next at {clock(when, now)} (in {human_seconds(when - now)})"


def joined(parts: Iterable[str], by: str = ", ") -> str:
    """Return the parts that are not empty, joined."""
    return by.join(filter(None, parts))
