"""The single downloads of this user: a line of JSON for each start and end, in the state folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from geodes_tasks.model.asset import Asset, download_id
from geodes_tasks.model.results import DownloadRecord, DownloadResult, ErrorInfo
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings.config import Config

FILE = "single-downloads.jsonl"
MOST_BYTES = 4_000_000
"""Bytes of the file from which the next download begins a new one; the one before is kept."""


def recorded(
    conf: Config, asset: Asset, final: Path, fetch: Callable[[], DownloadResult]
) -> DownloadResult:
    """Return the result of a download of this process, and record its start and its end."""
    record = _started(asset, final)
    _append(conf, record)
    end = replace(record, state=State.REVOKED)
    try:
        result = fetch()
        end = replace(
            record, state=State.SUCCESS, outcome=result.outcome, path=result.path,
            size_bytes=result.size_bytes, verified=result.verified, source=result.source,
            bytes_transferred=result.bytes_transferred, sources=dict(result.sources),
        )  # fmt: skip
        return result
    except Exception as error:
        end = replace(record, state=State.FAILURE, error=ErrorInfo.of(error))
        raise
    finally:
        _append(conf, replace(end, finished_at=_now()))


def read(conf: Config) -> list[DownloadRecord]:
    """Return the single downloads, each as its last line describes it, the oldest first."""
    found: dict[str, DownloadRecord] = {}
    for path in (_path(conf).with_suffix(".1"), _path(conf)):
        with contextlib.suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                # A process that was killed may have left half a line, a disk anything.
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    record = _parsed(line)
                    found[record.download_id] = record
    return [
        # A process that is gone has not recorded its end.
        replace(record, state=State.REVOKED, finished_at=record.started_at)
        if record.state is State.STARTED and not _is_alive(record)
        else record
        for record in found.values()
    ]


def _started(asset: Asset, final: Path) -> DownloadRecord:
    return DownloadRecord(
        item_id=asset.item_id, collection=asset.collection, asset_key=asset.key,
        state=State.STARTED, outcome=None, path=str(final), size_bytes=asset.size_bytes,
        checksum=str(asset.checksum) if asset.checksum else None, verified=False,
        bytes_transferred=0, attempts=1, source=None, started_at=_now(), finished_at=None,
        error=None, download_id=download_id(str(final), asset),
        worker=f"{os.getpid()}@{socket.gethostname()}",
    )  # fmt: skip


def _parsed(line: str) -> DownloadRecord:
    data = json.loads(line)
    outcome, error = data.pop("outcome"), data.pop("error")
    return DownloadRecord(
        **data
        | {
            "state": State(data["state"]),
            "outcome": Outcome(outcome) if outcome else None,
            "error": ErrorInfo(**error) if error else None,
        }
    )


def _is_alive(record: DownloadRecord) -> bool:
    pid, _, host = (record.worker or "").partition("@")
    if host != socket.gethostname() or not pid.isdecimal():
        return True
    try:
        # Signal 0 checks only whether there is such a process (kill(2)).
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _append(conf: Config, record: DownloadRecord) -> None:
    path = _path(conf)
    # The download itself matters more than its record.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(path.with_suffix(".1"))
        # One write of less than a page with O_APPEND: lines of two processes do not mix.
        with path.open("a") as stream:
            stream.write(json.dumps(record.to_dict()) + "\n")


def _path(conf: Config) -> Path:
    return conf.state_dir.expanduser() / FILE


def _now() -> str:
    return datetime.now(UTC).isoformat()
