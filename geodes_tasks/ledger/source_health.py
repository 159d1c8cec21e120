"""The health of sources and hosts: which are out of reach, and which some worker can use.

If one cannot be reached, one worker finds out, and all workers leave it alone for a while. Then one
download tries whether it is back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.figures import as_number


@dataclass(slots=True)
class News:
    """The findings of one process about a source."""

    shun: float | None = None
    """Seconds for which it is not requested; 0 when it works; None without a finding."""
    avoid: float = 0.0
    """Seconds for which it is tried last where another source has the file too."""
    why: str = ""
    fleet: bool = False
    """True to ignore this when the source gave another worker a file within ``shun`` seconds."""
    offered: bool = False
    """True when this worker can use it."""

    def to_dict(self) -> dict[str, object]:
        """Return the form that the script reads: no field without a finding."""
        fields: dict[str, object] = {"offered": True} if self.offered else {}
        if self.shun is None:
            return fields
        avoid = max(self.avoid, self.shun)
        found = {"shun": self.shun, "avoid": avoid, "why": self.why, "fleet": self.fleet}
        return fields | found


@dataclass(frozen=True, slots=True)
class SourceState:
    """The findings of all workers about a source."""

    shunned_s: float = 0.0
    """Seconds for which it is still tried last."""
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
        return {source: SourceState(as_number(rest), why) for source, rest, why in rows}

    def ready_on_s3(self, batch: str, account: str) -> int:
        """Return the number of ready downloads of a batch that S3 serves, if a worker can use it.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            if not redis.hexists(self._key("source", "s3"), "offered"):
                return 0
            # The lists of keys.lua: what only the portal serves has one of its own.
            lists = [(batch, "ready", sources, account) for sources in ("s3", "geodes+s3")]
            return sum(redis.llen(self._key("batch", *names)) for names in lists)

    def outages(self) -> dict[str, float]:
        """Return the sources and hosts that are out of reach, with the time of the next try.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            names = ["geodes", "s3", *sorted(redis.smembers(self._key("hosts")))]
            pipeline = redis.pipeline(transaction=False)
            for name in names:
                pipeline.hget(self._key("source", name), "until")
            found = pipeline.execute()
        return {name: as_number(until) for name, until in zip(names, found, strict=True) if until}
