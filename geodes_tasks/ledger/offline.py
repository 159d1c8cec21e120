"""The side of the ledger that waits for the portal to say something: files on tape, quota left.

What waits costs no request of its own. One worker of the fleet at a time asks for all, and writes
down what it heard.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.dispatch import UNREADABLE
from geodes_tasks.model.asset import Asset

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK_SECONDS = 60.0
"""The right to ask lasts so long after each answer; a dead poller is replaced then."""
NOT_SAID, NO_QUOTA = -1, -2
"""In the place of a number: the portal does not say how much is left; there is no quota."""


@dataclass(slots=True)
class TapeAnswer:
    """What the portal says of some files on tape, by the id of their download."""

    online: list[str] = field(default_factory=list)
    """The copy that expires first comes first."""
    offline: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """It does not say: each asks for its file itself, now and then."""


class OfflineFiles(Part):
    """Who waits for the portal, and what it said."""

    def begin(self, account: str, worker: str) -> list[str]:
        """Ask for the right to ask; gives the downloads to ask for when it is time and granted."""
        found: list[str] = self._connection.run("tape_begin", account, worker, ASK_SECONDS)
        return found

    def answer(self, account: str, worker: str, answer: TapeAnswer, wait_s: float) -> int:
        """Write an answer down: what is online goes on, before everything else.

        Args:
            account: Whose downloads.
            worker: Who asked.
            answer: What was said.
            wait_s: After so long a download that nothing was said of asks for its file itself;
                twice as long each further time.

        Returns:
            How many go on; -1 when another worker has the right to ask by now.
        """
        said = {
            # The last one put at the head of the queue is the first to go.
            "online": answer.online[::-1],
            "offline": answer.offline,
            "unknown": answer.unknown,
            "wait": wait_s,
        }
        return int(
            self._connection.run("tape_answer", account, worker, ASK_SECONDS, json.dumps(said))
        )

    def end(self, account: str, worker: str, first_s: float, longest_s: float, came: int) -> None:
        """Give the right back: asked again later each time, soon when something came."""
        self._connection.run("tape_end", account, worker, first_s, longest_s, came)

    def assets(self, downloads: Sequence[str]) -> dict[str, Asset]:
        """Return what the downloads are to fetch, without those forgotten or damaged meanwhile."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for identifier in downloads:
                pipeline.hget(self._connection.key("download", identifier), "spec")
            specs = pipeline.execute(raise_on_error=False)
        found: dict[str, Asset] = {}
        for identifier, spec in zip(downloads, specs, strict=True):
            with contextlib.suppress(*UNREADABLE):
                found[identifier] = Asset.from_dict(json.loads(spec))
        return found
