"""What to do about a failed attempt. Pure: an error and a count go in, a decision comes out."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from geodes_tasks.errors import (
    AccountHeldError,
    ChecksumMismatchError,
    GeodesTasksError,
    QuotaError,
    Reaction,
    SourceHeldError,
    ThrottledError,
    TransferError,
    UnreachableError,
    WorkerStoppingError,
)
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.results import Complaint, Decision
from geodes_tasks.model.states import Reason

BACKOFF_CAP_S = 300.0
QUOTA_PROBE_S = 60.0
"""How long an account waits when the portal refuses for its quota and names no time."""
THROTTLE_S = 20.0
"""How long it waits after a 429 that names no time."""
FIRST_OFFLINE = 0.25
"""The first question for a file on tape comes after this part of the period."""
OFFLINE_S = 600.0
OUTAGE_S = 10.0
"""How long a download waits at most when no connection could be made."""
DISK_S = 15.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    max_attempts: int = 8
    backoff_s: float = 2.0
    """Wait after the first failure; doubled after each further one."""
    offline_poll_s: float = OFFLINE_S
    probe_s: float = QUOTA_PROBE_S


def backoff(attempt: int, first_s: float, seed: str) -> float:
    """Give the wait after the n-th failed attempt: doubling, capped, with jitter.

    The jitter is seeded by the download, so a thousand downloads that failed together do not
    come back together, and a test sees the same waits each time.
    """
    return jittered(min(first_s * 2.0 ** min(attempt - 1, 16), BACKOFF_CAP_S), attempt, seed)


def jittered(wait_s: float, attempt: int, seed: str) -> float:
    """Return between half and all of a wait; the same for the same attempt of one download."""
    return wait_s * random.Random(f"{seed} {attempt}").uniform(0.5, 1.0)  # noqa: S311 - no secret


def decide(error: BaseException, attempt: int, seed: str, policy: Policy) -> Decision:
    """Map an error and the number of counted attempts to a decision.

    Args:
        error: What ended the attempt; anything that is no GeodesTasksError is a defect of ours
            or of a library and is tried again like a transient one.
        attempt: Counted attempts so far, this one included.
        seed: Of the jitter; the download's id.
        policy: The settings.
    """
    if isinstance(error, WorkerStoppingError):
        return Decision(True, Reason.WORKER_STOPPED, counted=False)
    if isinstance(error, AccountHeldError):
        # The account has its pause already; this download waits for the portal like all others.
        reason = Reason(error.why) if error.why in set(Reason) else Reason.AUTH
        return Decision(True, reason, counted=False, held=GEODES)
    reaction = error.reaction if isinstance(error, GeodesTasksError) else Reaction.TRANSIENT
    if reaction is Reaction.FINAL:
        return Decision(False)
    if isinstance(error, UnreachableError):
        # It cost the portal nothing, so it costs the download nothing.
        wait = jittered(min(OUTAGE_S, policy.probe_s), attempt, seed)
        return Decision(True, Reason.BACKOFF, wait, counted=False)
    if reaction in {Reaction.TRANSIENT, Reaction.CORRUPT}:
        return _after_bytes(error, attempt, seed, policy)
    return _waiting(error, reaction, policy)


def not_of_the_account(decision: Decision) -> Decision:
    """Give the decision about an error that the portal had no part in: its account goes on."""
    delay = max(decision.delay_s, decision.pause_s or 0.0)
    return replace(decision, delay_s=delay, pause=None, pause_s=None, probe_s=None, complaint=None)


def _after_bytes(error: BaseException, attempt: int, seed: str, policy: Policy) -> Decision:
    if attempt >= policy.max_attempts:
        return Decision(False)
    suspect = None
    if isinstance(error, ChecksumMismatchError) and error.whole:
        suspect = checksums.parse(error.actual)
    wait = backoff(attempt, policy.backoff_s, seed)
    complaint = Complaint.BROKEN if isinstance(error, TransferError) else None
    return Decision(True, Reason.BACKOFF, wait, suspect=suspect, complaint=complaint)


def _waiting(error: BaseException, reaction: Reaction, policy: Policy) -> Decision:
    """Decide about what no attempt is counted for: the account, the tape, the disk."""
    if reaction is Reaction.QUOTA:
        return _out_of_quota(error, policy)
    if reaction is Reaction.THROTTLED:
        asked = error.retry_after_s if isinstance(error, ThrottledError) else None
        wait = THROTTLE_S if asked is None else max(asked, 1.0)
        return Decision(
            True,
            Reason.THROTTLED,
            counted=False,
            pause=Reason.THROTTLED,
            pause_s=wait,
            complaint=Complaint.THROTTLED,
        )
    if reaction is Reaction.AUTH:
        return Decision(True, Reason.AUTH, 0.0, False, pause=str(error))
    if reaction is Reaction.OFFLINE:
        # Not when it goes on, but when it is first asked about, in bulk.
        return Decision(True, Reason.OFFLINE, policy.offline_poll_s * FIRST_OFFLINE, False)
    if isinstance(error, SourceHeldError):
        return Decision(True, Reason.HELD, counted=False, held=error.source)
    return Decision(True, Reason.DISK, DISK_S, False)


def _out_of_quota(error: BaseException, policy: Policy) -> Decision:
    """Wait for the own window; for the portal's until the time it names, then one tries."""
    wait_s = getattr(error, "wait_s", None)
    own = isinstance(error, QuotaError) and error.own
    return Decision(
        True,
        Reason.QUOTA,
        counted=False,
        pause=Reason.QUOTA,
        pause_s=wait_s or policy.probe_s,
        probe_s=None if own else policy.probe_s,
        complaint=None if own else Complaint.REFUSED,
    )
