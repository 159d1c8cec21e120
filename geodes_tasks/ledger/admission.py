"""The way into the ledger: what is asked for, and what becomes of it.

Asking and taking the answer are two steps, so that whoever asks for many plans the next of them
while Redis has these.
"""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

from geodes_tasks.errors import GeodesTasksError, NameTakenError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.dispatch import error_json
from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import GEODES, S3, Asset, download_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from geodes_tasks.ledger.connection import Sent
    from geodes_tasks.model.results import Proof

    Entries = Sequence[tuple[str | int, ...]]

SLOW_STAT_S = 0.0002
"""A look at a file that takes longer goes over a network: many are made at once then."""
SAMPLE, STATS_AT_ONCE = 20, 16
_NOTHING = ("", "", "", "", "")
"""Said of a download that is known, among others that are not."""


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


class Asking:
    """A block of downloads on its way into the ledger; its caller may do other work meanwhile."""

    def __init__(
        self, send: Callable[[Entries], Sent], requests: Sequence[Request], known: bool
    ) -> None:
        """Ask; the arguments are those of :meth:`Admitting.ask`."""
        self._send, self._requests = send, requests
        self._ids = [request.download_id for request in requests]
        self._told = set[str]() if known else set(self._ids)
        self._proofs = dict[str, str]()
        self._left = list(range(len(requests)))
        self._sent = self._ask() if requests else None

    def _ask(self) -> Sent:
        asked = [(self._requests[i], self._ids[i]) for i in self._left]
        return self._send(_entries(asked, self._told, self._proofs))

    def answers(self, stat: Callable[[str], Proof | None]) -> list[Admitted]:
        """Wait for what became of each, and say what the ledger wants to know beside, once.

        Args:
            stat: Gives what is at a path now, None for nothing; asked only about files that
                were proven before.

        Raises:
            LedgerUnavailableError: Redis does not answer; say the same again.
        """
        answers = [""] * len(self._requests)
        while self._sent is not None:
            for i, answer in zip(self._left, jsontext.parsed(self._sent.answer()), strict=True):
                answers[i] = answer
            tell = [i for i in self._left if answers[i] == "tell"]
            prove = [i for i in self._left if answers[i].startswith("prove:")]
            self._told |= {self._ids[i] for i in tell}
            found = _looked_at([self._requests[i].path for i in prove], stat)
            for i, proof in zip(prove, found, strict=True):
                self._proofs[self._ids[i]] = str(proof or "-")
            self._left = sorted(tell + prove)
            self._sent = self._ask() if self._left else None
        return list(map(_admitted, self._requests, self._ids, answers))

    def close(self) -> None:
        """Let go of an answer that nobody has waited for."""
        if self._sent is not None:
            self._sent.close()


class Admissions(Part):
    """Admit and refuse."""

    def ask(
        self, batch: str, account: str, requests: Sequence[Request], *, known: bool = False
    ) -> Asking:
        """Ask to take downloads into the ledger: all new ones of a block or none.

        Args:
            batch: Name of the batch; made when it is new.
            account: The account that pays for them.
            requests: What to admit; a few hundred at most, the script blocks Redis meanwhile.
            known: Whether most have been asked for before: then they are asked by their ids, and
                only what is new is told.

        Raises:
            LedgerUnavailableError: Redis does not answer; say the same again.
        """

        def send(entries: Entries) -> Sent:
            words = chain.from_iterable(entries)
            return self._connection.send("admit", batch, account, len(entries[0]), *words)

        return Asking(send, requests, known)

    def admit(
        self,
        batch: str,
        account: str,
        requests: Sequence[Request],
        stat: Callable[[str], Proof | None],
        *,
        known: bool = False,
    ) -> list[Admitted]:
        """Ask, and wait for the answers.

        Raises:
            LedgerUnavailableError: Redis does not answer; say the same again.
        """
        return self.ask(batch, account, requests, known=known).answers(stat)

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
            self._connection.run("refuse", batch, account, json.dumps(entries))

    def set_owner(self, batch: str, owner: str) -> None:
        """Note who enqueued a batch, ``user@host``, unless that is known already."""
        with self._connection.commands() as redis:
            redis.hsetnx(self._connection.key("batch", batch), "owner", owner)


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


def _facts(request: Request) -> tuple[str, int, str, str, str]:
    asset = request.asset
    spec = jsontext.compact(asset.to_dict())
    return request.path, asset.size_bytes or 0, spec, _sources(asset), _place(request)


def _sources(asset: Asset) -> str:
    """Return the set of sources that can serve an asset, as the ready lists are named."""
    if S3 not in asset.hrefs:
        return GEODES
    return f"{GEODES}+{S3}" if GEODES in asset.hrefs else S3


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
