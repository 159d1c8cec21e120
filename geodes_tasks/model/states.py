"""States of a download, outcomes of success, reasons for a wait, and the allowed moves."""

from __future__ import annotations

from enum import StrEnum


# Flower, AsyncResult and the exit codes of Celery's tools read these words (celery.states).
class State(StrEnum):
    """Celery's states, with Celery's values. An unknown download has no state (``None``)."""

    PENDING = "PENDING"
    """Admitted; no worker has claimed it yet."""
    STARTED = "STARTED"
    """One worker has its lease."""
    RETRY = "RETRY"
    """Waits for a reason, until a due time; uses no slot of a worker."""
    SUCCESS = "SUCCESS"
    """The file is at its final name, verified; unverified if the catalogue has no checksum."""
    FAILURE = "FAILURE"
    """Ended with a named error."""
    REVOKED = "REVOKED"
    """Cancelled."""


class Outcome(StrEnum):
    """How a download reached SUCCESS."""

    DOWNLOADED = "DOWNLOADED"
    """Fetched from byte 0."""
    RESUMED = "RESUMED"
    """Fetched from the byte at which an earlier attempt stopped."""
    ALREADY_PRESENT = "ALREADY_PRESENT"
    """The right bytes were on disk; nothing was fetched."""


class Reason(StrEnum):
    """Why a download waits (state RETRY)."""

    BACKOFF = "backoff"
    """After a transient error."""
    QUOTA = "quota"
    """The quota of the account is used up."""
    THROTTLED = "throttled"
    """The portal sent HTTP 429 or Retry-After."""
    AUTH = "auth"
    """The key of the account was refused."""
    OFFLINE = "offline"
    """The file is on tape."""
    OUTAGE = "outage"
    """The host that has the file cannot be reached."""
    PAUSED = "paused"
    """The source that has the file is paused."""
    DISK = "disk"
    """The worker that had the lease cannot write to its disk."""
    WORKER_LOST = "worker-lost"
    """Its worker did not renew the lease; another worker takes it over."""
    WORKER_STOPPED = "worker-stopped"
    """Its worker was stopped and requeued it."""


TERMINAL: frozenset[State] = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
"""States that end a download, until a user enqueues or retries it."""

ACTIVE: frozenset[State] = frozenset(State) - TERMINAL
"""States of an unfinished download."""

ALLOWED_MOVES: frozenset[tuple[State | None, State]] = frozenset(
    {
        (None, State.PENDING),  # admitted
        (None, State.FAILURE),  # not admitted: no data asset, hostile name, name taken
        (State.PENDING, State.STARTED),  # claimed
        (State.PENDING, State.RETRY),  # its account waits
        (State.PENDING, State.REVOKED),  # cancelled before it started
        (State.STARTED, State.SUCCESS),
        (State.STARTED, State.FAILURE),
        (State.STARTED, State.RETRY),  # waits: back-off, quota, tape, dead worker, ...
        (State.STARTED, State.REVOKED),  # cancelled while it ran
        (State.RETRY, State.STARTED),  # claimed again
        (State.RETRY, State.PENDING),  # retried by a user, or resumed: no wait any more
        (State.RETRY, State.REVOKED),  # cancelled while it waited
        (State.RETRY, State.FAILURE),  # the wait ended with an error
        (State.SUCCESS, State.PENDING),  # enqueued again: the file is checked again
        (State.FAILURE, State.PENDING),  # enqueued or retried
        (State.REVOKED, State.PENDING),  # enqueued or retried
    }
)
"""Every move of the ledger; its scripts refuse any other. ``None`` is an unknown download."""
