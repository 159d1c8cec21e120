"""How the stand-in behaves when no fault says otherwise: every doubtful fact is a switch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.standin.modes import BadKey, RangeBehaviour


class Counts(StrEnum):
    """Where a search answer says how much matched."""

    CONTEXT = "context"
    """In ``context``, as observed."""
    NUMBERS = "numbers"
    """In ``numberMatched`` and ``numberReturned``, as newer back ends do."""
    BOTH = "both"
    """In both places."""
    NONE = "none"
    """Nowhere."""


@dataclass
class Config:
    """Switches; they may be changed while the stand-in runs."""

    rate: float | None = None
    """Speed of each download in bytes a second; None for no limit."""
    latency_s: float = 0.0
    """Seconds before the first byte of a download."""
    range: RangeBehaviour = RangeBehaviour.ERROR_500
    """What a ``Range`` request gets."""
    bad_key: BadKey = BadKey.LOOP
    """What a wrong key gets; the loop is what users report."""
    missing_key: BadKey = BadKey.UNAUTHORIZED
    """What a download without any key gets."""
    max_open: int | None = None
    """Downloads a key may have open at a time; one more gets 429."""
    quicklook_scope_needed: bool = True
    """Whether a quicklook address without ``scope`` and without a key gets 403."""
    availability_status: int | None = None
    """Status with which ``/availability`` refuses every question; None answers them."""
    bulk_status: int | None = None
    """The same for ``/fastavailability``."""
    quota_status: int | None = None
    """The same for the question for the quota left."""
    quota_says: int | None = None
    """The number that this question always gets; None is what is really left."""
    always_available: bool = False
    """Whether both call every file online, on tape or not."""
    availability_cap: int = 100
    """Products one ``/fastavailability`` request may name; more get 400."""
    page_limit: int = 80
    """Items on a page at most."""
    page_limit_error: bool = False
    """Whether asking for more gets 400 instead of a shorter page."""
    stable_order: bool = False
    """Whether an unsorted search keeps its order from page to page."""
    several_collections: bool = False
    """Whether naming two or more ``collections`` finds anything."""
    matched_grows: bool = False
    """Whether the number matched grows by one from page to page."""
    search_window: int = 10_000
    """Page times limit at most; more gets 400, as Elasticsearch does it."""
    page_ignored: bool = False
    """Whether every page is the first one."""
    page_overlap: int = 0
    """Items of the page before that each page repeats."""
    items_withheld: int = 0
    """Items at the end of each search that are counted and on no page."""
    counts: Counts = Counts.CONTEXT
    """Where a search answer says how much matched."""
    failing_page: int | None = None
    """Page whose next request gets one 500."""
    search_latency_s: float = 0.0
    """Seconds before a search answers."""
    search_rate: int | None = None
    """Searches in one second at most; more get 429."""

    def change(self, **values: Any) -> None:
        """Set several switches by name; choices may be given as their plain values.

        Raises:
            AttributeError: there is no switch of that name.
        """
        choices = {
            "range": RangeBehaviour, "bad_key": BadKey, "missing_key": BadKey, "counts": Counts,
        }  # fmt: skip
        for name, value in values.items():
            getattr(self, name)
            setattr(self, name, choices[name](value) if name in choices else value)


class Clock:
    """The stand-in's own time, which can be pushed forward."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> float:
        """Return Unix seconds, plus what was pushed."""
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Push the time forward: quota windows reopen, tapes finish."""
        self._ahead_s += seconds
