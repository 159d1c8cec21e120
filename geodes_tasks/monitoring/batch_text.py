"""How a batch stands in a few words, and how fast it goes: for every view of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geodes_tasks.model.states import State

if TYPE_CHECKING:
    from geodes_tasks.model.results import BatchStatus

SPEED_WINDOW_S = 10.0


@dataclass(slots=True)
class Speed:
    """Bytes a second over the last few seconds."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    def update(self, done_bytes: int, now: float) -> float:
        """Take the bytes done so far; give the speed."""
        self.seen.append((now, done_bytes))
        while len(self.seen) > 2 and self.seen[0][0] < now - SPEED_WINDOW_S:
            self.seen.pop(0)
        (then, before) = self.seen[0]
        return max(done_bytes - before, 0) / (now - then) if now > then else 0.0


def summary(status: BatchStatus) -> str:
    """Say in a few words how a batch stands: ``12 of 20 done, 3 running, 5 waiting (quota)``."""
    states = status.states
    parts = [f"{states[State.SUCCESS]} of {status.total} done"]
    for state, word in ((State.STARTED, "running"), (State.PENDING, "queued")):
        if states[state]:
            parts.append(f"{states[state]} {word}")
    if states[State.RETRY]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in status.waiting.items())
        parts.append(f"{states[State.RETRY]} waiting ({reasons})")
    if states[State.FAILURE]:
        parts.append(f"{states[State.FAILURE]} failed")
    if states[State.REVOKED]:
        parts.append(f"{states[State.REVOKED]} cancelled")
    return ", ".join(parts)


def outcomes(status: BatchStatus) -> str:
    """Say how success came about: `` (3 DOWNLOADED, 1 RESUMED)``; nothing where there is none."""
    counts = [f"{count} {name}" for name, count in status.outcomes.items() if count]
    return f" ({', '.join(counts)})" if counts else ""
