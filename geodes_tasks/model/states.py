"""The states of a download, how success came about, why one waits, and the allowed moves."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Celery's states, with Celery's values. Unknown downloads have none (``None``)."""

    PENDING = "PENDING"
    """Admitted; no worker has taken it yet."""
    STARTED = "STARTED"
    """One worker holds its lease."""
    RETRY = "RETRY"
    """Waits, for a reason and until a due time; holds no slot."""
    SUCCESS = "SUCCESS"
    """The file is at its final name, proven (or said to be unverifiable)."""
    FAILURE = "FAILURE"
    """Ended with a named error."""
    REVOKED = "REVOKED"
    """Cancelled."""


class Outcome(StrEnum):
    """How SUCCESS came about."""

    DOWNLOADED = "DOWNLOADED"
    """Fetched from byte 0."""
    RESUMED = "RESUMED"
    """Fetched from where a former attempt stopped."""
    ALREADY_PRESENT = "ALREADY_PRESENT"
    """The right bytes were there; nothing was fetched."""


class Reason(StrEnum):
    """Why a download waits (state RETRY)."""

    BACKOFF = "backoff"
    """After a transient error."""
    QUOTA = "quota"
    """The account's window is used up."""
    THROTTLED = "throttled"
    """The portal asked for patience."""
    AUTH = "auth"
    """The account's key was refused."""
    OFFLINE = "offline"
    """The file is on tape."""
    HELD = "held"
    """Somebody holds the source that has it."""
    DISK = "disk"
    """The worker that had it cannot write."""
    WORKER_LOST = "worker-lost"
    """Its worker died; another takes it over."""
    WORKER_STOPPED = "worker-stopped"
    """Its worker was asked to stop and gave it back."""


TERMINAL: frozenset[State] = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
"""Nothing happens any more unless somebody asks again."""

ACTIVE: frozenset[State] = frozenset(State) - TERMINAL
"""Somebody has asked and it is not over."""

ALLOWED_MOVES: frozenset[tuple[State | None, State]] = frozenset(
    {
        (None, State.PENDING),  # admitted
        (None, State.FAILURE),  # refused at the door: no data asset, hostile name, name taken
        (State.PENDING, State.STARTED),  # claimed
        (State.PENDING, State.RETRY),  # put back: its account waits
        (State.PENDING, State.REVOKED),  # cancelled before it started
        (State.STARTED, State.SUCCESS),
        (State.STARTED, State.FAILURE),
        (State.STARTED, State.RETRY),  # waits: back-off, quota, tape, dead worker, ...
        (State.STARTED, State.REVOKED),  # cancelled while it ran
        (State.RETRY, State.STARTED),  # claimed again
        (State.RETRY, State.PENDING),  # asked for again by hand, or let go: no wait any more
        (State.RETRY, State.REVOKED),  # cancelled while it waited
        (State.RETRY, State.FAILURE),  # somebody put an end to the wait
        (State.SUCCESS, State.PENDING),  # asked again: look at the file again
        (State.SUCCESS, State.SUCCESS),  # asked again, one stat showed it unchanged
        (State.FAILURE, State.PENDING),  # asked again
        (State.REVOKED, State.PENDING),  # asked again
    }
)
"""Every move the ledger makes; its scripts refuse any other. ``None`` is unknown."""


def may_move(old: State | None, new: State) -> bool:
    """Tell whether the ledger allows this move."""
    return (old, new) in ALLOWED_MOVES
