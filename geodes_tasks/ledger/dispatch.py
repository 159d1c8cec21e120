"""The queue side of the ledger: who is next, who is called again, who is not wanted any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger.connection import Store
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""Exceptions that reading a damaged record raises."""
WORKER_SECONDS = 30.0
"""A worker not seen for so long no longer counts."""


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message to send: which download, and what a reader of Flower wants to see of it."""

    download_id: str
    item_id: str
    title: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a batch does not ask for any more."""

    cancelled: int = 0
    """Downloads that never start, or stop."""
    left: int = 0
    """Downloads that go on for another batch."""

    def __add__(self, other: Withdrawn) -> Withdrawn:
        """Add up."""
        return Withdrawn(self.cancelled + other.cancelled, self.left + other.left)

    def __str__(self) -> str:
        """Say it for people."""
        also = f", {self.left} go on as another batch asks for them" if self.left else ""
        return f"{self.cancelled} downloads are cancelled{also}"


@dataclass(frozen=True, slots=True)
class Litter:
    """Part files of an ended download that no attempt owns any more."""

    asset: Asset
    path: str
    token: str
    """Of the last attempt; what a later one writes is not litter."""
    download_id: str


def _litter(entry: Sequence[str], row: Sequence[str | None] | Exception) -> Litter | None:
    """Read an entry of the list and its record; None for rubbish."""
    if isinstance(row, Exception) or not all(row):
        return None
    spec, path = row
    try:
        return Litter(Asset.from_dict(json.loads(spec or "")), path or "", entry[1], entry[0])
    except UNREADABLE:
        return None


def wakeups(answer: Sequence[str]) -> list[Wakeup]:
    """Read the ``id, spec, id, spec, ...`` that the scripts return."""
    return [_wakeup(*pair) for pair in zip(answer[::2], answer[1::2], strict=True)]


def _wakeup(identifier: str, text: str) -> Wakeup:
    """Read one pair; a record that cannot be read gets its message too: its claim ends it."""
    try:
        spec = jsontext.parsed(text)
        item, title, size = str(spec["item"]), str(spec["title"]), spec["size"]
        return Wakeup(identifier, item, title, None if size is None else int(size))
    except UNREADABLE:
        return Wakeup(identifier, identifier, "damaged record", None)


class Queue(Store):
    """Release, recover, cancel."""

    def release(self, account: str = "") -> list[Wakeup]:
        """Choose what to send messages for now: no more than can find a place soon.

        A call looks at some hundred downloads at most; where cancelled ones fill a list, further
        calls go on.
        """
        found: list[Wakeup] = []
        while True:
            more, *answer = self.run("release", account, *self.limits.args())
            found += wakeups(answer)
            if not more:
                return found

    def recover(self, worker: str = "", slots: int = 0) -> tuple[int, int]:
        """End the leases of dead workers, wake what is due, and be counted as a worker.

        Args:
            worker: Name of the calling worker; empty for none.
            slots: How many downloads it runs at once.

        Returns:
            How many leases were ended, how many downloads were woken.
        """
        poison = ErrorInfo(
            "WorkerLostError",
            # The script puts their number in front.
            " workers died, or went silent, while they had this file",
            "Look at the logs of the workers in its history, then: geodes-tasks retry BATCH",
        )
        ended, woken = self.run(
            "recover",
            worker,
            slots,
            WORKER_SECONDS,
            self.limits.max_attempts,
            info_json(poison),
            self.limits.lease_seconds,
            __version__,
        )
        return int(ended), int(woken)

    def leave(self, worker: str) -> None:
        """Stop being counted as a worker."""
        with self.available():
            self.client.zrem(self.key("workers"), worker)
            self.client.delete(self.key("worker", worker))

    def accounts(self) -> list[str]:
        """Name every account."""
        with self.available():
            return sorted(self.client.smembers(self.key("accounts")))

    def publish_accounts(self, worker: str, accounts: Sequence[str]) -> None:
        """Note the names of the accounts for which a worker has a key; no key is sent."""
        with self.available():
            self.client.hset(self.key("worker", worker), "accounts", " ".join(accounts))

    def published_accounts(self) -> set[str]:
        """Return the names of the accounts for which living workers have a key."""
        with self.available():
            pipeline = self.client.pipeline(transaction=False)
            for worker in self.client.zrange(self.key("workers"), 0, -1):
                pipeline.hget(self.key("worker", worker), "accounts")
            found = pipeline.execute()
        return {name for names in found for name in (names or "").split()}

    def sent(self, account: str, older_than_s: float) -> list[str]:
        """Give the downloads whose message was sent so long ago and never claimed."""
        with self.available():
            latest = self.server_time() - older_than_s
            found: list[str] = self.client.zrangebyscore(
                self.key("account", account, "sent"), "-inf", latest
            )
            return found

    def resend(self, account: str, older_than_s: float, downloads: Iterable[str]) -> int:
        """Put downloads back whose message, sent so long ago, is lost; tells how many were."""
        return int(self.run("resend", account, older_than_s, *downloads))

    def litter(self, most: int = 50) -> list[Litter]:
        """Take over the sweeping of part files that nobody owns."""
        with self.available():
            words = map(str.split, self.client.lpop(self.key("litter"), most) or [])
            entries = [entry for entry in words if len(entry) == 2]
            pipeline = self.client.pipeline(transaction=False)
            for identifier, *_ in entries:
                pipeline.hmget(self.key("download", identifier), "spec", "path")
            rows = pipeline.execute(raise_on_error=False)
        found = map(_litter, entries, rows)
        return [left for left in found if left is not None]

    def litter_again(self, left: Litter) -> None:
        """Have part files swept later, that could not be swept now."""
        with self.available():
            self.client.rpush(self.key("litter"), f"{left.download_id} {left.token}")

    def closed_by(self, worker: str) -> str | None:
        """Give the folder that a worker of this name cannot write to; None when it takes work."""
        with self.available():
            path: str | None = self.client.hget(self.key("worker", worker), "closed")
            return path

    def close(self, worker: str, folder: str | None) -> bool:
        """Note which folder a worker cannot write to; None when it takes work again.

        Tells whether that is news.
        """
        with self.available():
            if folder is None:
                return bool(self.client.hdel(self.key("worker", worker), "closed"))
            return bool(self.client.hset(self.key("worker", worker), "closed", folder))

    def abandon(self, broker_keys: Sequence[str]) -> None:
        """Begin anew on a private server where nothing else runs; proofs of files are kept."""
        self.run("abandon", *broker_keys)

    def cancel(self, downloads: Sequence[str]) -> int:
        """Cancel downloads: running ones stop at their next renewal. Tells how many."""
        return self.withdraw("", downloads).cancelled

    def withdraw(self, batch: str, downloads: Sequence[str]) -> Withdrawn:
        """Cancel what only this batch asks for; what another asks for too just leaves it."""
        answer = self.run("cancel", batch, *downloads) if downloads else (0, 0)
        return Withdrawn(*map(int, answer))

    def resume(self, account: str) -> bool:
        """Let a paused account go on. Tells whether it was paused."""
        with self.available():
            key = self.key("account", account)
            return bool(self.client.hdel(key, "paused", "paused_until", "by_hand", "probe"))

    def again(self, batch: str, downloads: Sequence[str]) -> int:
        """Ask again for downloads that failed, were cancelled or wait. Tells how many."""
        return int(self.run("again", batch, *downloads)) if downloads else 0


def info_json(info: ErrorInfo) -> str:
    """Give the form in which the ledger keeps an error."""
    return json.dumps({"type": info.type, "message": info.message, "hint": info.hint})


def error_json(error: BaseException) -> str:
    """Give the form in which the ledger keeps an error, from which it can be raised again."""
    info = ErrorInfo.of(error)
    values = list(error.args) if isinstance(error, GeodesTasksError) else []
    return json.dumps(
        {"type": info.type, "message": info.message, "hint": info.hint, "values": values},
        default=str,
    )
