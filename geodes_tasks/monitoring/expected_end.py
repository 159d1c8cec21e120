"""The end expected of a batch: bounded by its speed, by the quota and by what waits."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from geodes_tasks.ledger import AccountState, Turn
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State

NO_TIME = "the tape names no time"
"""Why the end is unknown: GEODES names no time at which a file comes back from tape."""
NO_SIZE = "what is left has no size in the catalogue"
"""Why the end is unknown: the speed alone bounds it, and the bytes left are not known."""


@dataclass(frozen=True, slots=True)
class End:
    """When a batch ends, as far as that can be known."""

    at: float | None
    """Seconds of the server's clock; None when unknown."""
    why: str = ""
    """What bounds it, or why it is unknown."""
    before_tape: float | None = None
    """When all that is not on tape ends, in the same seconds; None without a tape or unknown."""


def expected_end(
    status: BatchStatus,
    account: AccountState | None,
    *,
    at: float,
    is_paused: bool = False,
    standstill: str = "",
    next_due: float = 0.0,
    on_s3: int = 0,
    turns: Collection[Turn] = (),
) -> End:
    """Return the end of a batch: the latest of what its speed, its quota and its waits allow.

    Args:
        status: Counts of the batch.
        account: State of its account; None when unknown.
        at: The present, in seconds of the server's clock.
        is_paused: Whether a user must resume the batch or its account.
        standstill: Why nothing can run; empty when something can.
        next_due: The latest known end of a wait; 0: of none.
        on_s3: Number of queued downloads that S3 serves: no unit of quota is spent for them.
        turns: The batches that share the quota, this one among them.
    """
    tape, states = status.waiting.get(Reason.OFFLINE, 0), status.states
    if not status.unfinished or is_paused:
        return End(None)
    if standstill:
        return End(None, standstill)
    if status.waiting.get(Reason.PAUSED):
        return End(None, "a source is paused")
    if status.unfinished == tape:
        return End(None, NO_TIME)
    # A running download has spent its unit of quota already; the tape spends none while it waits.
    requests = states[State.PENDING] + states[State.RETRY] - tape - on_s3
    if account is not None and account.probing and not account.quota_count and requests > 0:
        return End(None, "the portal refused for its quota, and no setting names it")
    others = requests_before(status.batch, requests, turns) if requests > 0 else 0
    quota, why = quota_end(account, requests + others, at), ""
    if account is not None and requests > 0:
        next_due = max(next_due, account.paused_until or 0.0)
    # Files without a size in the catalogue add nothing: the end is then too early, never too late.
    # Sizes are counted by batch, not by reason: files on tape are as large as the others.
    left_bytes = status.bytes_left * (1 - tape / status.unfinished)
    if status.has_unknown_sizes and status.bytes_per_second and quota is None:
        return End(None, NO_SIZE)
    if status.bytes_per_second or quota is not None:
        moving = left_bytes / status.bytes_per_second if status.bytes_per_second else 0.0
        end: float | None = max(at + moving, next_due)
    else:
        end = max(next_due, at) if next_due and not states[State.STARTED] else None
    if quota is not None and end is not None and quota >= end:
        shared = f" and {others} of other batches" if others else ""
        why = f"{plural(requests, 'file')}{shared} at {account.quota if account else ''}"
        end = quota
    return End(None, NO_TIME, end) if tape else End(end, why)


def requests_before(batch: str, requests: int, turns: Collection[Turn]) -> int:
    """Return how many requests of other batches come before the last one of a batch."""
    mine = next((one for one in turns if one.batch == batch), Turn(batch, requests, 0, 1))
    before = 0
    for one in turns:
        if one.batch != batch and one.priority >= mine.priority:
            # Batches of one priority take turns, as many as their weights.
            share = math.ceil(requests * one.weight / mine.weight)
            before += one.queued if one.priority > mine.priority else min(one.queued, share)
    return before


def quota_end(account: AccountState | None, requests: int, at: float) -> float | None:
    """Return when the quota allows the last of so many requests; None when it is no bound."""
    if account is None or not account.quota_count:
        return None
    extra = requests - account.quota_left
    if extra <= 0:
        return None
    # The window slides: its first unit comes back first, and each later window gives as many again.
    reopens = max(account.quota_reopens or at + account.quota_seconds, account.paused_until or 0.0)
    return reopens + (math.ceil(extra / account.quota_count) - 1) * account.quota_seconds
