"""Parse the hashes of downloads and batches into records."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.results import BatchStatus, DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Outcome, State


def moment(text: str | None) -> str | None:
    """Return the server's seconds as ISO 8601 in UTC; None for none."""
    if not text:
        return None
    return datetime.fromtimestamp(float(text), UTC).isoformat(timespec="milliseconds")


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the history with its time as ISO 8601; scripts write seconds."""
    # An entry without a time, or with one in ISO 8601 already, is shown as it is.
    with contextlib.suppress(ValueError, KeyError):
        return entry | {"at": moment(entry["at"])}
    return entry


MEAN_SECONDS = 20.0
"""Seconds that a mean speed looks back, as in ``scripts/library/counters.lua``."""


def mean_speed(text: str | None, now: float) -> float:
    """Return bytes a second at a time of the server, from the mean that the scripts keep."""
    try:
        rate, since, at = map(float, (text or "").split())
    except ValueError:
        return 0.0
    if now - at > 3 * MEAN_SECONDS:
        return 0.0
    # The part of the mean that has been filled since it began: the first seconds are not too low.
    filled = 1 - math.exp(-max(now - since, 1.0) / MEAN_SECONDS)
    return rate * math.exp(-max(now - at, 0.0) / MEAN_SECONDS) / filled


def error_info(text: str) -> ErrorInfo:
    """Parse the JSON text of an error."""
    error = jsontext.parsed(text)
    return ErrorInfo(error["type"], error["message"], error.get("hint", ""))


def as_status(batch: str, counters: Mapping[str, str], now: float) -> BatchStatus:
    """Parse the counters of a batch as they are at a time of the server."""

    def counted(kind: str, names: Iterable[str]) -> dict[str, int]:
        return {str(name): int(counters.get(f"{kind}:{name}", 0)) for name in names}

    return BatchStatus(
        batch=batch,
        owner=counters.get("owner"),
        account=counters.get("account"),
        enqueued_at=moment(counters.get("created")),
        total=int(counters.get("total", 0)),
        states=counted("state", State),
        outcomes=counted("outcome", Outcome),
        waiting={
            name.removeprefix("waiting:"): int(value)
            for name, value in sorted(counters.items())
            if name.startswith("waiting:") and int(value)
        },
        bytes_total=int(counters.get("bytes_total", 0)),
        bytes_done=int(counters.get("bytes_done", 0)),
        bytes_per_second=mean_speed(counters.get("speed"), now),
    )


@dataclass(frozen=True, slots=True)
class Running:
    """A download under way."""

    download_id: str
    item_id: str
    title: str
    size_bytes: int | None
    """None when the catalogue names no size."""
    done_bytes: int
    worker: str
    source: str
    started: float = 0.0
    """Start of the attempt, in seconds of the server's clock."""
    lease_end: float = 0.0
    """Time at which another worker takes it over unless its worker renews the lease."""
    bytes_per_second: float = 0.0
    """Mean over the attempt."""


RUNNING_FIELDS = ("spec", "done", "worker", "source", "started", "speed")


def as_running(identifier: str, values: Sequence[str | None], lease_end: float = 0.0) -> Running:
    """Parse the ``RUNNING_FIELDS`` of a download."""
    spec, done, worker, source, started, speed = values
    data = jsontext.parsed(spec or "{}")
    return Running(
        download_id=identifier,
        item_id=data["item"],
        title=data["title"],
        size_bytes=data["size"],
        done_bytes=int(done or 0),
        worker=worker or "",
        source=source or "",
        started=float(started or 0),
        lease_end=lease_end,
        bytes_per_second=float(speed or 0),
    )


def as_record(identifier: str, data: Mapping[str, str]) -> DownloadRecord:
    """Parse the hash of one download."""
    spec = jsontext.parsed(data["spec"])
    state = State(data["state"])
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
        started_at=moment(data.get("started")),
        finished_at=moment(data.get("finished")),
        # The error of an earlier attempt stays in the hash, for its history.
        error=error_info(data["error"])
        if data.get("error") and state is not State.SUCCESS
        else None,
        sources={
            name.removeprefix("bytes:"): int(value)
            for name, value in sorted(data.items())
            if name.startswith("bytes:") and name != "bytes:" and int(value)
        },
        download_id=identifier,
        reason=data.get("reason"),
        due_at=moment(data.get("due")),
        worker=data.get("worker"),
        footprint=footprint.unpacked(data["footprint"]) if data.get("footprint") else None,
        history=tuple(map(_entry, jsontext.parsed(data.get("history") or "[]"))),
    )
