"""The prices of sets of members: ranges or whole archives, bytes and requests, before a run.

The directories of up to ``MOST_READ`` archives are read, of a longer list a sample spread evenly
over it; the ledger keeps them, so that the workers need not request them again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

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
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.remote_archive import SetFacts, facts_of
from geodes_tasks.transports import Source, sources_of

MOST_READ = 200
"""Number of directories that are read before a run, at most: two seconds from S3."""
MOST_COUNTED = 10
"""Number of directories for which requests count against a quota, at most."""
_CLOSING = (UnreachableError, SourceUnreachableError, AccountError)
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
        self._share, self._requests = 1.0, 2
        """Share of an archive that a set has, and requests for it, by these facts."""
        self._budget = _Budget(settings, ledger)

    def read(self, requests: Sequence[Request], *, is_whole: bool = True) -> None:
        """Read directories of sets that are to be fetched.

        Args:
            requests: The sets.
            is_whole: Whether these are all of the list.

        Raises:
            ConfigError: a pattern matches no member of the archives that were read.
        """
        ranged = [(one, source) for one in requests if (source := self._source(one))]
        sample = list[tuple[Request, Source]]()
        for name in self._transports:
            counts = name == GEODES and self._settings.quota is not None
            found = [one for one in ranged if one[1].name == name]
            count = min(len(found), MOST_COUNTED if counts else MOST_READ)
            sample += [found[at * len(found) // count] for at in range(count)]
        # The first alone: a portal without ranges, or a key that is refused, costs one request.
        deadline = time.monotonic() + READING_S
        for some in (sample[:1], sample[1:]):
            self._read_all(some, deadline)
        if facts := list(self._facts.values()):
            self._requests = 1 + math.ceil(sum(one.ranges for one in facts) / len(facts))
            archives = sum(one.archive_bytes for one in facts)
            self._share = sum(one.fetched_bytes for one in facts) / archives
        missing = set(requests[0].asset.members) if requests else set[str]()
        missing = missing.intersection(*(one.unmatched for one in facts))
        are_all_read = len(facts) == len(sample) and len(ranged) == len(requests)
        if missing and are_all_read and is_whole:
            raise self._no_match(sample[0][0], min(missing), len(requests))

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
        size = math.ceil(size * self._share)
        return replace(request, cost=Cost(size, self._requests, by_ranges=True, is_estimate=True))

    def _source(self, request: Request) -> Source | None:
        """Return the source that gives a set by ranges; None where the archive is fetched whole."""
        source = next(iter(sources_of(request.asset, self._transports)), None)
        if source is None or not request.asset.is_ranged(source.name):
            return None
        return source if source.transport.serves_ranges(source.href) else None

    def _read_all(self, sample: Sequence[tuple[Request, Source]], deadline: float) -> None:
        """Read directories, several at a time, until a time of the monotonic clock at most."""
        rest, problems = iter(sample), list[Exception]()

        def run() -> None:
            try:
                for one in rest:
                    self._read(*one)
            except Exception as problem:  # noqa: BLE001 - raised where it is waited for
                problems.append(problem)

        # A pool would wait for its threads, here and at the end of the process.
        count = min(AT_ONCE, self._settings.max_concurrent, len(sample))
        threads = [Thread(target=run, name="directories", daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            # What takes longer is left to the workers.
            self._budget.closed.update(self._transports)
            for transport in self._transports.values():
                for thread in threads:
                    transport.abort(thread.ident or 0)
        if problems:
            raise problems[0]

    def _read(self, request: Request, source: Source) -> None:
        name = Path(request.path).name
        try:
            facts = facts_of(request.asset, name, source, self._budget)
        except GeodesTasksError as error:
            # The worker meets the same error, and reports it with the item.
            is_whole = isinstance(error, SourceUnavailableError) and error.whole
            if is_whole or isinstance(error, _CLOSING):
                self._budget.closed.add(source.name)
        else:
            self._facts[request.download_id] = facts

    def _no_match(self, request: Request, pattern: str, count: int) -> ConfigError:
        there = self._facts[request.download_id].there
        read = len(self._facts)
        number = f"{count:,}" if read == count else f"{read:,} that were read of {count:,}"
        problem = (
            f"{pattern!r} matches no member of the archives ({number}); "
            f"{request.asset.title} has {there}"
        )
        return ConfigError("--members", problem, NoMemberError.remedy)


class _Budget(Callbacks):
    """Allows requests for directories, and counts those to the portal against its quota."""

    def __init__(self, settings: Config, ledger: Ledger | None) -> None:
        self._account = settings.account
        self._ledger = ledger
        self.directories = ledger.directories if ledger is not None else None
        self.closed: set[str] = set()
        """Sources that cannot be reached, refuse the account, or have had their time."""

    def before_open(self, source: str) -> None:
        """Allow one request, or raise QuotaError; nothing waits for a quota here."""
        refused = source in self.closed
        if source == GEODES and self._ledger is not None and not refused:
            account = self._ledger.account
            refused = bool(
                account.portal_pause(self._account) or account.spend(self._account).wait_s
            )
        if refused:
            raise QuotaError(source, "no request is spent on a directory now", None, True)
