"""What people and monitors want to know of the ledger beyond counts; reads, never changes."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from geodes_tasks.errors import UnknownDownloadError
from geodes_tasks.ledger.connection import Store
from geodes_tasks.model.formatting import nearest
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 500
"""Records asked for in one round trip."""
TURN = "turn"
"""Why a download waits that nobody has taken yet."""
NEAREST_OF = 2000
"""Downloads of a batch among which the names most like a misspelt one are searched."""
_PORTAL = "portal_left", "portal_at"
DUE_SAMPLE = 1000
"""Of so many waiting downloads the due times are looked at, the earliest first."""


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


@dataclass(frozen=True, slots=True)
class Wait:
    """Downloads that wait for one reason."""

    reason: str
    count: int
    next_due: float | None
    """When the first of them goes on; None when that is not known."""
    since: float | None = None
    """Since when the first of them waits; None when nobody asked, or that is not known."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Downloads with errors of one class."""

    state: State
    """FAILURE, or RETRY for those that are tried again."""
    type: str
    count: int
    example: ErrorInfo
    item_id: str
    """Whose error the example is."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole ledger adds up to."""

    at: float
    """Seconds of the server's clock."""
    counters: Mapping[str, int]
    """As scripts keep them: ``state:<S>``, ``outcome:<O>``, ``waiting:<reason>``, ``bytes_done``,
    ``errors:<class>``, ``bytes:<source>:<collection>``, ..."""
    since: Mapping[str, float]
    """Reason, or ``turn``, to the time since when the first download waits for it."""
    later: int
    """Waiting downloads whose time has not come."""
    taped: int
    """Downloads whose file is on tape; one worker asks for all of them."""

    def parts(self, kind: str) -> dict[str, int]:
        """Give the counters of a kind by what follows its colon."""
        found = ((name.partition(":"), value) for name, value in self.counters.items())
        return {rest: value for (word, _, rest), value in found if word == kind}


class Insight(Store):
    """Questions of the live view, the reports and the exporter."""

    def account_states(self) -> list[AccountState]:
        """Tell how every account stands, by name."""
        now = self.server_time()
        with self.available():
            names = sorted(self.client.smembers(self.key("accounts")))
        return [self._account(name, now) for name in names]

    def _account(self, name: str, now: float) -> AccountState:
        limits, key = self.limits, self.key("account", name)
        with self.available():
            pipeline = self.client.pipeline(transaction=False)
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

    # --- what waits, and what went wrong ---------------------------------------------------------

    def waits(self, batches: Sequence[str]) -> list[Wait]:
        """Tell for each reason how many downloads of the batches wait, and when the first goes on.

        A download in two batches counts twice. Due times are those of the whole ledger: who
        waits for one reason waits for one account.
        """
        counts: dict[str, int] = {}
        with self.available():
            for name in batches:
                for field, value in self.client.hgetall(self.key("batch", name)).items():
                    kind, _, reason = field.partition(":")
                    if kind == "waiting" and int(value) > 0:
                        counts[reason] = counts.get(reason, 0) + int(value)
        due = self._first_due() if counts else {}
        return [Wait(reason, count, due.get(reason)) for reason, count in sorted(counts.items())]

    def _first_due(self) -> dict[str, float]:
        with self.available():
            found = self.client.zrange(self.key("due"), 0, DUE_SAMPLE - 1, withscores=True)
        reasons = self._fields([identifier for identifier, _ in found], "reason")
        first: dict[str, float] = {}
        for (_, due), (reason,) in zip(found, reasons, strict=True):
            if reason:
                first.setdefault(reason, due)
        if (asked := self._next_poll()) is not None:
            first[Reason.OFFLINE] = min(asked, first.get(Reason.OFFLINE, asked))
        return first

    def _next_poll(self) -> float | None:
        """Tell when the portal is asked again for what is on tape; None when nothing is."""
        with self.available():
            keys = [self.key("account", n) for n in self.client.smembers(self.key("accounts"))]
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.zcard(f"{key}:tape")
                pipeline.hget(f"{key}:poll", "next")
            found = pipeline.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        return min((float(then) for taped, then in pairs if taped and then), default=None)

    def failures(self, batch: str) -> list[FailureGroup]:
        """Group the errors of a batch by class, what failed for good first, then by number.

        Reads the whole batch: some 20,000 downloads a second.
        """
        groups: dict[tuple[State, str], FailureGroup] = {}
        for row in self._batch_fields(batch, "state", "error", "spec"):
            state, error, spec = row
            if error and spec and state in {State.FAILURE, State.RETRY}:
                info = _info(error)
                key = (State(state), info.type)
                first = groups.get(key) or FailureGroup(*key, 0, info, json.loads(spec)["item"])
                groups[key] = replace(first, count=first.count + 1)
        return sorted(groups.values(), key=lambda one: (one.state != State.FAILURE, -one.count))

    def failed(
        self, batch: str, kinds: Sequence[str] = (), *, state: State = State.FAILURE
    ) -> list[str]:
        """Return the ids of a batch's downloads with errors of these classes, or of any.

        Args:
            batch: Its name.
            kinds: Error classes; none is any.
            state: Of the downloads: FAILURE, or RETRY for those that wait after an error.
        """
        with self.available():
            ids: list[str] = self.client.zrange(self.key("batch", batch, "downloads"), 0, -1)
        rows = self._batch_fields(batch, "state", "error")
        return [
            identifier
            for identifier, (found, error) in zip(ids, rows, strict=False)
            if found == state and (not kinds or (error and json.loads(error)["type"] in kinds))
        ]

    def named(self, batch: str, names: Sequence[str]) -> list[str]:
        """Give the ids of a batch's downloads by item, file name or id, each once.

        Raises:
            UnknownDownloadError: the batch has none of that name.
        """
        found: dict[str, list[str]] = {name: [] for name in names}
        with self.available():
            ids: list[str] = self.client.zrange(self.key("batch", batch, "downloads"), 0, -1)
        rows = self._batch_fields(batch, "spec", "path")
        for identifier, (spec, path) in zip(ids, rows, strict=False):
            item = json.loads(spec)["item"] if spec else ""
            for name in {identifier, item, PurePath(path or "").name} & found.keys():
                found[name].append(identifier)
        for name, those in found.items():
            if not those:
                raise UnknownDownloadError(batch, name, nearest(name, self._some_names(batch)))
        return list(dict.fromkeys(itertools.chain.from_iterable(found.values())))

    def _some_names(self, batch: str) -> Iterator[str]:
        """Yield item ids and file names of the first downloads of a batch."""
        for spec, path in itertools.islice(self._batch_fields(batch, "spec", "path"), NEAREST_OF):
            if spec:
                yield json.loads(spec)["item"]
            yield PurePath(path or "").name

    def _batch_fields(self, batch: str, *names: str) -> Iterator[list[str | None]]:
        with self.available():
            ids = iter(self.client.zrange(self.key("batch", batch, "downloads"), 0, -1))
        while block := list(itertools.islice(ids, BLOCK)):
            yield from self._fields(block, *names)

    def _fields(self, ids: Sequence[str], *names: str) -> list[list[str | None]]:
        with self.available():
            pipeline = self.client.pipeline(transaction=False)
            for identifier in ids:
                pipeline.hmget(self.key("download", identifier), *names)
            rows: list[list[str | None]] = pipeline.execute()
        return rows

    # --- for monitors ----------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Count the whole ledger: as quick with a million records as with one."""
        reasons, now = (*Reason, TURN), self.server_time()
        with self.available():
            accounts = self.client.smembers(self.key("accounts"))
            pipeline = self.client.pipeline(transaction=False)
            pipeline.hgetall(self.key("totals"))
            pipeline.zcount(self.key("due"), f"({now}", "+inf")
            for reason in reasons:
                pipeline.zrange(self.key("since", reason), 0, 0, withscores=True)
            for account in accounts:
                pipeline.zcard(self.key("account", account, "tape"))
            counters, later, *rest = pipeline.execute()
        firsts, taped = rest[: len(reasons)], sum(rest[len(reasons) :])
        return Totals(
            at=now,
            counters={name: int(value) for name, value in counters.items()},
            since={
                str(reason): first[0][1]
                for reason, first in zip(reasons, firsts, strict=True)
                if first
            },
            later=later,
            taped=taped,
        )


def _info(text: str) -> ErrorInfo:
    said = json.loads(text)
    return ErrorInfo(said["type"], said["message"], said.get("hint", ""))
