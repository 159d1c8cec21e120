"""The boot steps of a worker: what they change of Celery's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker import steps

if TYPE_CHECKING:
    import pytest


class Window:
    """What a broker's client counts: messages handed out and not acknowledged yet."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, most

    def can_consume(self) -> bool:
        """Tell whether one more may be taken."""
        return self.held < self.most

    def ack(self, tag: str) -> None:
        """Forget one."""
        self.held -= 1


def test_a_slot_that_becomes_free_asks_for_the_next_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Busy to the last slot, the loop is woken; with slots to spare it listens anyway."""
    woken: list[int] = []
    window = Window(2)
    monkeypatch.setattr(steps, "_wake_loop", lambda: woken.append(window.held))
    steps._wake_when_free(window)

    window.ack("first")
    window.ack("second")

    assert woken == [1]
