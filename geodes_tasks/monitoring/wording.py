"""How batches, accounts and waits stand, in words: for every view and for ``status --json``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.ledger import AccountState, Ledger
from geodes_tasks.model.formatting import human_bytes, human_seconds
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State

CHANGES = 10
"""Changes of a concurrency limit listed at most: a number of lines."""
STATE_WORDS = {
    State.PENDING: "queued",
    State.STARTED: "running",
    State.RETRY: "waiting",
    State.SUCCESS: "done",
    State.FAILURE: "failed",
    State.REVOKED: "cancelled",
}
"""Celery's state to the word that people read."""
# The address repeats in every line and hides the reason. Each match takes the whole word, so a
# text of many addresses takes linear time.
_ADDRESS = re.compile(r"'?https?://[^\s']+(?:', | )?")


def summary(status: BatchStatus) -> str:
    """Return a batch in a few words: ``12 of 20 done, 3 running, 5 waiting (quota 5)``."""
    states = status.states
    parts = [f"{states[State.SUCCESS]} of {status.total} done"]
    for state in (State.STARTED, State.PENDING):
        if states[state]:
            parts.append(f"{states[state]} {STATE_WORDS[state]}")
    if states[State.RETRY]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in status.waiting.items())
        parts.append(f"{states[State.RETRY]} waiting ({reasons})")
    for state in (State.FAILURE, State.REVOKED):
        if states[state]:
            parts.append(f"{states[state]} {STATE_WORDS[state]}")
    return ", ".join(parts)


def outcomes(status: BatchStatus) -> str:
    """Return how success came about: `` (3 DOWNLOADED, 1 RESUMED)``; empty without a success."""
    counts = [f"{count} {name}" for name, count in status.outcomes.items() if count]
    return f" ({', '.join(counts)})" if counts else ""


def amount(done_bytes: int | None, size_bytes: int | None) -> str:
    """Return progress in bytes: ``1.0 MB of 4.0 MB``."""
    return f"{human_bytes(done_bytes)} of {human_bytes(size_bytes)}"


def time_left(status: BatchStatus, bytes_per_s: float) -> str:
    """Return how long the rest of a batch takes at this speed; empty when unknown or done."""
    left_bytes = status.bytes_total - status.bytes_done
    if not bytes_per_s or left_bytes <= 0:
        return ""
    return human_seconds(left_bytes / bytes_per_s)


def without_addresses(message: str) -> str:
    """Remove the addresses that precede a colon, or are the first of several values."""
    return _ADDRESS.sub(lambda found: "" if found[0].endswith((": ", "', ")) else found[0], message)


def clock(when: float) -> str:
    """Return a time of day in UTC; ``when`` is in seconds since 1970."""
    return f"{datetime.fromtimestamp(when, UTC):%H:%M:%S} UTC"


def resumes_at(when: float, now: float) -> str:
    """Return when a wait ends: ``goes on 17:20:05 UTC (in 12 min 3 s)``."""
    return f"goes on {clock(when)} (in {human_seconds(when - now)})"


def account_line(one: AccountState, now: float) -> str:
    """Return in one line what an account may do now; a reason why it may not comes first."""
    limit = f"{one.running} of {one.concurrent} places (GEODES_TASKS_MAX_CONCURRENT)"
    if one.concurrent < one.most:
        limit = f"{one.running} of {one.concurrent} places, lowered from {one.most} ({one.why})"
    parts = [limit]
    # The reason to wait comes first: a narrow terminal cuts the end of the line.
    if one.quota_count:
        quota = f"quota {one.quota_left} of {one.quota_count} left"
        if one.quota_reopens is not None:
            quota = f"quota used up, {resumes_at(one.quota_reopens, now)}"
        parts.insert(0, quota)
    if one.portal_quota_left is not None:
        reported = f"the portal said {one.portal_quota_left} left"
        parts.insert(len(parts) - 1, f"{reported} at {clock(one.portal_quota_at or now)}")
    if one.probing and one.paused is None:
        parts.insert(0, "one download tries whether there is quota again")
    if one.paused is not None:
        until = f", {resumes_at(one.paused_until, now)}" if one.paused_until else ""
        parts.insert(0, f"PAUSED ({one.paused}){until}")
    return ", ".join(parts)


def pause_lines(ledger: Ledger, status: BatchStatus, *, why: bool) -> Iterator[str]:
    """Yield the pauses by hand that concern a batch, and the changes of its account's limit.

    Args:
        ledger: Ledger of the batch.
        status: Counts of the batch.
        why: Whether to list the changes of the limit, with their reasons.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    for (kind, name), reason in sorted(ledger.control.pauses().items()):
        # A paused source concerns every batch, a paused batch only itself.
        if kind == "source" or name == status.batch:
            yield f"{kind} {name} is held ({reason}): geodes-tasks resume --{kind} {name}"
    account = ledger.reading.account_of(status.batch)
    if not (why and account):
        return
    yield f"places of {account}"
    found = ledger.account.changes(account)
    if not found:
        yield "    its places were never changed"
    for one in found[:CHANGES]:
        word = "lowered" if one.places < one.before else "raised"
        yield f"    {clock(one.at)}: {word} from {one.before} to {one.places}: {one.why}"


def status_details(ledger: Ledger, status: BatchStatus) -> dict[str, Any]:
    """Return what ``status --json`` adds to the counts of a batch.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    name = ledger.reading.account_of(status.batch)
    account = next((one for one in ledger.account.states() if one.name == name), None)
    return {
        "waits": _waits(ledger, status, account),
        "account": asdict(account) if account else None,
        "changes": [asdict(one) for one in ledger.account.changes(name)] if name else [],
        "held": [name for (_, name) in ledger.control.pauses()],
    }


def _waits(
    ledger: Ledger, status: BatchStatus, account: AccountState | None
) -> list[dict[str, Any]]:
    """Return for each reason how many downloads of a batch wait, since when and until when."""
    if not status.waiting:
        return []
    rows = []
    for wait in ledger.reading.waits([status.batch]):
        if account is not None and account.paused == wait.reason:
            # The pause ends later than the due time of each download: those are only polls.
            wait = replace(wait, next_due=account.paused_until or wait.next_due)
        rows.append(asdict(wait))
    return rows
