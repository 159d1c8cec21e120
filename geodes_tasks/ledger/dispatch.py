"""Dispatch: which download is sent next, which are due again, which workers live."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geodes_tasks.errors import LedgerStuckError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.dead_workers import end_dead_leases, remove_dead_workers, sum_slots
from geodes_tasks.ledger.figures import UNREADABLE, as_count, as_number
from geodes_tasks.ledger.key_repair import follow_clock, remove_rubbish
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.version import __version__

SEPARATOR = ":"
"""Between names that a worker publishes; neither an account nor a root can hold it."""

MOST_SENT, MESSAGES = 10_000, 500
"""Downloads with a message on its way that one look for lost ones reads; messages of the broker,
some 2.7 kB each, that are read in one round trip."""
RECOVERY_BLOCK = 50
"""Leases, downloads or workers that one script of recovery touches: some milliseconds of Redis."""

TURN_PERIODS = 1.2
"""Periods of registering after which a worker that recovered is replaced when it is silent: a
little more than one, so that a living one keeps its turn."""
SHORTEST_SILENCE_S, SETTLES_S = 2, 3
"""Seconds without any worker, at least, after which no lease could be renewed (where leases are
short, workers register each half second); seconds for which leases are spared then."""


@dataclass(frozen=True, slots=True, order=True)
class WorkerState:
    """A worker as it registered last."""

    name: str
    slots: int
    seen: float
    """Time of that, in seconds of the server's clock."""
    version: str
    """Version of the package; empty when the worker records none."""
    limits: Limits | None = field(compare=False)
    """The settings it runs with; None before it has published them."""
    closed: str | None = field(compare=False)
    """The folder that it cannot write to; None when it takes work."""


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message to send: the id of a download, and the facts that Flower shows of it."""

    download_id: str
    item_id: str
    title: str
    size_bytes: int | None


def wakeups(answer: Sequence[str]) -> list[Wakeup]:
    """Read the ``id, spec, id, spec, ...`` that the scripts return."""
    found = []
    for identifier, text in zip(answer[::2], answer[1::2], strict=True):
        try:
            spec = jsontext.parsed(text)
            item, title, size = str(spec["item"]), str(spec["title"]), spec["size"]
            found.append(Wakeup(identifier, item, title, None if size is None else int(size)))
        except UNREADABLE:
            # A damaged record gets its message too: the claim ends it by name. Without a message
            # it would wait for ever, and its batch with it.
            found.append(Wakeup(identifier, identifier, "damaged record", None))
    return found


class Dispatch(Part):
    """Release, recover and resend downloads; register workers."""

    def release(self, account: str = "") -> list[Wakeup]:
        """Return the downloads to send messages for now: as many as the window has room for.

        A call of the script reads some hundred downloads at most; where cancelled ones fill a
        list, further calls continue.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        found: list[Wakeup] = []
        while True:
            more, *answer = self._connection.run(
                "release_downloads", account, *self._connection.limits.args()
            )
            found += wakeups(answer)
            if not more:
                return found

    def register(self, worker: str, slots: int) -> bool:
        """Record that a worker lives; return whether it is the one to recover for all now.

        Args:
            worker: Its name.
            slots: Downloads that it runs at once.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with contextlib.suppress(LedgerStuckError):
            return self._register(worker, slots)
        # Another program wrote one of these keys.
        remove_rubbish(self._connection, worker)
        return self._register(worker, slots)

    def _register(self, worker: str, slots: int) -> bool:
        limits, key, recoverer = self._connection.limits, self._key, self._key("recoverer")
        turn = int(1000 * TURN_PERIODS * limits.register_seconds)
        with self._connection.commands() as redis:
            # Each of the two is a transaction: what was seen last is earlier than this time, and of
            # two workers that register at once one recovers.
            pipeline = redis.pipeline()
            pipeline.time()
            pipeline.get(key("looked"))
            pipeline.hget(key("slots_of"), worker)
            (seconds, microseconds), looked, known = pipeline.execute()
            now, last = seconds + microseconds / 1e6, as_number(looked)
            pipeline.set(key("looked"), now)
            if last > 0 and now - last > max(limits.lease_seconds / 2, SHORTEST_SILENCE_S):
                pipeline.set(key("settles"), now + SETTLES_S)
            pipeline.zadd(key("workers"), {worker: now})
            pipeline.hset(key("worker", worker), "version", __version__)
            pipeline.hset(key("slots_of"), worker, slots)
            if is_set_back := last > now + 1:
                # It would expire that much later.
                pipeline.delete(recoverer)
            pipeline.set(recoverer, worker, nx=True, px=turn)
            pipeline.get(recoverer)
            chosen = pipeline.execute()[-1]
            # One that has stopped is no worker any more, one that died is replaced when the key
            # expires. Two that replace it at once both recover, this once: a script does each step.
            is_chosen = chosen == worker or redis.zscore(key("workers"), chosen) is None
            if is_chosen:
                redis.set(recoverer, worker, px=turn)
        if known != str(slots):
            sum_slots(self._connection)
        if is_set_back:
            follow_clock(self._connection, last - now)
        return is_chosen

    def recover(self, worker: str = "", slots: int = 0) -> tuple[int, int]:
        """End the leases of dead workers and wake what is due, in blocks.

        Args:
            worker: Name of a worker that registers first, and recovers only when it is its turn;
                empty to recover at once.
            slots: Downloads that it runs at once.

        Returns:
            How many leases were ended, how many downloads were woken.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        if worker and not self.register(worker, slots):
            return 0, 0
        remove_rubbish(self._connection)
        ended = end_dead_leases(self._connection)
        woken, now = 0, self._connection.server_time()
        with self._connection.commands() as redis:
            while due := redis.zrangebyscore(self._key("due"), "-inf", now, 0, RECOVERY_BLOCK):
                woken += int(self._connection.run("requeue_downloads", "due", now, *due))
        remove_dead_workers(self._connection)
        return ended, woken

    def unregister(self, worker: str) -> None:
        """Remove the registration of a worker.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            redis.zadd(self._key("workers"), {worker: 0})
        remove_dead_workers(self._connection)

    def accounts(self) -> list[str]:
        """Return the names of all accounts."""
        with self._connection.commands() as redis:
            return sorted(redis.smembers(self._key("accounts")))

    def publish(
        self,
        worker: str,
        accounts: Sequence[str],
        process: str = "",
        folders: Sequence[Path] = (),
    ) -> str | None:
        """Record a worker's limits, its folders, and the accounts it has a key for; no key is sent.

        Args:
            worker: Its name.
            accounts: Names of the accounts.
            process: Random id of its process.
            folders: Below which it writes.

        Returns:
            The process that published under this name before; None for no process.
        """
        limits, key = str(self._connection.limits), self._key("worker", worker)
        facts = {
            "accounts": SEPARATOR.join(accounts),
            "limits": limits,
            "process": process,
            "folders": SEPARATOR.join(map(str, folders)),
        }
        with self._connection.commands() as redis:
            before: str | None = redis.hget(key, "process")
            redis.hset(key, mapping=facts)
            redis.set(self._key("limits"), limits)
        return before

    def fleet(self) -> list[WorkerState]:
        """Return the workers that were seen lately, by name."""
        with self._connection.commands() as redis:
            # Without those that are about to be removed (see unregister).
            seen = redis.zrangebyscore(self._key("workers"), "(0", "+inf", withscores=True)
            pipeline = redis.pipeline(transaction=False)
            for name, _ in seen:
                pipeline.hmget(self._key("worker", name), "version", "limits", "closed")
            rows = zip(seen, pipeline.execute(), strict=True)
            slots = redis.hgetall(self._key("slots_of"))
        return sorted(
            WorkerState(
                name, as_count(slots.get(name)), at, version or "", Limits.parse(limits), closed
            )
            for (name, at), (version, limits, closed) in rows
        )

    def published(self, kind: str) -> set[str]:
        """Return all ``accounts`` or ``folders`` that living workers have published."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for worker in redis.zrange(self._key("workers"), 0, -1):
                pipeline.hget(self._key("worker", worker), kind)
            found = pipeline.execute()
        return {one for text in found for one in (text or "").split(SEPARATOR)} - {""}

    def sent(self, account: str, older_than_s: float, most: int = MOST_SENT) -> list[str]:
        """Return the downloads whose message was sent so many seconds ago and never claimed.

        The oldest first, at most so many.
        """
        with self._connection.commands() as redis:
            latest = self._connection.server_time() - older_than_s
            key = self._key("account", account, "sent")
            found: list[str] = redis.zrangebyscore(key, "-inf", latest, 0, most)
            return found

    def resend(self, account: str, older_than_s: float, downloads: Iterable[str]) -> int:
        """Requeue downloads whose message of so many seconds ago is lost. Return how many."""
        left, requeued = list(downloads), 0
        latest, sent = self._connection.server_time() - older_than_s, f"account:{account}:sent"
        for first in range(0, len(left), RECOVERY_BLOCK):
            block = left[first : first + RECOVERY_BLOCK]
            requeued += int(self._connection.run("requeue_downloads", sent, latest, *block))
        return requeued

    def count_loop_failures(self, failures: Mapping[str, int]) -> None:
        """Add failures of background loops to the totals, by what the loop does."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for work, count in failures.items():
                pipeline.hincrby(self._key("totals"), f"loops:{work}", count)
            pipeline.execute()

    def close(self, worker: str, folder: str | None) -> bool:
        """Record the folder that a worker cannot write to; None when it takes work again.

        Return whether that was not recorded before.
        """
        with self._connection.commands() as redis:
            if folder is None:
                return bool(redis.hdel(self._key("worker", worker), "closed"))
            return bool(redis.hset(self._key("worker", worker), "closed", folder))

    def workers(self) -> dict[str, int]:
        """Return the live workers with their slots."""
        return {worker.name: worker.slots for worker in self.fleet()}

    def silence(self, worker: str) -> float | None:
        """Return the seconds since a worker last registered; None for an unknown one.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            seen = redis.zscore(self._key("workers"), worker)
        return None if seen is None else self._connection.server_time() - float(seen)

    def queued_messages(self, queue: str) -> Iterator[str]:
        """Yield the messages in the broker's queue, as stored; one may come twice.

        One that a worker has taken is not among them: it is claimed at once, unless that worker
        died.
        """
        # kombu keeps a queue as a Redis list under the queue's name; the prefix of our keys is its
        # global_keyprefix too. It pushes at the head and takes from the tail, so that a message
        # moves to a later page and none is missed between two.
        for first in itertools.count(0, MESSAGES):
            with self._connection.commands() as redis:
                page = redis.lrange(self._key(queue), first, first + MESSAGES - 1)
            yield from page
            if len(page) < MESSAGES:
                return
