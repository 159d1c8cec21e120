"""Every verb of people: pause, resume, retry, cancel, priorities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Part
from geodes_tasks.model.states import Reason

ABANDONED_BLOCK = 200
"""Downloads of earlier runs that one script ends: some milliseconds of Redis."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a batch does not ask for any more."""

    cancelled: int = 0
    """Downloads that never start, or stop."""
    left: int = 0
    """Downloads that go on for another batch."""

    def __add__(self, other: Withdrawn) -> Withdrawn:
        """Add up."""
        return Withdrawn(self.cancelled + other.cancelled, self.left + other.left)

    def __str__(self) -> str:
        """Say it for people."""
        also = f", {self.left} go on as another batch asks for them" if self.left else ""
        return f"{self.cancelled} downloads are cancelled{also}"


class Control(Part):
    """What people decide about batches, accounts and sources."""

    def abandon(self, broker_keys: Sequence[str]) -> bool:
        """Begin a new run on a private server where nothing else runs; proofs of files are kept.

        No batch is left, and nothing starts what was unfinished. :meth:`end_abandoned` ends it, and
        so does admission where the new run enqueues it again.

        Returns:
            Whether earlier runs left batches for :meth:`end_abandoned`.
        """
        waits = [f"since:{reason}" for reason in ("turn", *Reason)]
        return bool(self._connection.run("abandon", *broker_keys, *waits))

    def end_abandoned(self, most: int = ABANDONED_BLOCK) -> bool:
        """End a block of the downloads that earlier runs left unfinished.

        Interrupted anywhere, the same call continues.

        Args:
            most: Number of downloads that the call visits.

        Returns:
            Whether more are left.
        """
        return bool(self._connection.run("end_abandoned", most))

    def cancel(self, downloads: Sequence[str]) -> int:
        """Cancel downloads: running ones stop at their next renewal. Tells how many."""
        return self.withdraw("", downloads).cancelled

    def withdraw(self, batch: str, downloads: Sequence[str]) -> Withdrawn:
        """Cancel what only this batch asks for; what another asks for too just leaves it."""
        answer = self._connection.run("cancel", batch, *downloads) if downloads else (0, 0)
        return Withdrawn(*map(int, answer))

    def resume_account(self, account: str) -> bool:
        """Let a paused account go on. Tells whether it was paused."""
        with self._connection.commands() as redis:
            key = self._connection.key("account", account)
            return bool(redis.hdel(key, "paused", "paused_until", "by_hand", "probe"))

    def retry(self, batch: str, downloads: Sequence[str]) -> int:
        """Ask again for downloads that failed, were cancelled or wait. Tells how many."""
        return int(self._connection.run("again", batch, *downloads)) if downloads else 0

    def pause_account(self, account: str, why: str) -> bool:
        """Pause an account by hand, for all sources. Return whether it was not so before."""
        return bool(self._connection.run("pause", account, why, "", "", 1))

    def pause(self, kind: str, name: str, why: str) -> bool:
        """Hold a ``batch`` or a ``source``: nothing new starts of it. Tells if it was not held."""
        return bool(self._connection.run("hold", kind, name, why))

    def resume(self, kind: str, name: str) -> bool:
        """Let a held batch or source go on. Tells whether it was held."""
        return bool(self._connection.run("let_go", kind, name))

    def pauses(self) -> dict[tuple[str, str], str]:
        """Give what is held, as kind and name, and why."""
        with self._connection.commands() as redis:
            found = redis.hgetall(self._connection.key("holds"))
        return {(kind, name): why for (kind, _, name), why in _parted(found)}

    def prioritize(self, batch: str, priority: int = 0, weight: int = 1) -> None:
        """Say which batches go before others, and how often it is a batch's turn.

        Args:
            batch: Its name; it need not exist yet.
            priority: Nothing of a lower one starts while a higher one has work.
            weight: Turns in a row among batches of one priority.
        """
        self._connection.run("rank", batch, priority, weight)


def _parted(found: dict[str, str]) -> list[tuple[tuple[str, str, str], str]]:
    return [(field.partition(":"), why) for field, why in found.items()]
