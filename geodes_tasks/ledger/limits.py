"""The limits of an account and of its leases, as the settings of a worker have them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from geodes_tasks.errors import QuotaError
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.formatting import plural
from geodes_tasks.settings.config import Config


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold what an account may do at once, as the settings of the caller have it."""

    concurrent: int = 4
    """Downloads under way in the whole fleet."""
    quota_count: int = 0
    """Requests to the portal in any window; 0 is no quota."""
    quota_seconds: float = 0.0
    lease_seconds: float = 60.0
    max_attempts: int = 8
    window: int = 256
    """Messages on their way at once, at least; the rest stays in the ledger until its turn."""
    portal_url: str = ""
    """Address of the portal: what another host serves does not wait for the portal."""

    @classmethod
    def of(cls, settings: Config) -> Limits:
        """Return the limits of the settings."""
        quota = settings.quota
        return cls(
            concurrent=settings.max_concurrent,
            quota_count=quota.count if quota else 0,
            quota_seconds=quota.seconds if quota else 0.0,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            portal_url=settings.portal_url,
        )

    @property
    def counted_seconds(self) -> float:
        """Return the seconds for which a request counts: a little more than at the portal."""
        return self.quota_seconds + min(self.quota_seconds / 20, 2.0)

    @property
    def register_seconds(self) -> float:
        """Return the seconds between two times that a worker registers."""
        return min(max(self.lease_seconds / 4, 0.5), 5.0)

    def used_up(self, href: str, wait_s: float) -> QuotaError:
        """Return the error for a request that the quota of the settings does not allow now."""
        used = f"{plural(self.quota_count, 'download')} in the last {self.quota_seconds:g} s"
        return QuotaError(href, used, wait_s, True)

    @classmethod
    def parse(cls, text: str | None) -> Limits | None:
        """Parse the form of ``str(limits)``; None for any other text."""
        try:
            return cls(**jsontext.parsed(text or ""))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        """Return the form that workers publish."""
        return jsontext.compact(asdict(self))

    def args(self) -> tuple[int, int, int, float]:
        """Return the limits in the order in which scripts read them."""
        return self.window, self.concurrent, self.quota_count, self.counted_seconds
