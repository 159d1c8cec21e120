"""The gate of a worker's messages: closed while its folder cannot be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodes_tasks.ledger import Ledger
from geodes_tasks.tasks.app import QUEUE
from tests.unit.worker.conftest import Mailbox
from worker import disk_gate
from worker.disk_gate import DiskGate
from worker.recovery import Recovery


class Control:
    """Celery's remote control, as far as it is used."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.said: list[tuple[str, str, list[str]]] = []

    def cancel_consumer(self, queue: str, destination: list[str]) -> None:
        """Take no more."""
        self.said.append(("cancel", queue, destination))

    def add_consumer(self, queue: str, destination: list[str]) -> None:
        """Take again."""
        self.said.append(("add", queue, destination))


@pytest.fixture
def gate(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> DiskGate:
    """The gate of a worker; a folder is tried again at once."""
    monkeypatch.setattr(disk_gate, "CHECK_S", 0.0)
    app = type("App", (), {"control": Control()})()
    return DiskGate(fake_ledger, app, "w@host")


def test_a_worker_that_cannot_write_takes_no_work_until_it_can(
    gate: DiskGate, fake_ledger: Ledger, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Closed, it has no slots; when its folder takes files again, it opens by itself."""
    folder = tmp_path / "folder"
    folder.write_bytes(b"a file stands in the way")
    recovery = Recovery(fake_ledger, mailbox, "w@host", 4, gate)  # type: ignore[arg-type] # it sends
    fake_ledger.dispatch.close("w@host", str(folder))

    recovery.recover()
    recovery.recover()
    closed, slots = gate.closed, fake_ledger.dispatch.workers()
    folder.unlink()
    recovery.recover()

    assert (closed, slots) == (True, {"w@host": 0})
    assert (gate.closed, fake_ledger.dispatch.workers()) == (False, {"w@host": 4})
    assert gate.app.control.said == [
        ("cancel", QUEUE, ["w@host"]),
        ("add", QUEUE, ["w@host"]),
    ]
