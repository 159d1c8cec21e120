"""Files on tape: which downloads wait for one, and which worker polls the portal for all.

A waiting download sends no request of its own. One worker at a time polls for all of them
and records the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.figures import as_count, as_number

ASK_SECONDS = 60.0
"""The seconds that the right to poll lasts after an answer; then a dead poller is replaced."""
BLOCK = 1000
"""The number of downloads read in one round trip."""
MOST_DOUBLED, LONGEST_WAIT_S = 12, 86_400.0
"""Times that a wait is doubled, and its seconds, at most."""
NOT_SAID, NO_QUOTA = -1, -2
"""Instead of a number of requests left: the portal names none; it has no quota."""


@dataclass(slots=True)
class TapeAnswer:
    """The portal's answer about files on tape, by the ids of their downloads."""

    online: list[str] = field(default_factory=list)
    """On disk again; the copy that expires first comes first."""
    offline: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Not in the answer: each requests its file itself, now and then."""


class OfflineFiles(Part):
    """Poll for files on tape on behalf of all downloads."""

    def begin(self, account: str, worker: str) -> list[str]:
        """Claim the right to poll; return the downloads to poll for, none when refused or early.

        Of two workers that claim it at the same moment, the answer of the later one is recorded.
        """
        now, poll = self._connection.server_time(), self._key("account", account, "poll")
        found: list[str] = []
        with self._connection.commands() as redis:
            next_time, holder, till = redis.hmget(poll, "next", "holder", "till")
            is_taken = holder not in (None, worker) and as_number(till) > now
            paused = redis.hget(self._key("account", account), "paused_until") == "resume"
            if is_taken or paused or as_number(next_time) > now:
                return []
            key = self._key("account", account, "tape")
            while block := redis.zrange(key, len(found), len(found) + BLOCK - 1):
                found += block
            if found:
                redis.hset(poll, mapping={"holder": worker, "till": now + ASK_SECONDS})
        return found

    def answer(self, account: str, worker: str, answer: TapeAnswer, wait_s: float) -> int:
        """Record an answer: files that are online start before all others.

        Args:
            account: The account of the downloads.
            worker: The worker that polled.
            answer: The portal's answer.
            wait_s: Seconds after which a download that is not in the answer requests its file
                itself; doubled each further time.

        Returns:
            The number that start; -1 when another worker has the right to poll by now.
        """
        now, poll = self._connection.server_time(), self._key("account", account, "poll")
        with self._connection.commands() as redis:
            if redis.hget(poll, "holder") != worker:
                return -1
            redis.hset(poll, "till", now + ASK_SECONDS)
            tape = self._key("account", account, "tape")
            tries = self._tries(tape, [*answer.online, *answer.unknown, *answer.offline])
            pipeline = redis.pipeline()
            for identifier in (one for one in answer.offline if tries.get(one, 0) > 1):
                pipeline.hset(self._key("download", identifier), "gone", 1)
            # Twice the portal said that it was online, and it was not: it asks for its file later.
            online = [one for one in answer.online if tries.get(one, 0) <= 1]
            late = {*answer.online, *answer.unknown} - {*online}
            for identifier in late & tries.keys():
                times = min(tries[identifier] or 1, MOST_DOUBLED)
                due = f"{now + min(wait_s * 2 ** (times - 1), LONGEST_WAIT_S):.3f}"
                pipeline.zadd(self._key("due"), {identifier: due})
                pipeline.hset(self._key("download", identifier), "due", due)
                pipeline.zrem(tape, identifier)
            pipeline.execute()
        # Each goes to the head of the queue: the last one starts first.
        waiting = f"account:{account}:tape"
        return int(self._connection.run("requeue_downloads", waiting, now, *online[::-1]))

    def _tries(self, tape: str, downloads: Sequence[str]) -> dict[str, int]:
        """Return how many times each download found its file offline, of those still on tape."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for identifier in downloads:
                pipeline.zscore(tape, identifier)
                pipeline.hmget(self._key("download", identifier), "state", "gone")
            found = pipeline.execute(raise_on_error=False)
        rows = zip(downloads, found[::2], found[1::2], strict=True)
        # A row may be an error of the server: the key holds another type.
        return {
            one: as_count(row[1])
            for one, since, row in rows
            if since is not None and isinstance(row, list) and row[0]
        }

    def end(self, account: str, worker: str, first_s: float, longest_s: float, came: int) -> None:
        """Return the right to poll: the next poll is later each time, soon after ``came`` files."""
        now, poll = self._connection.server_time(), self._key("account", account, "poll")
        with self._connection.commands() as redis:
            holder, last_s = redis.hmget(poll, "holder", "period")
            if holder != worker:
                return
            later_s = min((as_number(last_s) or first_s) * 1.5, longest_s)
            period_s = first_s if came else later_s
            redis.hset(poll, mapping={"period": period_s, "next": now + period_s})
            redis.hdel(poll, "holder", "till")
