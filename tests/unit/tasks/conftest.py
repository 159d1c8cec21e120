"""One worker process over a ledger and a transport in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Claim, Ledger, Request, Wakeup
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.settings import config
from geodes_tasks.tasks import task
from geodes_tasks.tasks.app import TASK, make
from geodes_tasks.tasks.lease_keeper import LeaseKeeper
from geodes_tasks.tasks.process import WorkerProcess
from geodes_tasks.tasks.stop_signal import STOP
from geodes_tasks.tasks.task_events import FlowerRow
from geodes_tasks.transfer import retry
from geodes_tasks.transports import Transport
from tests.conftest import KiB, MemoryTransport, asset_of, some_bytes

CONTENT = some_bytes(200 * KiB)
REQUEST = Request(asset_of(b"content"), "/data/a.zip")


class Bench:
    """One worker process, its task, and the messages and events that it sent."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        """Prepare a process that uses these."""
        settings = config.load(quota="off", backoff_seconds=1.0, max_attempts=3, download_roots="/")
        self.ledger, self.folder = ledger, folder
        self.transport = MemoryTransport(CONTENT)
        self.sources: dict[str, Transport] = {"geodes": self.transport}
        self.sent: list[Wakeup] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.process = WorkerProcess(settings)
        self.process.ledger = self.process.keeper.ledger = ledger
        self.process.sender = self  # type: ignore[assignment] # it can send
        self.process.transports = self.transports  # type: ignore[method-assign]
        self.task = make(settings).tasks[TASK]

    def transports(self, account: str, hrefs: Mapping[str, str]) -> dict[str, Transport]:
        """Return the transports in memory for the sources of a file."""
        return {name: one for name, one in self.sources.items() if name in hrefs}

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep messages."""
        self.sent.extend(wakeups)

    def event(self, kind: str, **fields: Any) -> None:
        """Keep an event."""
        self.events.append((kind, fields))

    def request(self, name: str = "a", **fields: Any) -> Request:
        """Enqueue a file."""
        asset: Asset = asset_of(CONTENT, f"{name}.zip", **fields)
        request = Request(asset, str(self.folder / f"{name}.zip"))
        self.ledger.admission.admit("b", "default", [request], lambda _: None)()
        return request

    def run(self, request: Request) -> dict[str, Any]:
        """Run the task as a worker does."""
        self.task.push_request(id=request.download_id, hostname="w@host")
        try:
            result: dict[str, Any] = self.task.run(item="i", file="f", size="1 B")
            return result
        finally:
            self.task.pop_request()

    def record(self, request: Request) -> DownloadRecord:
        """Read the record of a download."""
        record = self.ledger.reading.record(request.download_id)
        assert record is not None
        return record


@pytest.fixture
def bench(fake_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A worker process over a ledger and a transport in memory."""
    monkeypatch.setattr(LeaseKeeper, "_run", lambda _: None)
    bench = Bench(fake_ledger, tmp_path / "downloads")
    monkeypatch.setattr(task, "worker_process", lambda: bench.process)
    monkeypatch.setattr(FlowerRow, "send", lambda _, *a, **k: bench.event(*a, **k))
    # Of this module only: other threads of the process still sleep.
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=lambda _: None))
    yield bench
    STOP.clear()


def away(*_: object) -> None:
    """Be a Redis that does not answer."""
    raise LedgerUnavailableError("redis://h", "connection refused")


@pytest.fixture
def claim(fake_ledger: Ledger) -> Claim:
    """A granted lease."""
    fake_ledger.admission.admit("b", "acc", [REQUEST], lambda _: None)()
    answer = fake_ledger.leases.claim(REQUEST.download_id, "w")
    assert isinstance(answer, Claim)
    return answer


def unanswered(*_: object, **__: object) -> None:
    """Be a Redis that is away."""
    raise LedgerUnavailableError("redis://h", "connection refused")
