"""The reading side of the ledger: counts, records, what runs, what waits."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from geodes_tasks import errors
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger.connection import Store
from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.results import BatchStatus, DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READ_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Running:
    """A download under way."""

    download_id: str
    item_id: str
    title: str
    size_bytes: int | None
    done_bytes: int
    worker: str
    source: str
    started: float = 0.0
    """Seconds of the server's clock."""


class Reading(Store):
    """Read without changing anything."""

    def status(self, batch: str) -> BatchStatus:
        """Give the counts of a batch; one round trip, however large the batch.

        Raises:
            UnknownBatchError: no such batch.
            LedgerUnavailableError: Redis does not answer.
        """
        with self.available():
            counters = self.client.hgetall(self.key("batch", batch))
        if not counters:
            raise self.unknown_batch(batch)
        return BatchStatus(
            batch=batch,
            owner=counters.get("owner"),
            enqueued_at=_moment(counters.get("created")),
            total=int(counters.get("total", 0)),
            states=_counted(counters, "state", State),
            outcomes=_counted(counters, "outcome", Outcome),
            waiting=_nonzero(counters, "waiting:"),
            bytes_total=int(counters.get("bytes_total", 0)),
            bytes_done=int(counters.get("bytes_done", 0)),
        )

    def batches(self) -> list[str]:
        """Name every batch, the newest first."""
        with self.available():
            names: list[str] = self.client.zrevrange(self.key("batches"), 0, -1)
            return names

    def downloads(self, batch: str) -> list[str]:
        """Give the ids of a batch's downloads in the order they were asked for.

        Raises:
            UnknownBatchError: no such batch.
        """
        with self.available():
            if not self.client.exists(self.key("batch", batch)):
                raise self.unknown_batch(batch)
            ids: list[str] = self.client.zrange(self.key("batch", batch, "downloads"), 0, -1)
            return ids

    def records(self, batch: str) -> Iterator[DownloadRecord]:
        """Give the record of each download of a batch, in order, with flat memory.

        Raises:
            UnknownBatchError: no such batch.
        """
        ids = iter(self.downloads(batch))
        while block := list(itertools.islice(ids, READ_BLOCK)):
            yield from filter(None, self._read(block))

    def record(self, download_id: str) -> DownloadRecord | None:
        """Give one record; None when the download is unknown."""
        return self._read([download_id])[0]

    def error(self, download_id: str) -> Exception | None:
        """Give the error of a download as an exception of its own class; None without one."""
        with self.available():
            text = self.client.hget(self.key("download", download_id), "error")
        if not text:
            return None
        error = jsontext.parsed(text)
        kind = getattr(errors, error["type"], None)
        if not error.get("values") or kind is None:
            return GeodesTasksError(f"{error['type']}: {error['message']}")
        return cast("Exception", kind(*error["values"]))

    def _read(self, ids: Sequence[str]) -> list[DownloadRecord | None]:
        with self.available():
            pipeline = self.client.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hgetall(self.key("download", identifier))
            found = pipeline.execute()
        return [
            as_record(identifier, data) if data else None
            for identifier, data in zip(ids, found, strict=True)
        ]

    def running(self, batch: str = "") -> list[Running]:
        """Give every download under way, or those of a batch, the longest under way first."""
        with self.available():
            accounts = self.client.smembers(self.key("accounts"))
            ids = [
                identifier
                for account in sorted(accounts)
                for identifier in self.client.zrange(self.key("account", account, "leases"), 0, -1)
            ]
            if batch and ids:
                places = self.client.zmscore(self.key("batch", batch, "downloads"), ids)
                ids = [one for one, place in zip(ids, places, strict=True) if place is not None]
            pipeline = self.client.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hmget(
                    self.key("download", identifier),
                    *("spec", "done", "worker", "source", "started", "state"),
                )
            rows = zip(ids, pipeline.execute(), strict=True)
        known = [_running(*row) for row in rows if row[1][0] and row[1][5] == State.STARTED]
        return sorted(known, key=lambda one: one.started)

    def workers(self) -> dict[str, int]:
        """Give the live workers with their slots."""
        with self.available():
            names = self.client.zrange(self.key("workers"), 0, -1)
            slots = [self.client.hget(self.key("worker", name), "slots") for name in names]
        return {name: int(count or 0) for name, count in zip(names, slots, strict=True)}


def _running(identifier: str, values: Sequence[str | None]) -> Running:
    spec, done, worker, source, started, _ = values
    data = jsontext.parsed(spec or "{}")
    return Running(
        identifier,
        data["item"],
        data["title"],
        data["size"],
        int(done or 0),
        worker or "",
        source or "",
        float(started or 0),
    )


def _counted(counters: Mapping[str, str], kind: str, names: Any) -> dict[str, int]:
    return {str(name): int(counters.get(f"{kind}:{name}", 0)) for name in names}


def _nonzero(counters: Mapping[str, str], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): int(value)
        for name, value in sorted(counters.items())
        if name.startswith(prefix) and int(value)
    }


def _moment(text: str | None) -> str | None:
    """Turn the server's seconds into ISO 8601, UTC."""
    if not text:
        return None
    return datetime.fromtimestamp(float(text), UTC).isoformat(timespec="milliseconds")


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the history with its time as ISO 8601; scripts write seconds."""
    with contextlib.suppress(ValueError, KeyError):
        return entry | {"at": _moment(entry["at"])}
    return entry


def _info(error: Mapping[str, Any]) -> ErrorInfo:
    return ErrorInfo(error["type"], error["message"], error["hint"])


def as_record(identifier: str, data: Mapping[str, str]) -> DownloadRecord:
    """Read the hash of one download."""
    spec = jsontext.parsed(data["spec"])
    state = State(data["state"])
    error = jsontext.parsed(data["error"]) if data.get("error") else None
    outcome = data.get("outcome") if state is State.SUCCESS else None
    size = int(data.get("size") or 0)
    return DownloadRecord(
        item_id=spec["item"],
        collection=spec["collection"],
        asset_key=spec["key"],
        state=state,
        outcome=Outcome(outcome) if outcome else None,
        path=data.get("path", ""),
        size_bytes=size if size or spec["size"] is not None else None,
        checksum=(data.get("checksum") if outcome else None) or spec["checksum"],
        verified=state is State.SUCCESS and data.get("verified") == "1",
        bytes_transferred=int(data.get("bytes") or 0),
        attempts=int(data.get("attempts") or 0),
        source=data.get("source"),
        started_at=_moment(data.get("started")),
        finished_at=_moment(data.get("finished")),
        error=_info(error) if error and state is not State.SUCCESS else None,
        sources={
            name.removeprefix("bytes:"): int(value)
            for name, value in sorted(data.items())
            if name.startswith("bytes:") and name != "bytes:" and int(value)
        },
        download_id=identifier,
        reason=data.get("reason"),
        due_at=_moment(data.get("due")),
        worker=data.get("worker"),
        footprint=footprint.unpacked(data["footprint"]) if data.get("footprint") else None,
        history=tuple(map(_entry, jsontext.parsed(data.get("history") or "[]"))),
    )
