"""The queue side of the ledger: who is next, who is called again, who is not wanted any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.model import json as jsontext
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


class Dispatch(Part):
    """Release, recover, cancel."""

    def release(self, account: str = "") -> list[Wakeup]:
        """Choose what to send messages for now: no more than can find a place soon.

        A call looks at some hundred downloads at most; where cancelled ones fill a list, further
        calls go on.
        """
        found: list[Wakeup] = []
        while True:
            more, *answer = self._connection.run(
                "release", account, *self._connection.limits.args()
            )
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
        ended, woken = self._connection.run(
            "recover",
            worker,
            slots,
            WORKER_SECONDS,
            self._connection.limits.max_attempts,
            info_json(poison),
            self._connection.limits.lease_seconds,
            __version__,
        )
        return int(ended), int(woken)

    def unregister(self, worker: str) -> None:
        """Stop being counted as a worker."""
        with self._connection.commands() as redis:
            redis.zrem(self._connection.key("workers"), worker)
            redis.delete(self._connection.key("worker", worker))

    def accounts(self) -> list[str]:
        """Name every account."""
        with self._connection.commands() as redis:
            return sorted(redis.smembers(self._connection.key("accounts")))

    def publish_accounts(self, worker: str, accounts: Sequence[str]) -> None:
        """Note the names of the accounts for which a worker has a key; no key is sent."""
        with self._connection.commands() as redis:
            redis.hset(self._connection.key("worker", worker), "accounts", " ".join(accounts))

    def published_accounts(self) -> set[str]:
        """Return the names of the accounts for which living workers have a key."""
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for worker in redis.zrange(self._connection.key("workers"), 0, -1):
                pipeline.hget(self._connection.key("worker", worker), "accounts")
            found = pipeline.execute()
        return {name for names in found for name in (names or "").split()}

    def sent(self, account: str, older_than_s: float) -> list[str]:
        """Give the downloads whose message was sent so long ago and never claimed."""
        with self._connection.commands() as redis:
            latest = self._connection.server_time() - older_than_s
            found: list[str] = redis.zrangebyscore(
                self._connection.key("account", account, "sent"), "-inf", latest
            )
            return found

    def resend(self, account: str, older_than_s: float, downloads: Iterable[str]) -> int:
        """Put downloads back whose message, sent so long ago, is lost; tells how many were."""
        return int(self._connection.run("resend", account, older_than_s, *downloads))

    def closed_by(self, worker: str) -> str | None:
        """Give the folder that a worker of this name cannot write to; None when it takes work."""
        with self._connection.commands() as redis:
            path: str | None = redis.hget(self._connection.key("worker", worker), "closed")
            return path

    def close(self, worker: str, folder: str | None) -> bool:
        """Note which folder a worker cannot write to; None when it takes work again.

        Tells whether that is news.
        """
        with self._connection.commands() as redis:
            if folder is None:
                return bool(redis.hdel(self._connection.key("worker", worker), "closed"))
            return bool(redis.hset(self._connection.key("worker", worker), "closed", folder))

    def workers(self) -> dict[str, int]:
        """Give the live workers with their slots."""
        with self._connection.commands() as redis:
            names = redis.zrange(self._connection.key("workers"), 0, -1)
            slots = [redis.hget(self._connection.key("worker", name), "slots") for name in names]
        return {name: int(count or 0) for name, count in zip(names, slots, strict=True)}


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
