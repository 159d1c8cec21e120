"""The prices of sets of members: ranges or whole archives, bytes and requests, before a run.

The directories of up to ``MOST_READ`` archives are read, of a longer list a sample spread evenly
over it; the ledger keeps them, so that the workers need not request them again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from geodes_tasks.client import direct_download
from geodes_tasks.errors import (
    AccountError,
    ConfigError,
    GeodesTasksError,
    NoMemberError,
    QuotaError,
    SourceUnavailableError,
    SourceUnreachableError,
    UnreachableError,
)
from geodes_tasks.ledger import Cost, Ledger, Request
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.results import Proof
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer.callbacks import NoCallbacks
from geodes_tasks.transfer.fallback import Source
from geodes_tasks.transfer.remote_archive import SetFacts, facts_of

MOST_READ = 200
"""Number of directories that are read before a run, at most: two seconds from S3."""
MOST_COUNTED = 10
"""Number of these for which a request counts against a quota, where one archive matches."""
READING_S, AT_ONCE = 10.0, 8
"""Seconds for which directories are read, at most, and requests that are under way together."""


class MemberPrices:
    """Price sets of members, by the directories of some of their archives."""

    def __init__(self, settings: Config, ledger: Ledger | None) -> None:
        """Take the settings and the ledger that keeps directories; nothing is requested yet."""
        self._settings, self._ledger = settings, ledger
        self._transports = direct_download.transports(settings)
        self._facts: dict[str, SetFacts] = {}
        """Facts of the sets whose directory was read, by the id of the download."""
        self._read_bytes = self._wanted_bytes = self._ranges = 0
        """Bytes of archives whose directories were read; bytes and ranges of members in them."""
        self._budget = _Budget(settings, ledger)

    def read(self, requests: Sequence[Request], *, is_whole: bool = True) -> None:
        """Read directories of sets that are to be fetched.

        Args:
            requests: The sets.
            is_whole: Whether these are all of the list.

        Raises:
            ConfigError: a pattern matches no member of any archive.
        """
        sources = {one.download_id: source for one in requests if (source := self._source(one))}
        ranged = [one for one in requests if one.download_id in sources]
        count = min(len(ranged), MOST_READ)
        sample = [ranged[at * len(ranged) // count] for at in range(count)]
        self._budget.left = MOST_COUNTED
        # The first alone: a portal without ranges, or a key that is refused, costs one request.
        self._read_all(sample[:1], sources)
        self._read_all(sample[1:], sources)
        missing = self._unmatched(sample)
        if missing and self._ledger is not None:
            # Nothing matches so far: more requests now spare as many fruitless downloads.
            self._budget.left = MOST_READ
            self._read_all([one for one in sample if one.download_id not in self._facts], sources)
            missing = self._unmatched(sample)
        is_proven = len(self._facts) == len(sample) and len(ranged) == len(requests)
        if missing and is_proven and (is_whole or len(sample) == MOST_READ):
            raise self._no_match(sample[0], min(missing), len(requests))

    def cost(self, request: Request, proof: str | None = None) -> Request:
        """Return a set with its cost: read, estimated, or that of the whole archive.

        Args:
            request: The set.
            proof: Of its folder, where the ledger knows the set as complete.
        """
        asset, size = request.asset, request.asset.size_bytes or 0
        if proof is not None:
            return replace(request, cost=Cost(Proof.parse(proof).size_bytes))
        source = self._source(request)
        if source is None:
            return replace(request, cost=Cost(size))
        # A directory that the ledger keeps is not requested again.
        is_kept = self._ledger is not None and asset.checksum is not None
        facts = self._facts.get(request.download_id)
        if facts is not None:
            requests = facts.ranges + (0 if is_kept else 1)
            return replace(request, cost=Cost(facts.fetched_bytes, requests, by_ranges=True))
        requests, share = 2, 1.0
        if self._facts:
            requests = 1 + math.ceil(self._ranges / len(self._facts))
            share = self._wanted_bytes / max(self._read_bytes, 1)
        estimate = Cost(math.ceil(size * share), requests, by_ranges=True, is_estimate=True)
        return replace(request, cost=estimate)

    def _source(self, request: Request) -> Source | None:
        """Return the source that gives a set by ranges; None where the archive is fetched whole."""
        asset = request.asset
        name = next((one for one in self._transports if one in asset.hrefs), None)
        if name is None or not asset.is_ranged(name):
            return None
        transport, href = self._transports[name], asset.hrefs[name]
        return Source(name, transport, href) if transport.serves_ranges(href) else None

    def _read_all(self, sample: Sequence[Request], sources: Mapping[str, Source]) -> None:
        """Read directories, several at a time, for ``READING_S`` at most."""
        with ThreadPoolExecutor(min(AT_ONCE, self._settings.max_concurrent)) as pool:
            reads = {pool.submit(self._read, one, sources[one.download_id]): one for one in sample}
            try:
                for read in as_completed(reads, timeout=READING_S):
                    if (facts := read.result()) is not None:
                        self._facts[reads[read].download_id] = facts
                        self._read_bytes += reads[read].asset.size_bytes or 0
                        self._wanted_bytes += facts.fetched_bytes
                        self._ranges += facts.ranges
            except TimeoutError:
                pass
            finally:
                for read in reads:
                    read.cancel()

    def _read(self, request: Request, source: Source) -> SetFacts | None:
        directories = self._ledger.directories if self._ledger is not None else None
        name = Path(request.path).name
        try:
            return facts_of(request.asset, name, source, self._budget, directories)
        except GeodesTasksError as error:
            # The worker meets the same error, and reports it with the item.
            self._budget.refused(source.name, error)
            return None

    def _unmatched(self, sample: Sequence[Request]) -> set[str]:
        """Return the patterns that match no member of the archives read so far."""
        patterns = set(sample[0].asset.members) if sample else set()
        return patterns.intersection(*(one.unmatched for one in self._facts.values()))

    def _no_match(self, request: Request, pattern: str, count: int) -> ConfigError:
        there = self._facts[request.download_id].there
        read = len(self._facts)
        number = f"{count:,}" if read == count else f"{read:,} that were read of {count:,}"
        problem = (
            f"{pattern!r} matches no member of the archives ({number}); "
            f"{request.asset.title} has {there}"
        )
        return ConfigError("--members", problem, NoMemberError.remedy)


class _Budget(NoCallbacks):
    """Allows requests for directories, and counts those to the portal against its quota."""

    def __init__(self, settings: Config, ledger: Ledger | None) -> None:
        self._settings, self._ledger = settings, ledger
        self.left = 0
        """Number of requests to the portal that may still be spent."""
        self._closed: set[str] = set()
        self._lock = threading.Lock()

    def before_open(self, source: str) -> None:
        """Allow one request, or raise QuotaError; nothing waits for a quota here."""
        with self._lock:
            refused = source in self._closed
            if source == GEODES and self._settings.quota is not None and not refused:
                self.left -= 1
                refused = self.left < 0 or not self._may_spend()
        if refused:
            raise QuotaError(source, "no request is spent on a directory now", None, True)

    def refused(self, source: str, error: GeodesTasksError) -> None:
        """Send no more requests to a source that cannot be reached, or refuses the account."""
        is_whole = isinstance(error, SourceUnavailableError) and error.whole
        if is_whole or isinstance(error, UnreachableError | SourceUnreachableError | AccountError):
            self._closed.add(source)

    def _may_spend(self) -> bool:
        if self._ledger is None:
            return True
        account, name = self._ledger.account, self._settings.account
        return not account.portal_pause(name) and not account.spend(name).wait_s
