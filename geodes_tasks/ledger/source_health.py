"""The health of sources and hosts: which are out of reach, and which some worker can use.

If one cannot be reached, one worker finds out, and all workers leave it alone for a while. Then one
download tries whether it is back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.figures import as_number
from geodes_tasks.model.asset import GEODES, S3


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

    def fields(self, source: str, worked: float, now: float) -> dict[str, object]:
        """Return the fields of a source that change; it gave a file last at ``worked``."""
        fields: dict[str, object] = {f"offered:{source}": now} if self.offered else {}
        if self.shun == 0:
            fields |= dict.fromkeys((f"{one}:{source}" for one in ("until", "why", "avoid")), "")
            fields[f"worked:{source}"] = now
        elif self.shun and not (self.fleet and now - worked < self.shun):
            fields |= {f"until:{source}": now + self.shun, f"wait:{source}": self.shun}
            fields |= {f"avoid:{source}": now + max(self.avoid, self.shun)}
            fields[f"why:{source}"] = self.why
        return fields


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
        key = self._key("sources")
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            pipeline.time()
            pipeline.hgetall(key)
            (seconds, microseconds), known = pipeline.execute()
            now, fields = seconds + microseconds / 1e6, dict[str, object]()
            for source, one in news.items():
                worked = as_number(known.get(f"worked:{source}"))
                fields |= one.fields(source, worked, now)
            if fields:
                redis.hset(key, mapping=fields)
        known |= {name: str(value) for name, value in fields.items()}
        return {
            source: SourceState(
                max(as_number(known.get(f"avoid:{source}")) - now, 0.0),
                known.get(f"why:{source}", ""),
            )
            for source in (S3, GEODES, *hosts_in(known))
        }

    def ready_on_s3(self, batch: str, account: str) -> int:
        """Return the number of ready downloads of a batch that S3 serves, if a worker can use it.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            if not redis.hexists(self._key("sources"), f"offered:{S3}"):
                return 0
            # The lists of keys.lua: what only the portal serves has one of its own.
            lists = [(batch, "ready", sources, account) for sources in ("s3", "geodes+s3")]
            return sum(redis.llen(self._key("batch", *names)) for names in lists)

    def ready_on(self, sources: Collection[str], batch: str, account: str) -> int:
        """Return the number of ready downloads of a batch that only these sources serve now.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            known = redis.hgetall(self._key("sources"))
            lists = [GEODES, *hosts_in(known)] if GEODES in sources else []
            # Workers that can use S3 report that when they start.
            is_offered = f"offered:{S3}" in known or not redis.exists(self._key("workers"))
            if S3 in sources or not is_offered:
                lists += [f"{one}+{S3}" for one in lists]
            lists += [S3] if S3 in sources else []
            hosts = (GEODES, *hosts_in(known))
            every = [S3, *hosts, *(f"{one}+{S3}" for one in hosts)]
            pipeline = redis.pipeline(transaction=False)
            for one in every:
                pipeline.llen(self._key("batch", batch, "ready", one, account))
            lengths = dict(zip(every, pipeline.execute(), strict=True))
        # A closed list may hold what another batch started since: it counts where it is the last.
        if any(lengths[one] for one in every if one not in lists):
            return 0
        return sum(lengths[one] for one in lists)

    def outages(self) -> dict[str, float]:
        """Return the sources and hosts that are out of reach, with the time of the next try.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            known = redis.hgetall(self._key("sources"))
        untils = {name: known.get(f"until:{name}") for name in (GEODES, S3, *hosts_in(known))}
        return {name: as_number(until) for name, until in untils.items() if until}


def hosts_in(sources: Mapping[str, str]) -> list[str]:
    """Return the hosts other than portal and datalake, from the fields of ``sources``."""
    return sorted(sources.get("hosts", "").split("\n")[:-1])
