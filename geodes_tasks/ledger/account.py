"""The side of the ledger that people steer and ask about: holds, priorities, changed limits."""

from __future__ import annotations

import json
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Store

BLOCK = 500
"""Waiting downloads looked at in one round trip."""
MOST_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Change:
    """Why an account has more or fewer places than before."""

    at: float
    """Seconds of the server's clock."""
    before: int
    places: int
    why: str
    """One sentence."""


class LimitsKept(Store):
    """What may run, as people and the portal have it."""

    # --- by hand ---------------------------------------------------------------------------------

    def pause(self, account: str, why: str) -> bool:
        """Pause an account by hand, for all sources. Return whether it was not so before."""
        return bool(self.run("pause", account, why, "", "", 1))

    def hold(self, kind: str, name: str, why: str) -> bool:
        """Hold a ``batch`` or a ``source``: nothing new starts of it. Tells if it was not held."""
        return bool(self.run("hold", kind, name, why))

    def let_go(self, kind: str, name: str) -> bool:
        """Let a held batch or source go on. Tells whether it was held."""
        return bool(self.run("let_go", kind, name))

    def holds(self) -> dict[tuple[str, str], str]:
        """Give what is held, as kind and name, and why."""
        with self.available():
            found = self.client.hgetall(self.key("holds"))
        return {(kind, name): why for (kind, _, name), why in _parted(found)}

    def rank(self, batch: str, priority: int = 0, weight: int = 1) -> None:
        """Say which batches go before others, and how often it is a batch's turn.

        Args:
            batch: Its name; it need not exist yet.
            priority: Nothing of a lower one starts while a higher one has work.
            weight: Turns in a row among batches of one priority.
        """
        self.run("rank", batch, priority, weight)

    def set_owner(self, batch: str, owner: str) -> None:
        """Note who enqueued a batch, ``user@host``, unless that is known already."""
        with self.available():
            self.client.hsetnx(self.key("batch", batch), "owner", owner)

    # --- questions -------------------------------------------------------------------------------

    def changes(self, account: str) -> list[Change]:
        """Tell how the places of an account changed, the newest first."""
        with self.available():
            found = self.client.lrange(self.key("account", account, "changes"), 0, -1)
        rows = [json.loads(text) for text in found]
        return [
            Change(float(row["at"]), int(row["before"]), int(row["places"]), row["why"])
            for row in rows
        ]

    def account_of(self, batch: str) -> str | None:
        """Name the account that a batch was asked for with; None for no such batch."""
        with self.available():
            name: str | None = self.client.hget(self.key("batch", batch), "account")
        return name

    def waits_since(self, batch: str, reason: str) -> float | None:
        """Tell since when the first download of a batch waits for a reason.

        None where none does, or where more than ten thousand of other batches wait longer.
        """
        key = self.key("batch", batch, "downloads")
        for block in range(MOST_BLOCKS):
            first = block * BLOCK
            with self.available():
                rows = self.client.zrange(
                    self.key("since", reason), first, first + BLOCK - 1, withscores=True
                )
                ids = [identifier for identifier, _ in rows]
                known = self.client.zmscore(key, ids) if ids else []
            for (_, since), place in zip(rows, known, strict=True):
                if place is not None:
                    return float(since)
            if len(rows) < BLOCK:
                break
        return None


def _parted(found: dict[str, str]) -> list[tuple[tuple[str, str, str], str]]:
    return [(field.partition(":"), why) for field, why in found.items()]
