"""Decisions on a failed attempt, and calls that are repeated until they succeed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from geodes_tasks.errors import (
    AccountPausedError,
    ChecksumMismatchError,
    GeodesTasksError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    NotFoundError,
    QuotaError,
    Reaction,
    RedirectUnreachableError,
    SourcePausedError,
    SourceUnavailableError,
    SourceUnreachableError,
    ThrottledError,
    UnreachableError,
    WorkerStoppingError,
)
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.asset import GEODES, REDIRECT
from geodes_tasks.model.results import Complaint, Decision
from geodes_tasks.model.states import Reason
from geodes_tasks.settings.config import Config

Answer = TypeVar("Answer")

BACKOFF_CAP_S = 300.0
"""Longest back-off, in seconds."""
THROTTLE_S = 20.0
"""Seconds an account is paused after a 429 that names no time."""
FIRST_OFFLINE = 0.25
"""Fraction of the poll period after which a file on tape is polled for the first time."""
OUTAGE_S = 10.0
"""Seconds between two tries to reach a host that cannot be reached, at most."""
DISK_S = 15.0
"""Seconds a download waits when its volume does not take files."""

# --- repeat a call -----------------------------------------------------------------------------


def until_success(
    action: Callable[[], Answer],
    wait_after: Callable[[GeodesTasksError], float],
    errors: tuple[type[GeodesTasksError], ...] = (GeodesTasksError,),
) -> Answer:
    """Call an action until it succeeds, and return what it returns.

    Args:
        action: Called without arguments.
        wait_after: Called with each failure; returns the seconds to wait before the next call, or
            raises to end the repetition.
        errors: Failures after which the action is repeated; every other error is raised at once.

    Raises:
        Exception: what ``wait_after`` raises, or an error of ``action`` that is not repeated.
    """
    while True:
        try:
            return action()
        except errors as error:
            wait_s = wait_after(error)
        time.sleep(wait_s)


def until_available(
    action: Callable[[], Answer], *, wait_s: float, stop: Callable[[GeodesTasksError], None]
) -> Answer:
    """Call an action on the ledger until Redis answers, and return what it returns.

    A restart of Redis must not lose what a worker knows now. A Redis user that lost its rights is
    waited for too: an administrator restores them while the worker runs.

    Args:
        action: Called without arguments, always at least once.
        wait_s: Seconds between two calls.
        stop: Called with each failure; raises when the caller must not wait any longer.

    Raises:
        Exception: what ``stop`` raises, or any other error of ``action``.
    """

    def wait_after(error: GeodesTasksError) -> float:
        stop(error)
        return wait_s

    return until_success(action, wait_after, (LedgerUnavailableError, LedgerForbiddenError))


# --- decide ------------------------------------------------------------------------------------


def outage_s(settings: Config) -> float:
    """Return the seconds between two tries to reach a host that cannot be reached."""
    return min(OUTAGE_S, settings.probe_seconds)


def backoff(attempt: int, first_s: float, seed: str) -> float:
    """Return the seconds to wait after the n-th failed attempt: doubled, capped, with jitter.

    The jitter is seeded by the download: a thousand downloads that failed together do not come
    back together, and a test computes the same waits each time.
    """
    return jittered(min(first_s * 2.0 ** min(attempt - 1, 16), BACKOFF_CAP_S), attempt, seed)


def jittered(wait_s: float, attempt: int, seed: str) -> float:
    """Return between half and all of a wait, in seconds; always the same for one attempt."""
    # Jitter spreads the load best where it is wide; half of the wait stays as a lower bound
    # (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, "equal jitter").
    return wait_s * random.Random(f"{seed} {attempt}").uniform(0.5, 1.0)  # noqa: S311 - no secret


def decide(
    error: BaseException, attempt: int, seed: str, settings: Config, *, was_missing: bool = False
) -> Decision:
    """Return what happens to a download after an error: fail, or wait for a reason and a time.

    Args:
        error: Error that ended the attempt; one that is no GeodesTasksError is a defect of this
            package or of a library, and is retried like a transient error.
        attempt: Number of counted attempts so far, this one included.
        seed: Seed of the jitter: the id of the download.
        settings: How often and how long.
        was_missing: Whether the attempt before ended with HTTP 404 too.
    """
    if isinstance(error, WorkerStoppingError):
        return Decision(True, Reason.WORKER_STOPPED, counted=False)
    if isinstance(error, AccountPausedError):
        # The account is paused already: this download joins those that wait for the portal.
        reason = Reason(error.why) if error.why in set(Reason) else Reason.AUTH
        return Decision(True, reason, counted=False, held=GEODES)
    reaction = error.reaction if isinstance(error, GeodesTasksError) else Reaction.TRANSIENT
    if type(error) is NotFoundError and not was_missing and attempt < settings.max_attempts:
        # A portal that is updated answers 404 for some minutes for files that it has.
        wait_s = error.retry_after_s
        return Decision(
            True, Reason.BACKOFF, settings.offline_poll_seconds if wait_s is None else wait_s
        )
    if reaction is Reaction.FINAL:
        return Decision(False)
    is_out = isinstance(error, SourceUnavailableError) and error.whole
    if is_out or isinstance(error, UnreachableError | SourceUnreachableError):
        # No server received a request, or it refused the credentials of the source, whatever the
        # object: no attempt is counted.
        wait = jittered(outage_s(settings), attempt, seed)
        host = REDIRECT + error.host if isinstance(error, RedirectUnreachableError) else None
        return Decision(True, Reason.OUTAGE, wait, counted=False, held=host)
    if reaction in {Reaction.TRANSIENT, Reaction.CORRUPT}:
        return _after_bytes(error, attempt, seed, settings)
    return _waiting(error, reaction, settings)


def not_of_the_account(decision: Decision) -> Decision:
    """Return the same decision without a pause of the account, for an error of another source."""
    delay = max(decision.delay_s, decision.pause_s or 0.0)
    return replace(decision, delay_s=delay, pause=None, pause_s=None, probe_s=None, complaint=None)


def _after_bytes(error: BaseException, attempt: int, seed: str, settings: Config) -> Decision:
    if attempt >= settings.max_attempts:
        return Decision(False)
    suspect = None
    if isinstance(error, ChecksumMismatchError) and error.whole:
        suspect = checksums.parse(error.actual)
    wait = backoff(attempt, settings.backoff_seconds, seed)
    # A broken connection is no answer of the portal: it lowers no concurrency limit.
    return Decision(True, Reason.BACKOFF, wait, suspect=suspect)


def _waiting(error: BaseException, reaction: Reaction, settings: Config) -> Decision:
    """Return the decision on an error of the account, the tape or the disk: not counted."""
    if reaction is Reaction.QUOTA:
        return _out_of_quota(error, settings)
    if isinstance(error, ThrottledError):
        wait = THROTTLE_S if error.retry_after_s is None else max(error.retry_after_s, 1.0)
        complaint = Complaint.THROTTLED if error.status == 429 else None
        throttled = Decision(
            True,
            Reason.THROTTLED,
            counted=False,
            pause=Reason.THROTTLED,
            pause_s=wait,
            complaint=complaint,
        )
        return throttled if error.of_account else not_of_the_account(throttled)
    if reaction is Reaction.AUTH:
        return Decision(True, Reason.AUTH, 0.0, False, pause=str(error))
    if reaction is Reaction.OFFLINE:
        # The time of the first poll, in bulk; bringing a file back from tape takes minutes.
        return Decision(True, Reason.OFFLINE, settings.offline_poll_seconds * FIRST_OFFLINE, False)
    if isinstance(error, SourcePausedError):
        return Decision(True, Reason.PAUSED, counted=False, held=error.source)
    return Decision(True, Reason.DISK, DISK_S, False)


def _out_of_quota(error: BaseException, settings: Config) -> Decision:
    """Return the pause of an account without quota, and its probes if the portal refused."""
    # Only a refusal by the portal needs probes: the own window reopens at a known time.
    wait_s = getattr(error, "wait_s", None)
    own = isinstance(error, QuotaError) and error.own
    return Decision(
        True,
        Reason.QUOTA,
        counted=False,
        pause=Reason.QUOTA,
        pause_s=wait_s or settings.probe_seconds,
        probe_s=None if own else settings.probe_seconds,
        complaint=None if own else Complaint.REFUSED,
    )
