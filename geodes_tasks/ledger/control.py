"""The verbs of users: pause, resume, retry, cancel, prioritize."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from geodes_tasks.ledger.account import Accounts
from geodes_tasks.ledger.connection import Connection, Part
from geodes_tasks.ledger.figures import as_count, count_unfinished
from geodes_tasks.ledger.source_health import hosts_in
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.states import Reason

LEFT_OVER_BLOCK = 50
"""Downloads of earlier runs that one script ends: some milliseconds of Redis."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The downloads that were taken out of a batch."""

    cancelled: int = 0
    """Downloads that never start, or stop."""
    left: int = 0
    """Downloads that another batch has too: they continue."""

    def __add__(self, other: Withdrawn) -> Withdrawn:
        """Add up."""
        return Withdrawn(self.cancelled + other.cancelled, self.left + other.left)

    def __str__(self) -> str:
        """Return the counts as a sentence."""
        also = f", {self.left} kept for another batch" if self.left else ""
        return f"{plural(self.cancelled, 'download')} cancelled{also}"


class Control(Part):
    """Change what users decide about batches, accounts and sources."""

    def __init__(self, connection: Connection, accounts: Accounts) -> None:
        """Take the part that owns the pauses of accounts; sends nothing."""
        super().__init__(connection)
        self._accounts = accounts

    def begin_run(self, broker_keys: Sequence[str], wanted: Sequence[str] = ()) -> list[str]:
        """Begin a new run on a private server where nothing else runs; proofs of files are kept.

        Nothing starts what earlier runs left unfinished. :meth:`end_left_overs` ends it, and so
        does admission where the new run enqueues it again.

        Args:
            broker_keys: Keys of the broker to remove.
            wanted: Batches of earlier runs that this run continues. So it does with those of
                :meth:`keep`, and with what was enqueued or retried between two runs.

        Returns:
            The batches that it continues.
        """
        with self._connection.commands() as redis:
            if wanted:
                redis.sadd(self._key("wanted"), *wanted)
            redis.set(self._key("run"), "on")
            accounts = redis.smembers(self._key("accounts"))
            names = redis.zrange(self._key("batches"), 0, -1)
            pipeline = redis.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(self._key("batch", name))
            found = dict(zip(names, pipeline.execute(), strict=True))
            continued = redis.smembers(self._key("wanted")) | {
                name
                for name, counters in found.items()
                if "is_kept" in counters and count_unfinished(counters)
            }
            others = {name: found[name] for name in names if name not in continued}
            self._set_aside(others, accounts)
            for account in accounts:
                self._accounts.reset(account)
                # Interrupted here, recovery finds that these messages are lost.
                sent = self._key("account", account, "sent")
                while ids := redis.zrange(sent, 0, LEFT_OVER_BLOCK - 1):
                    self._connection.run(
                        "requeue_downloads", f"account:{account}:sent", "inf", *ids
                    )
                self._requeue_refused(account)
            for batch in continued:
                self._connection.run("rejoin_rings", batch)
            hosts = redis.hget(self._key("sources"), "hosts")
            redis.delete(self._key("sources"))
            if hosts:
                redis.hset(self._key("sources"), "hosts", hosts)
            ended = "wanted", "workers", "slots", "slots_of", "recoverer", *broker_keys
            redis.unlink(*map(self._key, ended))
        return sorted(continued)

    def keep(self, batch: str) -> None:
        """Let all runs on a private server continue a batch until it is over, for its handle."""
        key = self._key("batch", batch)
        with self._connection.commands() as redis:
            if redis.exists(key):
                redis.hset(key, "is_kept", "1")

    def _set_aside(
        self, batches: Mapping[str, Mapping[str, str]], accounts: Collection[str]
    ) -> None:
        """Mark batches, given with their counters, as of earlier runs: nothing in them starts."""
        if not batches:
            return
        with self._connection.commands() as redis:
            hosts = hosts_in(redis.hgetall(self._key("sources")))
            lists = [one + s3 for one in (GEODES, *hosts) for s3 in ("", f"+{S3}")] + [S3]
            pipeline = redis.pipeline(transaction=False)
            for batch, counters in batches.items():
                if count_unfinished(counters):
                    pipeline.hsetnx(self._key("left_over"), batch, "-inf")
                for account in accounts:
                    keys = [self._key("batch", batch, "ready", one, account) for one in lists]
                    pipeline.unlink(*keys)
            pipeline.sadd(self._key("earlier"), *batches)
            pipeline.execute()

    def end_run(self) -> None:
        """End the run of a private server: what is enqueued or retried now is for the next one."""
        with self._connection.commands() as redis:
            redis.set(self._key("run"), "off")

    def end_left_overs(self, most: int = LEFT_OVER_BLOCK) -> bool:
        """End a block of the downloads that earlier runs left unfinished.

        Interrupted anywhere, the same call continues. A shared ledger has none.

        Args:
            most: Number of downloads that the call visits.

        Returns:
            Whether more are left.
        """
        left_over = self._key("left_over")
        with self._connection.commands() as redis:
            batches = redis.hgetall(left_over)
            for batch, last in list(batches.items())[:1]:
                # By score, not by rank: downloads leave the batch when the new run enqueues them.
                key = self._key("batch", batch, "downloads")
                rows = redis.zrangebyscore(key, last, "+inf", 0, most, withscores=True)
                ids = [identifier for identifier, _ in rows]
                if is_last := len(rows) < most:
                    del batches[batch]
                else:
                    # Two may have one score: the others with the last one end in this block too.
                    ids += redis.zrangebyscore(key, rows[-1][1], rows[-1][1])
                self._connection.run("end_left_overs", *ids)
                if is_last:
                    redis.hdel(left_over, batch)
                else:
                    redis.hset(left_over, batch, f"({rows[-1][1]}")
        return bool(batches)

    def cancel(self, downloads: Sequence[str]) -> int:
        """Cancel downloads: running ones stop at their next renewal. Return how many."""
        return self.withdraw("", downloads).cancelled

    def withdraw(self, batch: str, downloads: Sequence[str]) -> Withdrawn:
        """Cancel downloads that only this batch has; those of another too only leave this one."""
        answer = (
            self._connection.run("cancel_downloads", batch, *downloads) if downloads else (0, 0)
        )
        return Withdrawn(*map(int, answer))

    def resume_account(self, account: str) -> bool:
        """Resume an account: what its key was refused for starts first.

        Return whether it was paused.
        """
        was_paused = self._accounts.resume(account)
        self._requeue_refused(account)
        return was_paused

    def _requeue_refused(self, account: str) -> None:
        """Put the downloads of an account that wait for its key in front of its queue."""
        waiting = f"since:{Reason.AUTH}"
        with self._connection.commands() as redis:
            # Each goes in front of the one before: the first to be refused starts first.
            ids = redis.zrevrange(self._key(waiting), 0, -1)
            pipeline = redis.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hget(self._key("download", identifier), "account")
            owners = pipeline.execute(raise_on_error=False)
        mine = [one for one, owner in zip(ids, owners, strict=True) if owner == account]
        for first in range(0, len(mine), LEFT_OVER_BLOCK):
            block = mine[first : first + LEFT_OVER_BLOCK]
            self._connection.run("requeue_downloads", waiting, "inf", *block)

    def retry(self, downloads: Sequence[str]) -> int:
        """Retry downloads that failed, were cancelled or wait. Return how many."""
        return int(self._connection.run("retry_downloads", *downloads)) if downloads else 0

    def pause_account(self, account: str, why: str) -> bool:
        """Pause an account for all sources. Return whether no user had paused it before."""
        return self._accounts.pause(account, why, by_hand=True)

    def pause(self, kind: str, name: str, why: str) -> bool:
        """Pause a ``batch`` or a ``source``: nothing new of it starts. Return if it was running."""
        with self._connection.commands() as redis:
            return bool(redis.hsetnx(self._key("holds"), f"{kind}:{name}", why))

    def resume(self, kind: str, name: str) -> bool:
        """Resume a batch or a source. Return whether it was paused."""
        with self._connection.commands() as redis:
            was_paused = bool(redis.hdel(self._key("holds"), f"{kind}:{name}"))
        if kind == "batch":
            self._connection.run("rejoin_rings", name)
        return was_paused

    def pauses(self) -> dict[tuple[str, str], str]:
        """Return the reason of each pause of a batch or a source, by kind and name."""
        with self._connection.commands() as redis:
            found = redis.hgetall(self._key("holds"))
        parted = ((field.partition(":"), why) for field, why in found.items())
        # Names of batches may hold a colon; kinds do not.
        return {(kind, name): why for (kind, _, name), why in parted}

    def prioritize(self, batch: str, priority: int = 0, weight: int = 1) -> None:
        """Set which batches start before others, and how many turns a batch gets.

        Args:
            batch: Its name; it need not exist yet.
            priority: No download of a lower one starts while a higher one has any ready.
            weight: Its turns for one turn of a batch of weight 1 and the same priority.
        """
        rank = {"priority": priority, "weight": weight}
        with self._connection.commands() as redis:
            before = redis.hget(self._key("batch", batch), "priority")
            redis.hset(self._key("batch", batch), mapping=rank)
        if as_count(before) != priority:
            self._connection.run("rejoin_rings", batch)
