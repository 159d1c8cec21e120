"""Figures that monitors read: waits, failures by class, totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Wait:
    """Downloads that wait for one reason."""

    reason: str
    count: int
    next_due: float | None
    """When the first of them goes on; None when that is not known."""
    since: float | None = None
    """Since when the first of them waits; None when nobody asked, or that is not known."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Downloads with errors of one class."""

    state: State
    """FAILURE, or RETRY for those that are tried again."""
    type: str
    count: int
    example: ErrorInfo
    item_id: str
    """Whose error the example is."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole ledger adds up to."""

    at: float
    """Seconds of the server's clock."""
    counters: Mapping[str, int]
    """As scripts keep them: ``state:<S>``, ``outcome:<O>``, ``waiting:<reason>``, ``bytes_done``,
    ``errors:<class>``, ``bytes:<source>:<collection>``, ..."""
    since: Mapping[str, float]
    """Reason, or ``turn``, to the time since when the first download waits for it."""
    later: int
    """Waiting downloads whose time has not come."""
    taped: int
    """Downloads whose file is on tape; one worker asks for all of them."""

    def parts(self, kind: str) -> dict[str, int]:
        """Give the counters of a kind by what follows its colon."""
        found = ((name.partition(":"), value) for name, value in self.counters.items())
        return {rest: value for (word, _, rest), value in found if word == kind}
