"""The reading side of the ledger: counts, records, what runs, what waits."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import cast

from geodes_tasks.errors import UnknownDownloadError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.error_texts import built_again
from geodes_tasks.ledger.figures import UNREADABLE, FailureGroup, Totals, Wait, as_count, as_number
from geodes_tasks.ledger.records import (
    RUNNING_FIELDS,
    Running,
    as_record,
    as_running,
    as_status,
    item_in,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import nearest
from geodes_tasks.model.results import BatchStatus, DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Reason, State

BLOCK = 500
"""The number of records read in one round trip."""
TURN = "turn"
"""Reason of a download that waits for its turn: no worker has claimed it yet."""
NEAREST_OF = 2000
"""The number of downloads of a batch whose names are compared with a misspelt one."""
EXAMPLES = 3
"""The number of downloads that are named for each class of error."""
ERRING = (State.FAILURE, State.RETRY)
"""The states in which scripts list a download by its error: <state>:<class>:<id>."""
DUE_SAMPLE = 1000
"""The number of waiting downloads whose due times are read, the earliest first."""
FEW, MOST_BLOCKS = 10, 20
"""Waiting downloads that are searched for one of a batch: some first, then so many blocks."""


class Reading(Part):
    """Read without changing anything."""

    def first_waiting(self, batches: Iterable[str], reason: str) -> tuple[str, float] | None:
        """Return the download of some batches that waits longest for a reason, and since when.

        None where none waits, or where more than ten thousand of other batches wait longer.
        """
        # Mostly the very first is of these batches: of many batches a block each is much to read.
        bounds = 0, FEW, *range(BLOCK, (MOST_BLOCKS + 1) * BLOCK, BLOCK)
        for first, end in itertools.pairwise(bounds):
            with self._connection.commands() as redis:
                rows: list[tuple[str, float]] = redis.zrange(
                    self._key("since", reason), first, end - 1, withscores=True
                )
                ids = [identifier for identifier, _ in rows]
                pipeline = redis.pipeline(transaction=False)
                for name in batches if ids else ():
                    pipeline.zmscore(self._key("batch", name, "downloads"), ids)
                places = zip(*pipeline.execute(), strict=True)
            mine = (row for row, found in zip(rows, places, strict=True) if {*found} != {None})
            if (found := next(mine, None)) is not None or len(rows) < end - first:
                return found
        return None

    def status(self, batch: str) -> BatchStatus:
        """Return the counts of a batch; one round trip, however large the batch.

        Raises:
            UnknownBatchError: no such batch.
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            pipeline.hgetall(self._key("batch", batch))
            pipeline.time()
            counters, (seconds, microseconds) = pipeline.execute()
        if not counters:
            raise self._connection.unknown_batch(batch)
        return as_status(batch, counters, seconds + microseconds / 1e6)

    def batches(self) -> list[str]:
        """Return the names of all batches, the newest first."""
        with self._connection.commands() as redis:
            names: list[str] = redis.zrevrange(self._key("batches"), 0, -1)
            return names

    def downloads(self, batch: str) -> Iterator[str]:
        """Yield the ids of a batch's downloads in the order they were enqueued.

        Some may leave the batch or come in while they are read.

        Raises:
            UnknownBatchError: no such batch.
        """
        return itertools.chain.from_iterable(self._blocks(batch))

    def _blocks(self, batch: str) -> Iterator[list[str]]:
        """Yield the ids of a batch's downloads in blocks, with flat memory."""
        with self._connection.commands() as redis:
            if not redis.exists(self._key("batch", batch)):
                raise self._connection.unknown_batch(batch)
        # By score and not by rank: ranks move when a download leaves. Two downloads may have one
        # score, so each block begins with that of the last one.
        key, last, seen = self._key("batch", batch, "downloads"), "-inf", set[str]()
        while True:
            with self._connection.commands() as redis:
                rows = redis.zrangebyscore(key, last, "+inf", 0, BLOCK, withscores=True)
            if not (ids := [identifier for identifier, _ in rows if identifier not in seen]):
                return
            yield ids
            last = rows[-1][1]
            seen = {identifier for identifier, score in rows if score == last}

    def records(self, batch: str) -> Iterator[DownloadRecord]:
        """Yield the record of each download of a batch, in order, with flat memory.

        Raises:
            UnknownBatchError: no such batch.
        """
        for ids in self._blocks(batch):
            yield from filter(None, self.read(ids, batch))

    def record(self, download_id: str) -> DownloadRecord | None:
        """Return one record; None when the download is unknown."""
        return self.read([download_id])[0]

    def error(self, download_id: str) -> Exception | None:
        """Return the error of a download as an exception of its own class; None without one."""
        with self._connection.commands() as redis:
            text = redis.hget(self._key("download", download_id), "error")
        return built_again(text) if text else None

    def assets(self, downloads: Sequence[str]) -> dict[str, Asset]:
        """Return the assets of downloads by id, without those forgotten or damaged meanwhile."""
        found: dict[str, Asset] = {}
        rows = self._fields(downloads, "spec", raise_on_error=False)
        for identifier, row in zip(downloads, rows, strict=True):
            # A row may be an error of the server: the key holds another type.
            with contextlib.suppress(*UNREADABLE):
                found[identifier] = Asset.from_dict(json.loads(row[0] or ""))
        return found

    def read(self, ids: Sequence[str], batch: str = "") -> list[DownloadRecord | None]:
        """Return some records in one round trip, as a batch has them; None for an unknown one.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hgetall(self._key("download", identifier))
            # An entry may be an error of the server: the key holds another type.
            found = pipeline.execute(raise_on_error=False)
        return [
            as_record(identifier, data, batch) if data else None
            for identifier, data in zip(ids, found, strict=True)
        ]

    def running(self, batch: str = "") -> list[Running]:
        """Return every download under way, or those of a batch, the longest running first."""
        with self._connection.commands() as redis:
            accounts, now = redis.smembers(self._key("accounts")), self._connection.server_time()
            leases = {
                identifier: end
                for account in sorted(accounts)
                for identifier, end in redis.zrange(
                    self._key("account", account, "leases"), 0, -1, withscores=True
                )
            }
            ids = list(leases)
            if batch and ids:
                places = redis.zmscore(self._key("batch", batch, "downloads"), ids)
                ids = [one for one, place in zip(ids, places, strict=True) if place is not None]
            pipeline = redis.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hmget(self._key("download", identifier), "state", *RUNNING_FIELDS)
            rows = zip(ids, pipeline.execute(), strict=True)
        # A lease may outlive its record or its state for a moment: recovery removes it.
        known = (
            as_running(identifier, values, now, leases[identifier])
            for identifier, (state, *values) in rows
            if state == State.STARTED
        )
        return sorted(filter(None, known), key=lambda one: one.started)

    def waits(self, batches: Sequence[str]) -> list[Wait]:
        """Return for each reason how many downloads of the batches wait, since and until when.

        A download in two batches counts twice.
        """
        counts, accounts = defaultdict[str, dict[str, int]](dict), set[str]()
        with self._connection.commands() as redis:
            for name in batches:
                counters = redis.hgetall(self._key("batch", name))
                accounts.add(self._key("account", counters.get("account", "")))
                for field, value in counters.items():
                    kind, _, reason = field.partition(":")
                    if kind == "waiting" and (number := as_count(value)) > 0:
                        counts[reason][name] = number
        dues = self._dues() if counts else []
        found = []
        for reason, by_batch in sorted(counts.items()):
            # Not of the batches without one: the search would read all that others have.
            count, first = sum(by_batch.values()), self.first_waiting(by_batch, reason)
            mine = [(name, due) for why, name, due in dues if why == reason and name in batches]
            ends = [due for _, due in mine[:1]]
            if len(dues) >= DUE_SAMPLE:
                ends = ends or [dues[-1][2]]  # none of those that are due earlier is of these
            elif len(mine) < count and reason != Reason.OFFLINE:
                ends = []  # the wait of some is over: they go on as soon as they may
            # A file on tape has no due time of its own: it is due with the next poll.
            if reason == Reason.OFFLINE:
                with self._connection.commands() as redis:
                    taped = [f"{key}:poll" for key in accounts if redis.zcard(f"{key}:tape")]
                    ends += [as_number(then) for key in taped if (then := redis.hget(key, "next"))]
            end, since = min(ends, default=None), first and first[1]
            found.append(Wait(reason, count, end, since, dict(mine)))
        return found

    def _dues(self) -> list[tuple[str, str, float]]:
        """Return reason, batch and due time of the downloads that are due first, in order."""
        with self._connection.commands() as redis:
            found = redis.zrange(self._key("due"), 0, DUE_SAMPLE - 1, withscores=True)
        rows = self._fields([identifier for identifier, _ in found], "reason", "batches")
        return [
            (reason or "", name.replace("\n", " "), due)
            for (_, due), (reason, names) in zip(found, rows, strict=True)
            for name in (names or "").split(" ")
        ]

    def failures(self, batch: str) -> list[FailureGroup]:
        """Return the errors of a batch by class: failures first, then by number.

        Reads the list that scripts keep of them: as quick for a million downloads as for ten.
        """
        groups = [group for state in ERRING for group in self._groups(batch, state)]
        return sorted(groups, key=lambda one: (one.state != State.FAILURE, -one.count))

    def _groups(self, batch: str, state: State) -> Iterator[FailureGroup]:
        key, first = self._key("errors", batch), f"[{state}:"
        with self._connection.commands() as redis:
            # From the first entry of a class to the first one of the next class.
            while found := redis.zrangebylex(key, first, f"({state};", 0, 1):
                kind = found[0].split(":")[1]
                bounds = f"[{state}:{kind}:", f"({state}:{kind};"
                count = redis.zlexcount(key, *bounds)
                entries = redis.zrangebylex(key, *bounds, 0, EXAMPLES)
                ids = [entry.split(":", 2)[2] for entry in entries]
                # One may have left the list, or the ledger, meanwhile.
                if records := [one for one in self.read(ids) if one and one.error]:
                    items = tuple(one.item_id for one in records)
                    is_refused = not records[0].path
                    error = cast("ErrorInfo", records[0].error)
                    yield FailureGroup(state, kind, count, error, items[0], items, is_refused)
                first = f"[{state}:{kind};"

    def failed(
        self, batch: str, kinds: Sequence[str] = (), *, state: State = State.FAILURE
    ) -> Iterator[str]:
        """Yield the ids of a batch's downloads with errors of these classes, or of any.

        The downloads may change their states while they are read.

        Args:
            batch: Its name.
            kinds: Error classes; none is any.
            state: Of the downloads: FAILURE, or RETRY for those that wait after an error.
        """
        key = self._key("errors", batch)
        for prefix in [f"{state}:{kind}" for kind in kinds] or [str(state)]:
            first = f"[{prefix}:"
            with self._connection.commands() as redis:
                while entries := redis.zrangebylex(key, first, f"({prefix};", 0, BLOCK):
                    yield from (entry.split(":", 2)[2] for entry in entries)
                    first = f"({entries[-1]}"

    def named(self, batch: str, names: Sequence[str]) -> list[str]:
        """Return the ids of a batch's downloads by item, file name or id, each once.

        Ids cost one round trip, other names a search of the batch, in blocks.

        Raises:
            UnknownBatchError: no such batch.
            UnknownDownloadError: the batch has none of that name.
        """
        with self._connection.commands() as redis:
            scores = redis.zmscore(self._key("batch", batch, "downloads"), names)
        if None not in scores:
            return list(dict.fromkeys(names))
        found: dict[str, dict[str, None]] = {name: {} for name in names}
        # An index by item or file would cost each enqueue. A name may belong to several downloads,
        # so that only the end of the batch ends the search.
        for ids in self._blocks(batch):
            rows = zip(ids, self._fields(ids, "spec", "path"), strict=True)
            for identifier, (spec, path) in rows:
                for name in (identifier, item_in(spec), (path or "").rpartition("/")[2]):
                    if name in found:
                        found[name][identifier] = None
        for name in (name for name, those in found.items() if not those):
            first = itertools.islice(self.records(batch), NEAREST_OF)
            known = [(one.download_id, one.item_id, PurePath(one.path).name) for one in first]
            alike = nearest(name, list(itertools.chain.from_iterable(known)))
            raise UnknownDownloadError(name, alike, batch)
        return list(dict.fromkeys(itertools.chain.from_iterable(found.values())))

    def _fields(
        self, ids: Sequence[str], *names: str, raise_on_error: bool = True
    ) -> list[list[str | None]]:
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hmget(self._key("download", identifier), *names)
            rows: list[list[str | None]] = pipeline.execute(raise_on_error)
        return rows

    def totals(self) -> Totals:
        """Return the counts of the whole ledger: as quick with a million records as with one."""
        reasons, now = (*Reason, TURN), self._connection.server_time()
        with self._connection.commands() as redis:
            accounts = redis.smembers(self._key("accounts"))
            pipeline = redis.pipeline(transaction=False)
            pipeline.hgetall(self._key("totals"))
            pipeline.zcount(self._key("due"), f"({now}", "+inf")
            for reason in reasons:
                pipeline.zcard(self._key("since", reason))
                pipeline.zrange(self._key("since", reason), 0, 0, withscores=True)
            for account in accounts:
                pipeline.zcard(self._key("account", account, "leases"))
                pipeline.zcard(self._key("account", account, "tape"))
            counters, later, *rest = pipeline.execute()
        waits = dict(zip(reasons, zip(rest[::2], rest[1::2], strict=True), strict=False))
        accounted = rest[2 * len(reasons) :]
        # Scripts count what has ended; of the rest, the size of a set is the count.
        counts = {name: as_count(value) for name, value in counters.items()}
        counts |= {f"waiting:{reason}": waits[reason][0] for reason in Reason}
        counts |= {"state:PENDING": waits[TURN][0], "state:STARTED": sum(accounted[::2])}
        return Totals(
            at=now,
            counters=counts,
            since={str(reason): first[0][1] for reason, (_, first) in waits.items() if first},
            later=later,
            taped=sum(accounted[1::2]),
        )
