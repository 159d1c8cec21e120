"""Admission of downloads: records requests, and returns the result of each."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geodes_tasks.errors import GeodesTasksError, NameTakenError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.error_texts import error_json
from geodes_tasks.model import footprint
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import GEODES, S3, Asset, download_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from geodes_tasks.model.results import Proof

    Entries = Sequence[tuple[str | int, ...]]

SLOW_STAT_S = 0.0002
"""The seconds from which a stat counts as slow, over a network: many are made at once then."""
SAMPLE, STATS_AT_ONCE = 20, 16
"""The number of files whose stats are timed; threads for the rest where these are slow."""
_NOTHING = ("", "", "", "", "")
"""Fields of a download that the ledger knows, among others that it does not."""


class Admission(StrEnum):
    """The result of one request."""

    NEW = "new"
    """Never requested before."""
    JOINED = "joined"
    """Queued, running or waiting: it counts in this batch too, without a second transfer."""
    AGAIN = "again"
    """Ended before: it begins anew, and checks the file first."""
    PRESENT = "present"
    """Verified before and unchanged since, by one stat: complete."""
    TAKEN = "taken"
    """Refused: the path belongs to another file."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a set of members, which is not that of its archive."""

    bytes_to_fetch: int
    portal_requests: int = 1
    """Requests that count against the quota, where the portal serves it."""
    by_ranges: bool = False
    """Whether only the members are fetched; False for the whole archive."""
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One download to admit."""

    asset: Asset
    path: str
    """Final path, absolute."""
    item: Mapping[str, Any] | None = None
    """The item as JSON, or ``footprint.parts`` of it, with its first request: stored when new."""
    cost: Cost | None = None
    """Of a set of members; None for a whole file, and where it is not known."""

    @property
    def size_bytes(self) -> int:
        """Return the bytes to fetch; 0 if unknown."""
        return self.cost.bytes_to_fetch if self.cost else self.asset.size_bytes or 0

    @property
    def download_id(self) -> str:
        """Return the id of the download."""
        return download_id(self.path, self.asset)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The result of one request, with the error of a refusal."""

    download_id: str
    admission: Admission
    error: GeodesTasksError | None = None
    """The reason of a refusal; None otherwise."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that can never be downloaded."""

    item_id: str
    collection: str
    asset_key: str
    error: GeodesTasksError

    @property
    def download_id(self) -> str:
        """Return an id that is the same for each request of the same asset."""
        named = f"refused {self.item_id} {self.asset_key} {self.error}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, named))


class Admissions(Part):
    """Admit and refuse requests."""

    def admit(
        self,
        batch: str,
        account: str,
        requests: Sequence[Request],
        stat: Callable[[Request], Proof | None],
        *,
        known: bool = False,
    ) -> Callable[[], list[Admitted]]:
        """Send a block of requests, of which all new ones are admitted, or none.

        Args:
            batch: Name of the batch; made when it is new.
            account: The account whose limits they count against.
            requests: The requests; a few hundred at most, as the script blocks Redis meanwhile.
            stat: Returns the proof of the file of a request now, None for no file; called only for
                files that were verified before.
            known: True when most were requested before: then ids are sent first, and facts of
                new ones only.

        Returns:
            A function that waits for the result of each request; other work may be done before.

        Raises:
            LedgerUnavailableError: Redis does not answer; call it again. Also of that function.
        """
        ids = [request.download_id for request in requests]
        in_full = set[str]() if known else set(ids)
        proofs = dict[str, str]()
        portal_url = self._connection.limits.portal_url

        def sent(left: list[int]) -> Callable[[], Any]:
            asked = [(requests[i], ids[i]) for i in left]
            entries = _entries(asked, in_full, proofs, portal_url)
            values = len(entries[0]), *chain.from_iterable(entries)
            return self._connection.send("admit_downloads", batch, account, *values)

        def results() -> list[Admitted]:
            answers, left, answer = [""] * len(requests), everything, first
            while left and answer is not None:
                for i, text in zip(left, jsontext.parsed(answer()), strict=True):
                    answers[i] = text
                tell = [i for i in left if answers[i] == "tell"]
                prove = [i for i in left if answers[i].startswith("prove:")]
                in_full.update(ids[i] for i in tell)
                found = _proofs([requests[i] for i in prove], stat)
                for i, proof in zip(prove, found, strict=True):
                    proofs[ids[i]] = str(proof or "-")
                left = sorted(tell + prove)
                answer = sent(left) if left else None
            return list(map(_admitted, requests, ids, answers))

        everything = list(range(len(requests)))
        first = sent(everything) if requests else None
        return results

    def refuse(self, batch: str, account: str, refusals: Sequence[Refusal]) -> None:
        """Record requests that can never be downloaded as FAILURE, so that reports name them.

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
            self._connection.run("refuse_downloads", batch, account, json.dumps(entries))

    def queued(self, batch: str, account: str, most: int) -> list[str]:
        """Return the ids of the downloads of a batch that are next to be sent.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        with self._connection.commands() as redis:
            pipeline = redis.pipeline(transaction=False)
            for sources in ("geodes", "geodes+s3", "s3"):
                key = self._key("batch", batch, "ready", sources, account)
                pipeline.lrange(key, 0, most - 1)
            return [one for found in pipeline.execute() for one in found][:most]

    def end(self, batch: str) -> None:
        """Record that all blocks of a batch are in: from now on it can be over."""
        with self._connection.commands() as redis:
            redis.hdel(self._key("batch", batch), "admitting")

    def set_owner(self, batch: str, owner: str) -> None:
        """Record the user who enqueued a batch, ``user@host``, unless one is recorded."""
        with self._connection.commands() as redis:
            redis.hsetnx(self._key("batch", batch), "owner", owner)


def _entries(
    asked: Sequence[tuple[Request, str]],
    told: Collection[str],
    proofs: Mapping[str, str],
    portal_url: str,
) -> Entries:
    """Return the fields that the script reads of requests."""
    # Ids are enough where all are known: a rerun sends no spec again.
    if not told and not proofs:
        return [(identifier,) for _, identifier in asked]
    if not told:
        return [(identifier, proofs.get(identifier, "")) for _, identifier in asked]
    return [
        (
            identifier,
            proofs.get(identifier, ""),
            *(_facts(one, portal_url) if identifier in told else _NOTHING),
        )
        for one, identifier in asked
    ]


def _sources(asset: Asset, portal_url: str) -> str:
    """Return the set of sources that can serve an asset, which names its ready list.

    ``geodes``, ``geodes+s3`` or ``s3``; for an asset of a host other than the portal ``host:port``
    in place of ``geodes``.
    """
    names = [name for name in (GEODES, S3) if name in asset.hrefs] or [GEODES]
    href = asset.hrefs.get(GEODES, "")
    # The portal's hrefs begin with its address: no other one is parsed for a million files.
    if href and portal_url and not href.startswith(f"{portal_url}/"):
        with contextlib.suppress(ValueError):  # of urlsplit: brackets without a partner
            host = urlsplit(href).netloc.rpartition("@")[2].lower()
            if host and host != urlsplit(portal_url).netloc.lower():
                names[0] = host
    return "+".join(names)


def _facts(request: Request, portal_url: str) -> tuple[str, int, str, str, str]:
    """Return path, size, spec, sources and footprint of a request, as the script reads them."""
    asset = request.asset
    # An item of many assets is sent with the first of them only: the others have an empty field.
    packed = ""
    if request.item is not None:
        found = footprint.footprint(request.item)
        packed = footprint.packed(found) if found else "-"
    sources, spec = _sources(asset, portal_url), jsontext.compact(asset.to_dict())
    return request.path, request.size_bytes, spec, sources, packed


def _proofs(
    requests: Sequence[Request], stat: Callable[[Request], Proof | None]
) -> list[Proof | None]:
    """Stat files one after the other, in threads where each stat is slow."""
    # A stat over NFS or Lustre waits for a round trip; on a local disk threads cost more than it
    # does.
    began = time.monotonic()
    found = [stat(one) for one in requests[:SAMPLE]]
    rest = requests[SAMPLE:]
    if not rest or time.monotonic() - began < SAMPLE * SLOW_STAT_S:
        return found + [stat(one) for one in rest]
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
"""Answers of the script to results: a lookup takes a seventh of the time of a call of the Enum."""


def _admitted(request: Request, identifier: str, answer: str) -> Admitted:
    """Return the result of a request for an answer of the script."""
    if answer.startswith("taken:"):
        other = answer.removeprefix("taken:")
        error = NameTakenError(request.path, request.asset.item_id, other)
        return Admitted(identifier, Admission.TAKEN, error)
    return Admitted(identifier, _ADMISSIONS[answer])
