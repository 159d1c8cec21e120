"""The plan of a run that is only shown: what would be downloaded, what is present or refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import BLOCK, Price, Quote
from geodes_tasks.errors import GeodesTasksError, HrefRefusedError, NameTakenError
from geodes_tasks.ledger import Refusal, Request
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.results import ErrorInfo, Proof
from geodes_tasks.settings.config import Config
from geodes_tasks.transports import chosen, no_source
from geodes_tasks.transports.http.addresses import AddressPolicy


@dataclass(slots=True)
class Plan:
    """The downloads and refusals of a run, as it would make them."""

    quote: Quote
    downloads: list[dict[str, Any]] = field(default_factory=list)
    """The downloads in the form of ``download --dry-run --json``."""
    refused: list[Refusal] = field(default_factory=list)
    """Items with the reasons why they are refused."""

    def refuse(self, request: Request, error: GeodesTasksError) -> None:
        """Add a download that a run would refuse."""
        asset = request.asset
        self.refused.append(Refusal(asset.item_id, asset.collection, asset.key, error))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``download --dry-run --json``."""
        return {
            "downloads": self.downloads,
            "refused": [
                {"item_id": one.item_id, "error": asdict(ErrorInfo.of(one.error))}
                for one in self.refused
            ],
            "bytes_total": self.quote.price.bytes_total,
            "bytes_to_fetch": self.quote.price.bytes_to_fetch,
            "bytes_free": self.quote.bytes_free,
            "portal_requests": self.quote.portal_requests,
            "expected_seconds": self.quote.expected_seconds,
        }


def dry_run(planned: Iterable[Planned], settings: Config) -> Plan:
    """Return the plan that a one-machine run would carry out; nothing is requested or written.

    A file counts as present when it is as the ledger of its folder verified it or, unknown there,
    when it has the size that the catalogue names: a run would hash that one.
    """
    sources = chosen(settings)
    plan = Plan(Quote.of(Price(), settings))
    requests = _requests(planned, plan, AddressPolicy(settings), sources)
    with OneMachine(settings, Path(settings.download_dir)).opened() as ledger:
        while block := list(itertools.islice(requests, BLOCK)):
            ids = [one.download_id for one in block]
            proofs = ledger.retention.proofs(ids) if ledger else {}
            for request in block:
                _add(plan, request, proofs.get(request.download_id), sources)
    return plan


def _requests(
    planned: Iterable[Planned], plan: Plan, addresses: AddressPolicy, sources: list[str]
) -> Iterator[Request]:
    """Yield each download once; add those that a run would refuse to the plan."""
    owners: dict[str, Request] = {}
    for one in planned:
        plan.refused.extend(one.refusals)
        for request in one.requests:
            owner = owners.setdefault(request.path, request)
            if owner is request:
                try:
                    _check_source(request, addresses, sources)
                except HrefRefusedError as error:
                    plan.refuse(request, error)
                else:
                    yield request
            elif owner.download_id != request.download_id:
                item, first = request.asset.item_id, owner.asset.item_id
                plan.refuse(request, NameTakenError(request.path, item, first))


def _check_source(request: Request, addresses: AddressPolicy, sources: list[str]) -> None:
    """Raise the error of a download that no source in use can serve."""
    hrefs = request.asset.hrefs
    if S3 in hrefs and S3 in sources:
        return
    if GEODES not in hrefs:
        raise no_source(request.asset)
    addresses.check_href(hrefs[GEODES])


def _add(plan: Plan, request: Request, proof: str | None, sources: list[str]) -> None:
    """Add a download to the plan and to its price."""
    asset, is_present = request.asset, False
    try:
        stat = Path(request.path).stat()
    except OSError:
        pass
    else:
        is_present = str(Proof.of(stat)) == proof if proof else stat.st_size == asset.size_bytes
    plan.quote.price.add(asset, is_present=is_present)
    plan.downloads.append(
        {
            "item_id": asset.item_id,
            "asset_key": asset.key,
            "path": request.path,
            "size_bytes": asset.size_bytes,
            "checksum": str(asset.checksum) if asset.checksum else None,
            "source": next((one for one in sources if one in asset.hrefs), None),
            "present": is_present,
        }
    )
