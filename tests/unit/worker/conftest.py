"""A sender for the threads of a worker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from geodes_tasks.ledger import Wakeup
from geodes_tasks.tasks import process


class Mailbox:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        """Begin empty."""
        self.sent: list[str] = []

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep them."""
        self.sent.extend(wakeup.download_id for wakeup in wakeups)


@pytest.fixture(autouse=True)
def _writes_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a worker process of its own, which writes below temporary folders."""
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_ROOTS", "/")
    monkeypatch.setattr(process, "_processes", [])


@pytest.fixture
def mailbox() -> Mailbox:
    """Where messages go."""
    return Mailbox()
