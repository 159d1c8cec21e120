"""The counts that monitoring shows: waits, failures by class, totals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import ACTIVE, State

LARGEST = 2**63 - 1
"""Bytes of the largest file that a POSIX file offset reaches (off_t, 64 bits)."""
UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""Exceptions that reading a damaged record raises."""


def as_whole(text: str | None) -> int:
    """Return a whole number as scripts write it; 0 for none.

    Raises:
        ValueError: none, or one that no file or counter has.
    """
    number = int(text or 0)
    if not -LARGEST <= number <= LARGEST:
        raise ValueError(text)
    return number


def as_count(text: str | None) -> int:
    """Return a counter of the ledger; 0 for none, and for one that is no number."""
    with contextlib.suppress(ValueError):
        return as_whole(text)
    return 0


def as_number(text: str | None) -> float:
    """Return a time or a rate of the ledger; 0 for none, and for one that is no finite number."""
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text or 0)):
            return number
    return 0.0


def counts_by_state(counters: Mapping[str, int]) -> dict[str, int]:
    """Return how many downloads are in each state.

    Scripts count a download in RETRY by its reason and one in SUCCESS by its outcome, and all
    others by their state.
    """

    def total(kind: str) -> int:
        return sum(count for name, count in counters.items() if name.startswith(f"{kind}:"))

    counts = {str(state): counters.get(f"state:{state}", 0) for state in State}
    return counts | {State.RETRY: total("waiting"), State.SUCCESS: total("outcome")}


def batch_states(counters: Mapping[str, str]) -> dict[str, int]:
    """Return how many downloads of a batch are in each state, from its counters.

    Scripts count no download in PENDING: those are the rest of the total.
    """
    counts = counts_by_state({name: as_count(value) for name, value in counters.items()})
    others = sum(counts.values()) - counts[State.PENDING]
    return counts | {str(State.PENDING): max(as_count(counters.get("total")) - others, 0)}


def count_unfinished(counters: Mapping[str, str]) -> int:
    """Return how many downloads of a batch have not ended, from its counters."""
    states = batch_states(counters)
    return sum(states[state] for state in ACTIVE)


@dataclass(frozen=True, slots=True)
class Wait:
    """The downloads that wait for one reason."""

    reason: str
    count: int
    next_due: float | None
    """When the first of them is due, in seconds of the server's clock; None for now or unknown."""
    since: float | None = None
    """Since when the first of them waits, in seconds of that clock; None when unknown."""
    last_due: Mapping[str, float] = field(default_factory=dict)
    """When the last one of a batch is due, by batch, as far as that is known."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The downloads with errors of one class."""

    state: State
    """FAILURE, or RETRY for those that wait for a retry."""
    type: str
    count: int
    example: ErrorInfo
    item_id: str
    """Item of the example."""
    items: tuple[str, ...] = ()
    """Items of the first few, that of the example among them."""
    is_refused: bool = False
    """Whether the example was refused when it was enqueued: a retry cannot help."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts of the whole ledger."""

    at: float
    """Time of the counts, in seconds of the server's clock."""
    counters: Mapping[str, int]
    """As those of a batch, and more: ``state:<S>``, ``outcome:<O>``, ``waiting:<reason>``,
    ``errors:<class>``, ``loops:<work>``, ``bytes:<source>:<collection>``, ..."""
    since: Mapping[str, float]
    """Reason, or ``turn``, to the time at which its longest waiting download began to wait."""
    later: int
    """Waiting downloads whose due time is in the future."""
    taped: int
    """Downloads whose file is on tape; one worker polls for all of them."""

    @property
    def states(self) -> dict[str, int]:
        """Return how many downloads are in each state."""
        return counts_by_state(self.counters)

    def parts(self, kind: str) -> dict[str, int]:
        """Return the counters of a kind, by the text after its colon."""
        # The rest may hold colons itself: bytes:s3:PEPS_S2_L1C.
        found = ((name.partition(":"), value) for name, value in self.counters.items())
        return {rest: value for (word, _, rest), value in found if word == kind}
