"""The health of sources: which are out of reach, and which some worker can use.

If S3 cannot be reached, one worker finds out and all workers skip it for a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Part


@dataclass(slots=True)
class News:
    """The findings of one process about a source."""

    shun: float | None = None
    """Seconds for which it is not tried first; 0 when it works; None without a finding."""
    why: str = ""
    offered: bool = False
    """True when this worker can use it."""

    def to_dict(self) -> dict[str, object]:
        """Return the form that the script reads: no field without a finding."""
        fields: dict[str, object] = {"offered": True} if self.offered else {}
        return fields if self.shun is None else fields | {"shun": self.shun, "why": self.why}


@dataclass(frozen=True, slots=True)
class SourceState:
    """The findings of all workers about a source."""

    shunned_s: float = 0.0
    """Seconds for which it is still not tried first."""
    why: str = ""


class SourceHealth(Part):
    """Exchange findings about sources between workers."""

    def exchange(self, news: Mapping[str, News]) -> dict[str, SourceState]:
        """Record new findings, and return those of all workers, by source.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        findings = {source: one.to_dict() for source, one in news.items()}
        answer = self._connection.run("exchange_source_news", json.dumps(findings))
        # A script returns a flat list: source, seconds left, reason, source, ...
        rows = zip(*(iter(answer),) * 3, strict=True)
        return {source: SourceState(float(rest), why) for source, rest, why in rows}
