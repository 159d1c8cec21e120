"""The limits of an account: its quota, its one pause, how many downloads run at once."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.figures import as_count, as_number
from geodes_tasks.ledger.leases import Claim
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.ledger.offline import NOT_SAID
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.states import Reason, State
from geodes_tasks.settings.quota import Quota

_PORTAL = "portal_left", "portal_at"
KEPT_CHANGES = 50
"""Number of changes of a concurrency limit that are kept."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the concurrency limit of an account."""

    at: float
    """Seconds of the server's clock."""
    before: int
    places: int
    why: str
    """One sentence."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The answer to a request for quota."""

    wait_s: float = 0.0
    """Seconds until the window moves on; 0.0: one request is spent."""
    request: str = ""
    """Id of the spent request, for :meth:`Accounts.refund`; empty where none is counted."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """The limits and the pause of an account, as they are now."""

    name: str
    paused: str | None
    """Why it is paused; None when it is not."""
    paused_until: float | None
    """When it resumes by itself; None when a user must resume it, or it is not paused."""
    running: int
    concurrent: int
    """Concurrency limit now: downloads under way over the whole fleet, at most; 0: unknown."""
    quota_count: int
    """Requests in any window; 0 is no quota."""
    quota_seconds: float
    quota_left: int
    quota_reopens: float | None
    """When the next request is allowed; None while some are left."""
    most: int = 0
    """Concurrency limit of the settings, in downloads."""
    why: str = ""
    """Why the limit is lower now; empty when it is not."""
    probing: bool = False
    """True while one download at a time tries, as the portal refused for its quota."""
    portal_quota_left: int | None = None
    """Requests left by the portal's last answer; None when it names none, or has no quota."""
    portal_quota_at: float | None = None
    """Time of that answer, in seconds of the server's clock; None without a number."""

    @property
    def quota(self) -> str | None:
        """The setting of the workers: ``50/hour`` or ``off``; None before one has published it."""
        if not self.concurrent:
            return None
        return str(Quota(self.quota_count, self.quota_seconds)) if self.quota_count else "off"


class Accounts(Part):
    """Count, limit and pause the requests of accounts."""

    def pause(
        self,
        account: str,
        why: str,
        seconds: float | None = None,
        probe_s: float | None = None,
        *,
        by_hand: bool = False,
    ) -> bool:
        """Pause an account. Return whether it was not paused so before.

        Args:
            account: Its name.
            why: Shown.
            seconds: Length of the pause; None is until a user resumes it.
            probe_s: Seconds between two probes of the portal; None where the portal did not refuse
                for its quota.
            by_hand: A user paused it: that pauses all sources, and stays until a user resumes it.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        # A script has no None among its arguments: an empty one is none.
        until, probe = ("" if number is None else number for number in (seconds, probe_s))
        words = (1,) if by_hand else ()
        return bool(self._connection.run("pause_account", account, why, until, probe, *words))

    def resume(self, account: str) -> bool:
        """End the pause of an account. Return whether it was paused.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            key = self._key("account", account)
            return bool(redis.hdel(key, "paused", "paused_until", "by_hand", "probe"))

    def reset(self, name: str) -> None:
        """Stop the attempts of an account, and remove all of it but what a user set by hand.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        account = self._key("account", name)

        def clear(pipeline: Any) -> None:
            fields, kept = pipeline.hgetall(account), dict[str, str]()
            if "by_hand" in fields:
                kept = {"by_hand": "1", "paused": fields.get("paused", "")}
                kept["paused_until"] = "resume"
            if "limit_by_hand" in fields:
                kept |= {one: fields.get(one, "") for one in ("limit_by_hand", "places")}
            pipeline.multi()
            # A limit that stays has its reason in the changes.
            parts = ("ring", "poll") if "limit_by_hand" in kept else ("ring", "poll", "changes")
            pipeline.unlink(account, *(f"{account}:{part}" for part in parts))
            if kept:
                pipeline.hset(account, mapping=kept)

        with self._connection.commands() as redis:
            redis.transaction(clear, account)
            report = {"reason": Reason.WORKER_STOPPED, "delay": 0, "counted": True}
            for identifier in redis.zrange(f"{account}:leases", 0, -1):
                token = redis.hget(self._key("download", identifier), "token")
                self._connection.run(
                    "end_attempt",
                    identifier,
                    token or "",
                    jsontext.compact(report),
                    *self._connection.limits.args(),
                )
            redis.unlink(f"{account}:leases")

    def set_limit(self, account: str, number: int | None) -> None:
        """Set the concurrency limit of an account by hand; with None 429 and success move it again.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        most, now = self._connection.limits.concurrent, self._connection.server_time()
        key = self._key("account", account)
        with self._connection.commands() as redis:
            before = min(int(redis.hget(key, "places") or most), most)
            change = {"at": now, "before": before, "places": number or most, "why": "set by hand"}
            pipeline = redis.pipeline()
            # Halving and raising leave a limit alone that has this field (concurrency.lua).
            if number is None:
                pipeline.hdel(key, "places", "ceiling", "limit_by_hand")
            else:
                pipeline.hset(key, mapping={"places": number, "limit_by_hand": 1})
            pipeline.lpush(f"{key}:changes", json.dumps(change))
            pipeline.ltrim(f"{key}:changes", 0, KEPT_CHANGES - 1)
            pipeline.execute()

    def spend(self, account: str) -> Spent:
        """Spend one request of the account's own window; without a window nothing is counted.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        limits, request = self._connection.limits, uuid.uuid4().hex
        if not limits.quota_count:
            return Spent()
        wait = self._connection.run(
            "spend_quota", account, limits.quota_count, limits.counted_seconds, request
        )
        return Spent(wait_s=float(wait)) if wait else Spent(request=request)

    def refund(self, account: str, request: str) -> None:
        """Return to the window a request that never reached the portal.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        key = self._key("account", account)
        with self._connection.commands() as redis:
            was_spent = redis.zrem(f"{key}:spent", request)
            # Another download may have found the window used up. A refusal by the portal stays.
            if was_spent and not redis.hexists(key, "probe"):
                self._end_quota_pause(account)

    def end_probe(self, claim: Claim) -> None:
        """Resume the account: the portal gave its file to the download that probed for quota.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        key = self._key("account", claim.account)
        with self._connection.commands() as redis:
            known = redis.hmget(self._key("download", claim.download_id), "state", "token")
            has_lease = known == [State.STARTED, claim.token]
            if has_lease and redis.hget(key, "probe") == claim.download_id:
                redis.hdel(key, "probe", "probed")
                self._end_quota_pause(claim.account)

    def _end_quota_pause(self, account: str) -> bool:
        """End a pause for the quota before its time. Return whether there was one."""
        key = self._key("account", account)

        def end(pipeline: Any) -> None:
            is_paused = pipeline.hget(key, "paused") == Reason.QUOTA
            pipeline.multi()
            if is_paused:
                pipeline.hdel(key, "paused", "paused_until")

        with self._connection.commands() as redis:
            # WATCH: a user may pause it for another reason meanwhile.
            return any(redis.transaction(end, key))

    def gave_since(self, claim: Claim) -> bool:
        """Check whether the portal gave a file to an attempt that began after this one.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            accepted = redis.hget(self._key("account", claim.account), "accepted")
            began = redis.hget(self._key("download", claim.download_id), "started")
        return bool(accepted and began) and float(accepted) > float(began)

    def portal_pause(self, account: str) -> str:
        """Return why an account sends no request to the portal now; empty when it may.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return str(self._connection.run("read_portal_pause", account))

    def begin_quota_poll(self, account: str, every_s: float) -> float | None:
        """Claim the right to poll the portal for the quota left; return the time of the grant.

        None when a poll has no use: nothing runs and the portal did not refuse, another worker
        polled within ``every_s`` seconds, or a user paused the account.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        now, key = self._connection.server_time(), self._key("account", account)
        with self._connection.commands() as redis:
            left, until, polled, probe = redis.hmget(
                key, "portal_left", "paused_until", "quota_asked", "probe"
            )
            # Where the portal named no number, or has no quota, an hour is soon enough.
            period_s = every_s if as_count(left) >= 0 else 60 * every_s
            has_use = probe is not None or redis.zcard(f"{key}:leases")
            if until == "resume" or not has_use or now - as_number(polled) < period_s:
                return None
            redis.hset(key, "quota_asked", now)
        return now

    def note_quota(self, account: str, left: int, asked: float) -> bool:
        """Record the requests left by the portal's answer, ``NOT_SAID`` or ``NO_QUOTA``.

        Returns:
            Whether that ended a pause that a refusal by the portal began.
        """
        key = self._key("account", account)
        with self._connection.commands() as redis:
            redis.hset(key, mapping={"portal_left": left, "portal_at": asked})
            # One download tries then, for the number may be wrong.
            ends_pause = left not in {0, NOT_SAID} and redis.hexists(key, "probe")
        return bool(ends_pause) and self._end_quota_pause(account)

    def changes(self, account: str) -> list[Change]:
        """Return the changes of an account's concurrency limit, the newest first."""
        with self._connection.commands() as redis:
            found = redis.lrange(self._key("account", account, "changes"), 0, -1)
        rows = [json.loads(text) for text in found]
        return [
            Change(float(row["at"]), int(row["before"]), int(row["places"]), row["why"])
            for row in rows
        ]

    def states(self) -> list[AccountState]:
        """Return the state of every account, by name.

        The limits are those that the last worker published, whatever the caller's settings are.
        """
        now = self._connection.server_time()
        with self._connection.commands() as redis:
            names = sorted(redis.smembers(self._key("accounts")))
            published = redis.get(self._key("limits"))
        limits = Limits.parse(published) or Limits(concurrent=0)
        return [self._account(name, limits, now) for name in names]

    def _account(self, name: str, limits: Limits, now: float) -> AccountState:
        key = self._key("account", name)
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            pipeline.hmget(key, "paused", "paused_until", "places", "probe", *_PORTAL)
            pipeline.lindex(f"{key}:changes", 0)
            pipeline.zcard(f"{key}:leases")
            pipeline.zrangebyscore(
                f"{key}:spent", f"({now - limits.counted_seconds}", "+inf", withscores=True
            )
            (paused, until, places, probe, said, at), change, running, spent = pipeline.execute()
        left = max(limits.quota_count - len(spent), 0)
        says = said is not None and as_count(said) >= 0
        used_up = limits.quota_count and not left
        # A pause that is over may still be in the record, and reading changes nothing: the times
        # are compared here too.
        pause_over = until not in (None, "resume") and as_number(until) <= now
        return AccountState(
            name=name,
            paused=None if pause_over else paused,
            paused_until=None if until in (None, "resume") or pause_over else as_number(until),
            running=running,
            concurrent=min(as_count(places) or limits.concurrent, limits.concurrent),
            quota_count=limits.quota_count,
            quota_seconds=limits.quota_seconds,
            quota_left=left,
            quota_reopens=spent[0][1] + limits.counted_seconds if used_up else None,
            most=limits.concurrent,
            why=json.loads(change)["why"] if change and places else "",
            probing=probe is not None,
            portal_quota_left=as_count(said) if says else None,
            portal_quota_at=as_number(at) if says else None,
        )
