"""The side of the ledger that people steer and ask about: holds, priorities, changed limits."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.leases import Claim

_PORTAL = "portal_left", "portal_at"


@dataclass(frozen=True, slots=True)
class Change:
    """Why an account has more or fewer places than before."""

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
    """Names the request that was spent, for :meth:`Leases.unspend`; empty where none is counted."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """How an account stands."""

    name: str
    paused: str | None
    """Why it takes no work; None when it does."""
    paused_until: float | None
    """When it goes on by itself; None when somebody must resume it, or it is not paused."""
    running: int
    concurrent: int
    """Downloads that it may have under way now, over the whole fleet."""
    quota_count: int
    """Requests in any window; 0 is no quota."""
    quota_seconds: float
    quota_left: int
    quota_reopens: float | None
    """When the next request is allowed; None while some are left."""
    most: int = 0
    """Downloads that the settings let it have under way."""
    why: str = ""
    """Why it has fewer places than that, if it has."""
    probing: bool = False
    """Whether the portal refused for its quota, and one download at a time tries."""
    portal_quota_left: int | None = None
    """Requests left as the portal said last; None when it does not say, or has no quota."""
    portal_quota_at: float | None = None
    """When it was asked; None with no number."""


class Accounts(Part):
    """What may run, as people and the portal have it."""

    def pause(
        self, account: str, why: str, seconds: float | None, probe_s: float | None = None
    ) -> bool:
        """Have an account ask nothing of the portal.

        Args:
            account: Its name.
            why: Shown.
            seconds: How long; None is until it is resumed by hand.
            probe_s: Seconds between two tries whether the portal gives files again; None where
                it did not refuse for its quota.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return bool(self._connection.run("pause", account, why, *_or_empty(seconds, probe_s)))

    def spend(self, account: str) -> Spent:
        """Spend one request of the account's own window; without a window nothing is counted.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        limits, request = self._connection.limits, uuid.uuid4().hex
        if not limits.quota_count:
            return Spent()
        wait = self._connection.run(
            "spend", account, limits.quota_count, limits.counted_seconds, request
        )
        return Spent(wait_s=float(wait)) if wait else Spent(request=request)

    def refund(self, account: str, request: str) -> None:
        """Return to the window a request that never reached the portal.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            redis.zrem(self._connection.key("account", account, "spent"), request)

    def end_probe(self, claim: Claim) -> None:
        """Let the account go on: the download that tries whether there is quota gets its file.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        self._connection.run("end_probe", claim.download_id, claim.token)

    def gave_since(self, claim: Claim) -> bool:
        """Check whether the portal gave a file to an attempt that began after this one.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            accepted = redis.hget(self._connection.key("account", claim.account), "accepted")
            began = redis.hget(self._connection.key("download", claim.download_id), "started")
        return bool(accepted and began) and float(accepted) > float(began)

    def portal_pause(self, account: str) -> str:
        """Return why an account asks nothing of the portal now; empty when it may ask.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return str(self._connection.run("portal_pause", account))

    def begin_quota_poll(self, account: str, every_s: float) -> float | None:
        """Ask for the right to ask the portal for the quota left; return the time of the grant.

        None when it is not worth a question: nothing runs and the portal did not refuse, another
        worker asked not long ago, or the account waits for a person.
        """
        granted = self._connection.run("quota_begin", account, every_s)
        return float(granted) if granted else None

    def note_quota(self, account: str, left: int, asked: float) -> bool:
        """Record how many requests the portal says are left, ``NOT_SAID`` or ``NO_QUOTA``.

        Returns:
            Whether that ended a pause that a refusal by the portal began.
        """
        return bool(self._connection.run("note_quota", account, left, asked))

    def changes(self, account: str) -> list[Change]:
        """Tell how the places of an account changed, the newest first."""
        with self._connection.commands() as redis:
            found = redis.lrange(self._connection.key("account", account, "changes"), 0, -1)
        rows = [json.loads(text) for text in found]
        return [
            Change(float(row["at"]), int(row["before"]), int(row["places"]), row["why"])
            for row in rows
        ]

    def states(self) -> list[AccountState]:
        """Tell how every account stands, by name."""
        now = self._connection.server_time()
        with self._connection.commands() as redis:
            names = sorted(redis.smembers(self._connection.key("accounts")))
        return [self._account(name, now) for name in names]

    def _account(self, name: str, now: float) -> AccountState:
        limits, key = self._connection.limits, self._connection.key("account", name)
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
        says = said is not None and int(said) >= 0
        used_up = limits.quota_count and not left
        pause_over = until not in (None, "resume") and float(until) <= now
        return AccountState(
            name=name,
            paused=None if pause_over else paused,
            paused_until=None if until in (None, "resume") or pause_over else float(until),
            running=running,
            concurrent=min(int(places or limits.concurrent), limits.concurrent),
            quota_count=limits.quota_count,
            quota_seconds=limits.quota_seconds,
            quota_left=left,
            quota_reopens=spent[0][1] + limits.counted_seconds if used_up else None,
            most=limits.concurrent,
            why=json.loads(change)["why"] if change and places else "",
            probing=probe is not None,
            portal_quota_left=int(said) if says else None,
            portal_quota_at=float(at) if says else None,
        )


def _or_empty(*numbers: float | None) -> list[float | str]:
    """Return numbers as arguments of a script, where an empty one is none."""
    return ["" if number is None else number for number in numbers]
