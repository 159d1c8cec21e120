"""Read the hash of a download as a record."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.results import DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Outcome, State


def moment(text: str | None) -> str | None:
    """Turn the server's seconds into ISO 8601, UTC."""
    if not text:
        return None
    return datetime.fromtimestamp(float(text), UTC).isoformat(timespec="milliseconds")


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the history with its time as ISO 8601; scripts write seconds."""
    with contextlib.suppress(ValueError, KeyError):
        return entry | {"at": moment(entry["at"])}
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
        started_at=moment(data.get("started")),
        finished_at=moment(data.get("finished")),
        error=_info(error) if error and state is not State.SUCCESS else None,
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
