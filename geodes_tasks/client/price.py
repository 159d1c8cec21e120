"""The price of a download: files and bytes, from which source, for how long, and free space."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from geodes_tasks.client.member_prices import MemberPrices
from geodes_tasks.client.planning import Planned
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.model.asset import GEODES, PREVIEW_ROUTE, S3
from geodes_tasks.model.formatting import human_bytes, human_seconds, plural
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer.disk import nearest
from geodes_tasks.transports import chosen

HOUR_S = 3600.0
"""The seconds of an hour."""
MOST_PRICED, PRICING_S = 20_000, 10.0
"""Items that are held, and seconds that they are read, at most, for a price before the first one is
admitted; a held plan takes some 4 kB."""
BLOCK = 500
"""The number of downloads that are looked up in one round trip."""


@dataclass(slots=True)
class Price:
    """Files, bytes and requests of downloads, counted one by one."""

    files: int = 0
    present: int = 0
    bytes_total: int = 0
    """Bytes of all files."""
    bytes_to_fetch: int = 0
    """The same without the files that are present."""
    on_s3: int = 0
    """Files to fetch that S3 has."""
    on_hosts: Counter[str] = field(default_factory=Counter)
    """Requests for files to fetch by the host that has them: one a file, more for ranges.

    The portal or another host; no previews.
    """
    on_both: Counter[str] = field(default_factory=Counter)
    """Those of files that S3 has, too."""
    by_ranges: int = 0
    """Archives of which only members are fetched."""
    whole: int = 0
    """Archives that are fetched whole for a set of their members."""
    estimated: int = 0
    """Archives of which only members are fetched, their directory not yet read."""
    unsized: int = 0
    """Files of unknown size; they count as no bytes."""

    def add(self, request: Request, *, is_present: bool) -> None:
        """Count one download."""
        asset, size, cost = request.asset, request.size_bytes, request.cost
        self.files += 1
        self.present += is_present
        self.unsized += not size
        self.bytes_total += size
        if not is_present:
            self.bytes_to_fetch += size
            self.on_s3 += S3 in asset.hrefs
            href = asset.hrefs.get(GEODES, PREVIEW_ROUTE)
            if PREVIEW_ROUTE not in href:
                requests, host = cost.portal_requests if cost else 1, host_of(href)
                self.on_hosts[host] += requests
                self.on_both[host] += requests if S3 in asset.hrefs else 0
            if cost is not None:
                self.by_ranges += cost.by_ranges
                self.whole += not cost.by_ranges
                self.estimated += cost.is_estimate


def host_of(href: str) -> str:
    """Return host and port of an address; no urlsplit, for this is done for a million files."""
    return href.partition("://")[2].partition("/")[0].lower()


@dataclass(slots=True)
class Quote:
    """A price with the settings that decide how long it takes and where it goes."""

    price: Price
    settings: Config
    uses_s3: bool
    """Whether the files that S3 has come from there."""

    @classmethod
    def of(cls, price: Price, settings: Config) -> Self:
        """Return the price for the sources that these settings can use."""
        return cls(price, settings, S3 in chosen(settings))

    @property
    def portal_requests(self) -> int:
        """Return how many requests to the portal count against the quota."""
        return self._requests()[host_of(self.settings.portal_url)]

    def _requests(self) -> Counter[str]:
        return self.price.on_hosts - (self.price.on_both if self.uses_s3 else Counter())

    @property
    def expected_seconds(self) -> float | None:
        """Return the seconds that the quota makes of it; None where no quota is kept."""
        quota = self.settings.quota
        if quota is None:
            return None
        # The first window's requests go out at once.
        used_up = self.portal_requests > quota.count
        return self.portal_requests / quota.count * quota.seconds if used_up else 0.0

    @property
    def bytes_free(self) -> int | None:
        """Return the free bytes of the volume; None where this host does not have the folder."""
        folder = Path(self.settings.download_dir)
        with contextlib.suppress(OSError):
            return shutil.disk_usage(nearest(folder)).free
        return None

    def lines(self) -> Iterator[str]:
        """Yield the price in one line, and a warning when it does not fit."""
        price, quota, free = self.price, self.settings.quota, self.bytes_free
        text = f"{plural(price.files, 'file')}, {human_bytes(price.bytes_total)}"
        if price.unsized:
            text += f" and {price.unsized:,} of unknown size"
        if price.present:
            text += f" ({price.present:,} present, {human_bytes(price.bytes_to_fetch)} to fetch)"
        sources = []
        if self.uses_s3 and price.on_s3:
            sources.append(f"{price.on_s3:,} from S3")
        if self.portal_requests:
            words = "requests to" if price.by_ranges else "from"
            text_of = f"{self.portal_requests:,} {words} the portal"
            if quota is not None and self.expected_seconds:
                window = "an hour" if quota.seconds == HOUR_S else f"in {quota.seconds:g} s"
                text_of += f" at {quota.count} {window} = {human_seconds(self.expected_seconds)}"
            sources.append(text_of)
        if others := self._requests().total() - self.portal_requests:
            sources.append(f"{others:,} from other hosts")
        if sources:
            text += f": {', '.join(sources)}"
        yield text if free is None else f"{text}; {human_bytes(free)} free"
        if price.by_ranges or price.whole:
            ways = {"by ranges": price.by_ranges, "whole": price.whole}
            text = ", ".join(f"{count:,} {way}" for way, count in ways.items() if count)
            if price.estimated:
                read = plural(price.by_ranges - price.estimated, "directory", "directories")
                text += f"; bytes and requests are an estimate from {read}"
            yield f"members of archives: {text}"
        if free is not None and free < price.bytes_to_fetch:
            yield (
                f"warning: it does not fit: {human_bytes(price.bytes_to_fetch)} to fetch, "
                f"{human_bytes(free)} free on the volume of {self.settings.download_dir}. "
                "Free some space, or choose another folder with -o"
            )


def priced(
    planned: Iterable[Planned], ledger: Ledger, settings: Config
) -> tuple[Iterable[Planned], Price | None]:
    """Return plans with their price; None for a list too long, or too slow, to be read first.

    Files that the ledger knows as verified count as present. Nothing is admitted, and no file is
    looked at: admission does that. Sets of members get their cost.

    Raises:
        ConfigError: a pattern of ``--members`` matches nothing in any archive.
    """
    rest, first, deadline = iter(planned), list[Planned](), time.monotonic() + PRICING_S
    is_cut = False
    for one in rest:
        first.append(one)
        is_cut = len(first) > MOST_PRICED or time.monotonic() > deadline
        if is_cut:
            break
    # A file that is named twice is one download.
    wanted = {one.download_id: one for plan in first for one in plan.requests}
    has_sets = any(one.asset.members for one in wanted.values())
    if is_cut and not has_sets:
        return itertools.chain(first, rest), None
    known, ids = dict[str, str](), iter(wanted)
    while block := list(itertools.islice(ids, BLOCK)):
        known |= ledger.retention.proofs(block)
    if has_sets:
        prices = MemberPrices(settings, ledger)
        prices.read([wanted[one] for one in wanted if one not in known], is_whole=not is_cut)
        first = [
            replace(
                plan,
                requests=[prices.cost(one, known.get(one.download_id)) for one in plan.requests],
            )
            for plan in first
        ]
        if is_cut:
            later = (replace(plan, requests=list(map(prices.cost, plan.requests))) for plan in rest)
            return itertools.chain(first, later), None
        wanted = {one.download_id: one for plan in first for one in plan.requests}
    price = Price()
    for identifier, request in wanted.items():
        price.add(request, is_present=identifier in known)
    return first, price
