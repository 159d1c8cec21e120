"""The side of the ledger that lets go: batches that nobody needs any more, and their records."""

from __future__ import annotations

from dataclasses import dataclass

from geodes_tasks.errors import BatchUnfinishedError
from geodes_tasks.ledger.connection import Store

BLOCK = 200
"""Records removed by one script: some milliseconds in which Redis does nothing else."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting has done."""

    removed: int = 0
    """Records that are gone. Those that other batches have too stay."""
    left: int = 0
    """Records that stay for now: part files of theirs are swept first, or a worker has them yet."""

    def __add__(self, other: Forgotten) -> Forgotten:
        """Add up."""
        return Forgotten(self.removed + other.removed, self.left + other.left)


class Forgetting(Store):
    """Remove batches."""

    def older_batches(self, seconds: float) -> list[str]:
        """Name the batches that were asked for longer ago than this, the oldest first."""
        with self.available():
            latest = self.server_time() - seconds
            names: list[str] = self.client.zrangebyscore(self.key("batches"), "-inf", latest)
        return names

    def forget(self, batch: str, *, unfinished: bool = False) -> None:
        """Take a batch out of the ledger at once; ``sweep`` removes its records.

        Args:
            batch: Its name.
            unfinished: Also when some of its downloads are not over.

        Raises:
            UnknownBatchError: there is none of this name.
            BatchUnfinishedError: it is not over; nothing was changed.
            LedgerUnavailableError: Redis does not answer; say it again.
        """
        answer, _, count = self.run("forget_begin", batch, int(unfinished)).partition(":")
        if answer == "unknown":
            raise self.unknown_batch(batch)
        if answer == "unfinished":
            raise BatchUnfinishedError(batch, int(count))

    def sweep(self) -> Forgotten:
        """Remove the records of all batches that were forgotten, block by block.

        Interrupted, it goes on when it is said again.

        Raises:
            LedgerUnavailableError: Redis does not answer; say it again.
        """
        with self.available():
            rests = sorted(self.client.smembers(self.key("forgotten")))
        return sum((self._sweep(rest) for rest in rests), Forgotten())

    def _sweep(self, rest: str) -> Forgotten:
        done = Forgotten()
        while True:
            looked, removed, left = map(int, self.run("forget", rest, BLOCK, done.left))
            done += Forgotten(removed, left)
            if looked < BLOCK:
                return done
