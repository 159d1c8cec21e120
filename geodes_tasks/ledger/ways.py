"""What the fleet knows of its sources: which are out, how fast each is, who is served beside.

A datalake out of reach is found out by one worker and left alone by all; speeds are sums of bytes
and seconds that fade, so that an old measurement counts for little.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.errors import LeaseLostError
from geodes_tasks.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.ledger.leases import Claim


@dataclass(slots=True)
class News:
    """What one process found out about a source."""

    bytes: int = 0
    seconds: float = 0.0
    """How long those bytes took."""
    shun: float | None = None
    """For so many seconds it is not to be tried first; 0: it works."""
    why: str = ""
    offered: bool = False
    """This worker can use it."""

    def add(self, received: int, seconds: float) -> None:
        """Count one more transfer."""
        self.bytes += received
        self.seconds += seconds

    def to_dict(self) -> dict[str, object]:
        """Give what the script reads; without what there is no news of."""
        said: dict[str, object] = {"offered": True} if self.offered else {}
        if self.seconds:
            said |= {"bytes": self.bytes, "seconds": round(self.seconds, 3)}
        return said if self.shun is None else said | {"shun": self.shun, "why": self.why}


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the fleet knows of a source now."""

    shunned_s: float = 0.0
    """Not to be tried first for so many seconds more."""
    why: str = ""
    bytes: float = 0.0
    seconds: float = 0.0
    """Both faded: what was measured ten minutes ago counts half."""

    @property
    def rate(self) -> float:
        """Bytes a second of one transfer; 0.0 while nothing is known."""
        return self.bytes / self.seconds if self.seconds else 0.0


class Ways(Store):
    """Ask and tell what is known of sources."""

    def sources(self, news: Mapping[str, News]) -> dict[str, SourceState]:
        """Tell what is new, and hear what all together know.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        said = {source: one.to_dict() for source, one in news.items()}
        answer = self.run("sources", json.dumps(said))
        rows = zip(*(iter(answer),) * 5, strict=True)
        return {
            source: SourceState(float(rest), why, float(received), float(seconds))
            for source, rest, why, received, seconds in rows
        }

    def divert(self, account: str) -> int:
        """Serve beside a paused account what the datalake can give; tells how many were moved.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return int(self.run("divert", account))

    def switch(self, claim: Claim) -> str:
        """Make a download that ran beside its account one of the account's again.

        Returns:
            Empty when it may go on over the portal, else why the account takes nothing more.

        Raises:
            LeaseLostError: the download is another's now.
            LedgerUnavailableError: Redis does not answer.
        """
        why: str = self.run("switch", claim.download_id, claim.token, self.limits.concurrent)
        if why == "lost":
            raise LeaseLostError(claim.download_id)
        return why
