"""Keys, the hourly quota, and how many downloads each key has open."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass

from tests.standin.settings import Clock

UNLIMITED = 1_000_000  # what the quota route reports when there is no quota


@dataclass(frozen=True)
class Quota:
    """How many downloads a key may start in a window of time."""

    limit: int = 50
    """Downloads in a window."""
    window_s: float = 3600.0
    """Length of a window in seconds."""
    sliding: bool = False
    """Whether each download counts for a window of its own; else a window opens with the first."""
    completed_only: bool = False
    """Whether only downloads that were sent whole count."""
    status: int = 403
    """Status over quota: 403, 200 with JSON, or 429 in the words of the back end."""


class Accounts:
    """Who may download, and how much each has used."""

    def __init__(self, clock: Clock, keys: set[str]) -> None:
        self.keys = keys
        self.quota: Quota | None = None
        self.open: Counter[str | None] = Counter()
        self._clock = clock
        self._used: defaultdict[str | None, list[float]] = defaultdict(list)
        self._inside: set[int] = set()
        self._lock = threading.Lock()
        self._left = threading.Condition()

    def knows(self, key: str | None) -> bool:
        """Tell whether a key is good; with no key set at all, everyone is welcome."""
        return not self.keys or key in self.keys

    def _used_now(self, key: str | None, quota: Quota) -> list[float]:
        """Return the times that count against a key now; those of closed windows are dropped."""
        now, used = self._clock.now(), self._used[key]
        if quota.sliding:
            used[:] = [at for at in used if now - at < quota.window_s]
        elif used and now - used[0] >= quota.window_s:
            used.clear()
        return used

    def remaining(self, key: str | None) -> int:
        """Return how many downloads a key may still start in this window."""
        quota = self.quota
        if quota is None:
            return UNLIMITED
        with self._lock:
            return max(0, quota.limit - len(self._used_now(key, quota)))

    def admit(self, key: str | None) -> bool:
        """Count a download that starts; False when the quota is used up."""
        quota = self.quota
        if quota is None:
            return True
        with self._lock:
            used = self._used_now(key, quota)
            if len(used) >= quota.limit:
                return False
            if not quota.completed_only:
                used.append(self._clock.now())
            return True

    def complete(self, key: str | None) -> None:
        """Count a download that was sent whole, where only those count."""
        quota = self.quota
        if quota is not None and quota.completed_only:
            with self._lock:
                self._used[key].append(self._clock.now())

    def forget_usage(self) -> None:
        """Open a new window for everyone."""
        with self._lock:
            self._used.clear()

    def enter(self, download: object, key: str | None, limit: int | None) -> bool:
        """Count a download as open; False when the key has as many open as it may.

        A download may have sent its last byte and not be crossed off yet, so a full house
        is given a moment to empty: a client that takes turns is never refused.
        """
        with self._left:
            if limit is not None:
                self._left.wait_for(lambda: self.open[key] < limit, timeout=0.1)
                if self.open[key] >= limit:
                    return False
            self._inside.add(id(download))
            self.open[key] += 1
            return True

    def leave(self, download: object, key: str | None) -> None:
        """Count a download as over, if it was let in at all."""
        with self._left:
            if id(download) in self._inside:
                self._inside.remove(id(download))
                self.open[key] -= 1
                self._left.notify_all()
