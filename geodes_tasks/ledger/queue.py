"""The queue side of the ledger: who is admitted, who is next, who is called again."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

from geodes_tasks import footprint, jsontext
from geodes_tasks.asset import Asset, download_id
from geodes_tasks.errors import GeodesTasksError, NameTakenError
from geodes_tasks.ledger.store import Store
from geodes_tasks.results import ErrorInfo
from geodes_tasks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from geodes_tasks.results import Proof

    Entries = Sequence[tuple[str | int, ...]]

SLOW_STAT_S = 0.0002
"""A look at a file that takes longer goes over a network: many are made at once then."""
SAMPLE, STATS_AT_ONCE = 20, 16
_NOTHING = ("", "", "", "")
"""Said of a download that is known, among others that are not."""
WORKER_SECONDS = 30.0
"""A worker not seen for so long no longer counts."""


class Admission(StrEnum):
    """What became of one download that was asked for."""

    NEW = "new"
    """Never asked for before."""
    JOINED = "joined"
    """Already queued, running or waiting: it counts in this batch too, no second transfer."""
    AGAIN = "again"
    """Finished before: it begins anew, with a look at the file first."""
    PRESENT = "present"
    """Proven before and unchanged since, as one stat showed: done."""
    TAKEN = "taken"
    """Refused: the path belongs to another file."""


@dataclass(frozen=True, slots=True)
class Request:
    """One download to admit."""

    asset: Asset
    path: str
    """Final path, absolute."""
    item: Mapping[str, Any] | None = None
    """The item as JSON, with its first request: its place and time are kept when it is new."""

    @property
    def download_id(self) -> str:
        """The id of the download."""
        return download_id(self.path, self.asset)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The answer to one request."""

    download_id: str
    admission: Admission
    error: GeodesTasksError | None = None
    """Why it was refused."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something asked for that can never be downloaded."""

    item_id: str
    collection: str
    asset_key: str
    error: GeodesTasksError

    @property
    def download_id(self) -> str:
        """An id of its own, the same each time it is asked for."""
        named = f"refused {self.item_id} {self.asset_key} {self.error}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, named))


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


def wakeups(answer: Sequence[str]) -> list[Wakeup]:
    """Read the ``id, spec, id, spec, ...`` that the scripts return."""
    found = []
    for identifier, text in zip(answer[::2], answer[1::2], strict=True):
        spec = jsontext.parsed(text)
        found.append(Wakeup(identifier, spec["item"], spec["title"], spec["size"]))
    return found


class Queue(Store):
    """Admit, release, recover."""

    def admit(
        self,
        batch: str,
        account: str,
        requests: Sequence[Request],
        stat: Callable[[str], Proof | None],
        *,
        known: bool = False,
    ) -> list[Admitted]:
        """Take downloads into the ledger: all new ones of a block or none.

        Args:
            batch: Name of the batch; made when it is new.
            account: The account that pays for them.
            requests: What to admit; a few hundred at most, the script blocks Redis meanwhile.
            stat: Gives what is at a path now, None for nothing; asked only about files that
                were proven before.
            known: Whether most have been asked for before: then they are asked by their ids, and
                only what is new is told.

        Raises:
            LedgerUnavailableError: Redis does not answer; say the same again.
        """
        ids = [request.download_id for request in requests]
        answers, left = [""] * len(requests), list(range(len(requests)))
        told, proofs = set[str]() if known else set(ids), dict[str, str]()
        while left:
            entries = _entries([(requests[i], ids[i]) for i in left], told, proofs)
            for i, answer in zip(left, self._ask(batch, account, entries), strict=True):
                answers[i] = answer
            left = [i for i in left if answers[i] == "tell" or answers[i].startswith("prove:")]
            told |= {ids[i] for i in left if answers[i] == "tell"}
            prove = [i for i in left if answers[i] != "tell"]
            found = _looked_at([requests[i].path for i in prove], stat)
            proofs |= {ids[i]: str(proof or "-") for i, proof in zip(prove, found, strict=True)}
        return [_admitted(*each) for each in zip(requests, ids, answers, strict=True)]

    def _ask(self, batch: str, account: str, entries: Entries) -> list[str]:
        said = chain.from_iterable(entries)
        return list(jsontext.parsed(self.run("admit", batch, account, len(entries[0]), *said)))

    def refuse(self, batch: str, account: str, refusals: Sequence[Refusal]) -> None:
        """Record what can never be downloaded as FAILURE, so that reports name it.

        Raises:
            LedgerUnavailableError: Redis does not answer; nothing was recorded.
        """
        entries = [
            {
                "id": refusal.download_id,
                "spec": json.dumps(_refused_spec(refusal)),
                "error": error_json(refusal.error),
            }
            for refusal in refusals
        ]
        if entries:
            self.run("refuse", batch, account, json.dumps(entries))

    def release(self, account: str = "") -> list[Wakeup]:
        """Choose what to send messages for now: no more than can find a place soon."""
        return wakeups(self.run("release", account, *self.limits.args()))

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
            f"{self.limits.max_attempts} workers died, or went silent, while they had this file",
            "Look at the logs of the workers in its history, then: geodes-tasks retry",
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
        return [name for name in self.queues() if ":" not in name]

    def queues(self) -> list[str]:
        """Name every account, and those beside which downloads are served (``<name>:s3``)."""
        with self.available():
            return sorted(self.client.smembers(self.key("accounts")))

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
            found = self.client.lpop(self.key("litter"), most) or []
            rows = [
                (token, *self.client.hmget(self.key("download", one), "spec", "path"))
                for one, token in map(str.split, found)
            ]
        return [
            Litter(Asset.from_dict(json.loads(spec)), path, token)
            for token, spec, path in rows
            if spec and path
        ]

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
            return bool(self.client.hdel(key, "paused", "paused_until", "probe"))

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


def _entries(
    asked: Sequence[tuple[Request, str]], told: Collection[str], proofs: Mapping[str, str]
) -> Entries:
    """Give what the admission script reads of requests; where all are known the ids are enough."""
    if not told and not proofs:
        return [(identifier,) for _, identifier in asked]
    if not told:
        return [(identifier, proofs.get(identifier, "")) for _, identifier in asked]
    return [
        (identifier, proofs.get(identifier, ""), *(_facts(one) if identifier in told else _NOTHING))
        for one, identifier in asked
    ]


def _facts(request: Request) -> tuple[str, int, str, str]:
    spec = jsontext.compact(request.asset.to_dict())
    return request.path, request.asset.size_bytes or 0, spec, _place(request)


def _place(request: Request) -> str:
    """Give the footprint of the item: ``-`` where it has none, empty with all but its first."""
    if request.item is None:
        return ""
    place = footprint.footprint(request.item)
    return footprint.packed(place) if place else "-"


def _looked_at(paths: Sequence[str], stat: Callable[[str], Proof | None]) -> list[Proof | None]:
    """Look at files one after the other, side by side where each look takes its time."""
    began = time.monotonic()
    found = [stat(path) for path in paths[:SAMPLE]]
    rest = paths[SAMPLE:]
    if not rest or time.monotonic() - began < SAMPLE * SLOW_STAT_S:
        return found + [stat(path) for path in rest]
    with ThreadPoolExecutor(STATS_AT_ONCE) as pool:
        return found + list(pool.map(stat, rest))


def _refused_spec(refusal: Refusal) -> dict[str, object]:
    asset = Asset(
        item_id=refusal.item_id,
        collection=refusal.collection,
        key=refusal.asset_key,
        title=refusal.asset_key,
        hrefs={},
    )
    return asset.to_dict()


_ADMISSIONS = {str(one): one for one in Admission}


def _admitted(request: Request, identifier: str, answer: str) -> Admitted:
    if answer.startswith("taken:"):
        other = answer.removeprefix("taken:")
        error = NameTakenError(request.path, request.asset.item_id, other)
        return Admitted(identifier, Admission.TAKEN, error)
    return Admitted(identifier, _ADMISSIONS[answer])
