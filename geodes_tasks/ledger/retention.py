"""The side of the ledger that lets go: batches that nobody needs any more, and their records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from geodes_tasks.errors import BatchUnfinishedError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.dispatch import UNREADABLE
from geodes_tasks.model.asset import Asset

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


@dataclass(frozen=True, slots=True)
class Litter:
    """Part files of an ended download that no attempt owns any more."""

    asset: Asset
    path: str
    token: str
    """Of the last attempt; what a later one writes is not litter."""
    download_id: str


def _litter(entry: Sequence[str], row: Sequence[str | None] | Exception) -> Litter | None:
    """Read an entry of the list and its record; None for rubbish."""
    if isinstance(row, Exception) or not all(row):
        return None
    spec, path = row
    try:
        return Litter(Asset.from_dict(json.loads(spec or "")), path or "", entry[1], entry[0])
    except UNREADABLE:
        return None


class Retention(Part):
    """Remove batches."""

    def litter(self, most: int = 50) -> list[Litter]:
        """Take over the sweeping of part files that nobody owns."""
        with self._connection.commands() as redis:
            words = map(str.split, redis.lpop(self._connection.key("litter"), most) or [])
            entries = [entry for entry in words if len(entry) == 2]
            pipeline = redis.pipeline(transaction=False)
            for identifier, *_ in entries:
                pipeline.hmget(self._connection.key("download", identifier), "spec", "path")
            rows = pipeline.execute(raise_on_error=False)
        found = map(_litter, entries, rows)
        return [left for left in found if left is not None]

    def return_litter(self, left: Litter) -> None:
        """Have part files swept later, that could not be swept now."""
        with self._connection.commands() as redis:
            redis.rpush(self._connection.key("litter"), f"{left.download_id} {left.token}")

    def older_batches(self, seconds: float) -> list[str]:
        """Name the batches that were asked for longer ago than this, the oldest first."""
        with self._connection.commands() as redis:
            latest = self._connection.server_time() - seconds
            names: list[str] = redis.zrangebyscore(self._connection.key("batches"), "-inf", latest)
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
        answer, _, count = self._connection.run("forget_begin", batch, int(unfinished)).partition(
            ":"
        )
        if answer == "unknown":
            raise self._connection.unknown_batch(batch)
        if answer == "unfinished":
            raise BatchUnfinishedError(batch, int(count))

    def sweep(self) -> Forgotten:
        """Remove the records of all batches that were forgotten, block by block.

        Interrupted, it goes on when it is said again.

        Raises:
            LedgerUnavailableError: Redis does not answer; say it again.
        """
        with self._connection.commands() as redis:
            rests = sorted(redis.smembers(self._connection.key("forgotten")))
        return sum((self._sweep(rest) for rest in rests), Forgotten())

    def _sweep(self, rest: str) -> Forgotten:
        done = Forgotten()
        while True:
            looked, removed, left = map(int, self._connection.run("forget", rest, BLOCK, done.left))
            done += Forgotten(removed, left)
            if looked < BLOCK:
                return done
