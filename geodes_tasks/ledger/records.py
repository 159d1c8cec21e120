"""Parse the hashes of downloads and batches into records."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.errors import DamagedRecordError, for_reader
from geodes_tasks.ledger.figures import UNREADABLE, as_count, as_number, as_whole, batch_states
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import instant
from geodes_tasks.model.results import BatchStatus, DownloadRecord, ErrorInfo, MemberFile, Verified
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
"""Seconds that a mean speed looks back, as in ``scripts/library/records.lua``."""


def mean_speed(text: str | None, now: float) -> float:
    """Return bytes a second at a time of the server, from the mean that the scripts keep."""
    try:
        rate, since, at = map(as_number, (text or "").split())
    except ValueError:
        return 0.0
    if now - at > 3 * MEAN_SECONDS:
        return 0.0
    # The part of the mean that has been filled since it began: the first seconds are not too low.
    filled = 1 - math.exp(-max(now - since, 1.0) / MEAN_SECONDS)
    return rate * math.exp(-max(now - at, 0.0) / MEAN_SECONDS) / filled


def error_info(text: str) -> ErrorInfo:
    """Parse the JSON text of an error.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is none.
    """
    error = jsontext.parsed(text)
    words = error["type"], error["message"], error.get("hint", "")
    if not all(isinstance(word, str) for word in words):
        raise TypeError(words)
    return ErrorInfo(words[0], words[1], for_reader(words[2]))


def item_in(spec: str | None) -> str:
    """Parse the item's id in the spec of a download; empty for a damaged one."""
    try:
        return str(jsontext.parsed(spec or "")["item"])
    except UNREADABLE:
        return ""


def as_status(batch: str, counters: Mapping[str, str], now: float) -> BatchStatus:
    """Parse the counters of a batch as they are at a time of the server."""
    counts = {name: as_count(value) for name, value in counters.items() if ":" in name}
    return BatchStatus(
        batch=batch,
        owner=counters.get("owner"),
        account=counters.get("account"),
        enqueued_at=instant(as_number(created)).isoformat(timespec="milliseconds")
        if (created := counters.get("created"))
        else None,
        total=as_count(counters.get("total")),
        states=batch_states(counters),
        outcomes={str(outcome): counts.get(f"outcome:{outcome}", 0) for outcome in Outcome},
        waiting={
            name.removeprefix("waiting:"): count
            for name, count in sorted(counts.items())
            if name.startswith("waiting:") and count
        },
        bytes_total=as_count(counters.get("bytes_total")),
        bytes_done=as_count(counters.get("bytes_done")),
        # Below 0 where the version before, which did not count them, ended what is retried now.
        bytes_ended=max(as_count(counters.get("bytes_ended")), 0),
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
    """Mean of some 20 seconds."""


RUNNING_FIELDS = ("spec", "done", "worker", "source", "started", "speed")


def as_running(
    identifier: str, values: Sequence[str | None], now: float, lease_end: float = 0.0
) -> Running | None:
    """Parse the ``RUNNING_FIELDS`` of a download at a time of the server; None for damaged ones."""
    spec, done, worker, source, started, speed = values
    try:
        asset = Asset.from_dict(jsontext.parsed(spec or "{}"))
    except UNREADABLE:
        return None
    return Running(
        download_id=identifier,
        item_id=asset.item_id,
        title=asset.title,
        size_bytes=asset.size_bytes,
        done_bytes=as_count(done),
        worker=worker or "",
        source=source or "",
        started=as_number(started),
        lease_end=lease_end,
        bytes_per_second=round(mean_speed(speed, now)),
    )


_VERIFIED: dict[str, Verified] = {"1": True, "crc32": "crc32"}
"""Values of the field ``verified`` to those of a record."""


def as_record(identifier: str, data: Mapping[str, str], batch: str = "") -> DownloadRecord:
    """Parse the hash of one download; a damaged one becomes a record with DamagedRecordError.

    For a batch that found the file there, the record is of that, and not of the transfer before.
    Other programs may write to the same Redis: one bad hash must not cost the report of a batch.
    """
    try:
        return _parsed(identifier, _as_found(data, batch))
    except (*UNREADABLE, zlib.error):
        # Not SUCCESS: what cannot be read proves no file.
        known = data.get("state") if isinstance(data, dict) else None
        is_active = known in {State.PENDING, State.STARTED, State.RETRY}
        return DownloadRecord(
            item_id=identifier,
            collection="",
            asset_key="",
            state=State(str(known)) if is_active else State.FAILURE,
            outcome=None,
            path="",
            size_bytes=None,
            checksum=None,
            verified=False,
            bytes_transferred=0,
            attempts=0,
            source=None,
            started_at=None,
            finished_at=None,
            error=ErrorInfo.of(DamagedRecordError(identifier)),
            download_id=identifier,
        )


def _as_found(data: Mapping[str, str], batch: str) -> Mapping[str, str]:
    """Return the fields as they are for a batch: without a transfer where it found the file."""
    if (found := data.get(f"present:{batch}")) is None:
        return data
    rest = {
        name: value
        for name, value in data.items()
        if name not in {"started", "source"} and not name.startswith("bytes")
    }
    return rest | {"outcome": Outcome.ALREADY_PRESENT, "finished": found}


def _parsed(identifier: str, data: Mapping[str, str]) -> DownloadRecord:
    asset = Asset.from_dict(jsontext.parsed(data["spec"]))
    state = State(data["state"])
    outcome = data.get("outcome") if state is State.SUCCESS else None
    size = as_whole(data.get("size"))
    # Of the bytes on disk, where the catalogue has none.
    own = checksums.parse(data["checksum"]) if outcome and data.get("checksum") else asset.checksum
    return DownloadRecord(
        item_id=asset.item_id,
        collection=asset.collection,
        asset_key=asset.key,
        state=state,
        outcome=Outcome(outcome) if outcome else None,
        path=data.get("path", ""),
        size_bytes=size if size or asset.size_bytes is not None else None,
        checksum=str(own) if own else None,
        verified=state is State.SUCCESS and _VERIFIED.get(data.get("verified", ""), False),
        bytes_transferred=as_whole(data.get("bytes")),
        attempts=as_whole(data.get("attempts")),
        source=data.get("source"),
        started_at=moment(data.get("started")),
        finished_at=moment(data.get("finished")),
        # The error of an earlier attempt stays in the hash, for its history.
        error=error_info(data["error"])
        if data.get("error") and state is not State.SUCCESS
        else None,
        sources={
            name.removeprefix("bytes:"): as_whole(value)
            for name, value in sorted(data.items())
            if name.startswith("bytes:") and name != "bytes:" and as_whole(value)
        },
        download_id=identifier,
        reason=data.get("reason"),
        due_at=moment(data.get("due")),
        worker=data.get("worker"),
        # Of an earlier success: a set that is fetched again has none until it is there.
        members=tuple(
            MemberFile(f"{data['path']}/{name}", size, crc32)
            for name, size, crc32 in jsontext.parsed(data.get("members") or "[]")
            if state is State.SUCCESS
        ),
        footprint=footprint.unpacked(data["footprint"]) if data.get("footprint") else None,
        history=tuple(map(_entry, jsontext.parsed(data.get("history") or "[]"))),
    )
