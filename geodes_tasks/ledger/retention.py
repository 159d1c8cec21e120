"""Retention: removes finished batches and their records, proofs and part files left over."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geodes_tasks.errors import BatchUnfinishedError, UnknownBatchError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.figures import UNREADABLE, as_count, as_number, count_unfinished
from geodes_tasks.ledger.records import as_status
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State

BLOCK = 50
"""The number of records that one script removes: some milliseconds of Redis."""
OPEN_BLOCK = 200
"""The number of unfinished batches of which one script looks for the end, drawn by lot."""
DAY_S = 86400.0
"""The seconds of a day."""
HOOKS_S = int(30 * DAY_S)
"""Seconds after the last worker with hooks, from which on no ended batch is kept for them."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The counts of a removal."""

    removed: int = 0
    """Records removed; those that other batches have too stay."""
    left: int = 0
    """Records that stay for now: their part files are swept first, or a worker runs them."""

    def __add__(self, other: Forgotten) -> Forgotten:
        """Return the sum of both."""
        return Forgotten(self.removed + other.removed, self.left + other.left)


@dataclass(frozen=True, slots=True)
class Litter:
    """The part files of an ended download: no attempt owns them any more."""

    asset: Asset
    path: str
    token: str
    """Token of the last attempt; part files of later ones are not litter."""
    download_id: str


def _litter(entry: tuple[str, float], row: Sequence[str | None] | Exception) -> Litter | None:
    """Return the litter of an entry and its record; None for rubbish."""
    if isinstance(row, Exception) or not all(row):
        return None
    spec, path = row
    try:
        return Litter(
            Asset.from_dict(json.loads(spec or "")), path or "", f"{entry[1]:.0f}", entry[0]
        )
    except UNREADABLE:
        return None


class Retention(Part):
    """Remove batches and what they leave; report those that finished."""

    def litter(self, most: int = 50) -> list[Litter]:
        """Take part files that no attempt owns out of the list, for the caller to remove."""
        with self._connection.commands() as redis:
            key = self._key("litter")
            found = redis.zrange(key, 0, most - 1, withscores=True)
            taken = redis.pipeline(transaction=False)
            for identifier, _ in found:
                taken.zrem(key, identifier)
            # What another worker has taken meanwhile, it sweeps.
            entries = [entry for entry, mine in zip(found, taken.execute(), strict=True) if mine]
            pipeline = redis.pipeline(transaction=False)
            for identifier, *_ in entries:
                pipeline.hmget(self._key("download", identifier), "spec", "path")
            # A key of another type is an error in its row: it must not cost the other rows.
            rows = pipeline.execute(raise_on_error=False)
        return [left for left in map(_litter, entries, rows) if left is not None]

    def return_litter(self, left: Litter) -> None:
        """Put part files back into the list that could not be removed now."""
        with self._connection.commands() as redis:
            redis.zadd(self._key("litter"), {left.download_id: int(left.token)})

    def older_batches(self, seconds: float) -> list[str]:
        """Return the batches that were enqueued more seconds ago than this, the oldest first."""
        with self._connection.commands() as redis:
            latest = self._connection.server_time() - seconds
            names: list[str] = redis.zrangebyscore(self._key("batches"), "-inf", latest)
        return names

    def unfinished_batches(self, most: int) -> list[str]:
        """Return the names of the newest batches that are not over, so many at most."""
        with self._connection.commands() as redis:
            names = redis.zrevrange(self._key("batches"), 0, -1)
            begun = redis.smembers(self._key("open"))
        rows = self._counters([name for name in names if name in begun])
        return [name for name, counters in rows if count_unfinished(counters)][:most]

    def forget(self, batch: str, *, unfinished: bool = False) -> None:
        """Remove a batch from the ledger at once; ``sweep`` removes its records.

        Args:
            batch: Its name.
            unfinished: Also when some of its downloads are unfinished.

        Raises:
            UnknownBatchError: there is none of this name.
            BatchUnfinishedError: it is unfinished; nothing was changed.
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        is_forgotten = False
        while not is_forgotten:
            with self._connection.commands() as redis:
                counters = redis.hgetall(self._key("batch", batch))
            if not counters:
                raise self._connection.unknown_batch(batch)
            if (left := count_unfinished(counters)) and not unfinished:
                raise BatchUnfinishedError(batch, left)
            if as_count(counters.get("total")):
                # Hooks are called for it although it is forgotten.
                self._note_end(batch, left)
            is_forgotten = bool(self._connection.run("forget_batch", batch, left))

    def forget_older(self, days: float) -> None:
        """Remove the batches that finished more days ago than this.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        for batch in self.older_batches(days * DAY_S):
            with self._connection.commands() as redis:
                # It may be enqueued again just now. An older version recorded no end: the time at
                # which it was enqueued counts.
                times = redis.hmget(self._key("batch", batch), "finished", "admitting")
            if self._connection.server_time() - max(map(as_number, times)) > days * DAY_S:
                with contextlib.suppress(BatchUnfinishedError, UnknownBatchError):
                    self.forget(batch)
        self.sweep()

    def forget_stats(self) -> None:
        """Remove the stats of files that a private server keeps of forgotten batches.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        name = f"{self._connection.server_time():.3f}"
        with self._connection.commands() as redis:
            if redis.exists(self._key("kept")):
                redis.rename(self._key("kept"), self._key("forgotten", name))
                redis.sadd(self._key("forgotten"), name)
        self.sweep()

    def sweep(self, most: int = sys.maxsize) -> Forgotten:
        """Remove the records of all batches that were forgotten, block by block.

        Idempotent: after an interruption the next call continues.

        Args:
            most: Records of each batch that are read, at most: those behind them come next time.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        with self._connection.commands() as redis:
            rests = sorted(redis.smembers(self._key("forgotten")))
        return sum((self._sweep(rest, most) for rest in rests), Forgotten())

    def proofs(self, downloads: Sequence[str]) -> dict[str, str]:
        """Return the proofs of verified files, by the ids of their downloads.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for identifier in downloads:
                pipeline.hmget(self._key("download", identifier), "state", "proof")
            rows = zip(downloads, pipeline.execute(), strict=True)
        return {
            identifier: proof
            for identifier, (state, proof) in rows
            if state == State.SUCCESS and proof
        }

    def discard_proof(self, download_id: str) -> None:
        """Remove the proof of a file: the next admission hashes it.

        A flipped bit need change neither size nor time, so a stat finds such a file unchanged.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        with self._connection.commands() as redis:
            redis.hdel(self._key("download", download_id), "proof")

    def end_batches(self) -> None:
        """Record which batches are over: their age counts from now.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        now = self._connection.server_time()
        with self._connection.commands() as redis:
            names = redis.srandmember(self._key("open"), OPEN_BLOCK)
        for name, counters in self._counters(names):
            if (
                as_count(counters.get("total"))
                and as_number(counters.get("admitting")) < now
                and not count_unfinished(counters)
            ):
                self._note_end(name)

    def _counters(self, batches: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
        """Return the names and counters of batches, without those that are damaged."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for name in batches:
                pipeline.hgetall(self._key("batch", name))
            # A key of another type is an error in its row.
            rows = zip(batches, pipeline.execute(raise_on_error=False), strict=True)
        return [(name, row) for name, row in rows if isinstance(row, dict)]

    def _note_end(self, batch: str, most_unfinished: int = 0) -> None:
        """Record the end of a batch, once, unless downloads came into it meanwhile.

        Hooks get its counters as they are then.
        """
        key, now = self._key("batch", batch), self._connection.server_time()
        counters: dict[str, str] = {}

        def note(pipeline: Any) -> None:
            counters.clear()
            counters.update(pipeline.hgetall(key))
            pipeline.multi()
            if counters and count_unfinished(counters) <= most_unfinished:
                # SREM answers 1 to one caller only.
                pipeline.srem(self._key("open"), batch)
                pipeline.hset(key, "finished", f"{now:.3f}")

        with self._connection.commands() as redis:
            # WATCH: it is called again when the counters change before the last command.
            is_noted, *_ = redis.transaction(note, key) or (0,)
            if not is_noted:
                return
            since = redis.get(self._key("hooks"))
            if since and as_number(counters.get("created")) >= as_number(since):
                redis.hset(self._key("over"), batch, jsontext.compact(counters))
                redis.expire(self._key("over"), HOOKS_S)

    def newly_finished(self) -> list[BatchStatus]:
        """Return the batches that finished and were not returned yet, to any worker.

        A batch from before the first call is never returned; one that is enqueued again after it
        finished is returned again, and one that is forgotten meanwhile all the same.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        now = self._connection.server_time()
        with self._connection.commands() as redis:
            redis.set(self._key("hooks"), int(now), nx=True)
            redis.expire(self._key("hooks"), HOOKS_S)
            self.end_batches()
            found = redis.hgetall(self._key("over"))
            # HDEL answers 1 to one caller only: that one reports the batch.
            mine = [name for name in found if redis.hdel(self._key("over"), name)]
        ended = []
        for name in mine:
            with contextlib.suppress(*UNREADABLE):
                ended.append(as_status(name, json.loads(found[name]), now))
        return ended

    def _sweep(self, rest: str, most: int) -> Forgotten:
        done, began = Forgotten(), self._connection.server_time()
        while True:
            looked, removed, left = map(
                int, self._connection.run("remove_forgotten", rest, BLOCK, began)
            )
            done, most = done + Forgotten(removed, left), most - looked
            if looked < BLOCK or most <= 0:
                return done
