"""What the fleet knows of its sources: which are out of reach, and which a worker can use.

A datalake out of reach is found out by one worker and left alone by all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.ledger.connection import Part

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class News:
    """What one process found out about a source."""

    shun: float | None = None
    """Seconds for which it is not to be tried first; 0: it works."""
    why: str = ""
    offered: bool = False
    """This worker can use it."""

    def to_dict(self) -> dict[str, object]:
        """Return what the script reads; without what there is no news of."""
        said: dict[str, object] = {"offered": True} if self.offered else {}
        return said if self.shun is None else said | {"shun": self.shun, "why": self.why}


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the fleet knows of a source now."""

    shunned_s: float = 0.0
    """Seconds for which it is still not to be tried first."""
    why: str = ""


class SourceHealth(Part):
    """Ask and tell what is known of sources."""

    def exchange(self, news: Mapping[str, News]) -> dict[str, SourceState]:
        """Record what is new, and return what all workers together know.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        said = {source: one.to_dict() for source, one in news.items()}
        answer = self._connection.run("sources", json.dumps(said))
        rows = zip(*(iter(answer),) * 3, strict=True)
        return {source: SourceState(float(rest), why) for source, rest, why in rows}
