"""How accounts and waits stand, in words: for ``status``, the live view and programs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geodes_tasks.model.formatting import human_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.ledger import AccountState, Ledger
    from geodes_tasks.model.results import BatchStatus

CHANGES = 10
"""Changes of a limit that are told at most."""


def moment(when: float, now: float) -> str:
    """Say when something goes on: ``goes on 17:20:05 UTC (in 12 min 3 s)``."""
    return f"goes on {clock(when)} (in {human_seconds(when - now)})"


def clock(when: float) -> str:
    """Write a time of day."""
    return f"{datetime.fromtimestamp(when, UTC):%H:%M:%S} UTC"


def stands(one: AccountState, now: float) -> str:
    """Say in one line what an account may do now, the reason first why it may not."""
    places = f"{one.running} of {one.concurrent} places (GEODES_TASKS_MAX_CONCURRENT)"
    if one.concurrent < one.most:
        places = f"{one.running} of {one.concurrent} places, lowered from {one.most} ({one.why})"
    parts = [places]
    if one.quota_count:
        quota = f"quota {one.quota_left} of {one.quota_count} left"
        if one.quota_reopens is not None:
            quota = f"quota used up, {moment(one.quota_reopens, now)}"
        parts.insert(0, quota)
    if one.portal_quota_left is not None:
        said = f"the portal said {one.portal_quota_left} left"
        parts.insert(len(parts) - 1, f"{said} at {clock(one.portal_quota_at or now)}")
    if one.probing and one.paused is None:
        parts.insert(0, "one download tries whether there is quota again")
    if one.paused is not None:
        until = f", {moment(one.paused_until, now)}" if one.paused_until else ""
        parts.insert(0, f"PAUSED ({one.paused}){until}")
    return ", ".join(parts)


def lines(ledger: Ledger, status: BatchStatus, *, why: bool) -> Iterator[str]:
    """Say what is held of a batch by hand, and how its account's places changed.

    Args:
        ledger: Where it is.
        status: The counts of the batch.
        why: Whether to tell of the changes, and their reasons.
    """
    for (kind, name), reason in sorted(ledger.control.pauses().items()):
        if kind == "source" or name == status.batch:
            yield f"{kind} {name} is held ({reason}): geodes-tasks resume --{kind} {name}"
    account = ledger.reading.account_of(status.batch)
    if why and account:
        yield f"places of {account}"
        yield from changes(ledger, account)


def changes(ledger: Ledger, account: str) -> Iterator[str]:
    """Say how the places of an account changed and why, the newest first."""
    found = ledger.account.changes(account)
    if not found:
        yield "    its places were never changed"
    for one in found[:CHANGES]:
        word = "lowered" if one.places < one.before else "raised"
        yield f"    {clock(one.at)}: {word} from {one.before} to {one.places}: {one.why}"


def waits(ledger: Ledger, status: BatchStatus) -> list[dict[str, Any]]:
    """Tell for each reason how many downloads of a batch wait, since when, and until when."""
    if not status.waiting:
        return []
    due = {wait.reason: wait.next_due for wait in ledger.reading.waits([status.batch])}
    state = {one.name: one for one in ledger.account.states()}.get(
        ledger.reading.account_of(status.batch) or ""
    )
    told = []
    for reason, count in status.waiting.items():
        until = due.get(reason)
        if state is not None and state.paused == reason:
            until = state.paused_until or until
        told.append(
            {
                "reason": reason,
                "count": count,
                "since": ledger.reading.waits_since(status.batch, reason),
                "next_due": until,
            }
        )
    return told


def details(ledger: Ledger, status: BatchStatus) -> dict[str, Any]:
    """Give the same for programs, beside the counts of ``status --json``."""
    name = ledger.reading.account_of(status.batch)
    account = next((one for one in ledger.account.states() if one.name == name), None)
    return {
        "waits": waits(ledger, status),
        "account": asdict(account) if account else None,
        "changes": [asdict(one) for one in ledger.account.changes(name)] if name else [],
        "held": [name for (_, name) in ledger.control.pauses()],
    }
