"""The batches that share an account: which are served in turn, and how much each has queued."""

from __future__ import annotations

from dataclasses import dataclass

from geodes_tasks.ledger.connection import Connection
from geodes_tasks.ledger.figures import as_count, as_number, batch_states
from geodes_tasks.model.asset import S3
from geodes_tasks.model.states import Reason, State

TURNS = 50
"""Number of batches that are read for the end expected of another one, at most."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch that an account serves in turn with others."""

    batch: str
    queued: int
    """Number of its downloads that need a request, apart from those on tape."""
    priority: int
    weight: int


def turns_of(connection: Connection, account: str) -> list[Turn]:
    """Return the batches that an account serves in turn, the next one first, at most ``TURNS``.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    with connection.commands() as redis:
        names = redis.zrange(connection.key("account", account, "ring"), 0, TURNS - 1)
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(connection.key("batch", name))
            # What S3 alone serves spends nothing of the quota.
            pipeline.llen(connection.key("batch", name, "ready", S3, account))
        found = pipeline.execute(raise_on_error=False)
        rows = zip(names, found[::2], found[1::2], strict=True)
    return [
        Turn(
            name,
            states[State.PENDING]
            + states[State.RETRY]
            - on_s3
            - as_count(counters.get(f"waiting:{Reason.OFFLINE}")),
            int(as_number(counters.get("priority"))),
            as_count(counters.get("weight")) or 1,
        )
        for name, counters, on_s3 in rows
        if isinstance(counters, dict) and isinstance(on_s3, int)
        for states in (batch_states(counters),)
    ]
