"""The plan of a run that is only shown: what would be downloaded, what is present or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geodes_tasks.client.enqueue_admission import proof_at
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.member_prices import MemberPrices
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import BLOCK, Price, Quote
from geodes_tasks.errors import GeodesTasksError, HrefRefusedError, NameTakenError
from geodes_tasks.ledger import Refusal, Request
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.results import ErrorInfo
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
    """Return the plan that a one-machine run would carry out; nothing is downloaded.

    A file counts as present when it is as the ledger of its folder verified it or, unknown there,
    when it has the size that the catalogue names: a run would hash that one. Only for sets of
    members something is requested: directories of archives.

    Raises:
        ConfigError: a pattern of ``--members`` matches nothing in any archive.
    """
    sources = chosen(settings)
    plan = Plan(Quote.of(Price(), settings))
    requests = list(_requests(planned, plan, AddressPolicy(settings), sources))
    proofs = dict[str, str]()
    with OneMachine(settings, Path(settings.download_dir)).opened() as ledger:
        for at in range(0, len(requests) if ledger else 0, BLOCK):
            ids = [one.download_id for one in requests[at : at + BLOCK]]
            proofs |= ledger.retention.proofs(ids) if ledger else {}
        present = {
            one.download_id: proofs.get(one.download_id, "")
            for one in requests
            if _is_present(one, proofs.get(one.download_id))
        }
        if any(one.asset.members for one in requests):
            prices = MemberPrices(settings, ledger)
            prices.read([one for one in requests if one.download_id not in present])
            requests = [prices.cost(one, present.get(one.download_id)) for one in requests]
    for request in requests:
        _add(plan, request, sources, is_present=request.download_id in present)
    return plan


def _is_present(request: Request, proof: str | None) -> bool:
    found = proof_at(request.path, request.asset)
    if found is None:
        return False
    return str(found) == proof if proof else found.size_bytes == request.asset.size_bytes


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


def _add(plan: Plan, request: Request, sources: list[str], *, is_present: bool) -> None:
    """Add a download to the plan and to its price."""
    asset, price = request.asset, plan.quote.price
    bytes_before, requests_before = price.bytes_to_fetch, plan.quote.portal_requests
    price.add(request, is_present=is_present)
    plan.downloads.append(
        {
            "item_id": asset.item_id,
            "asset_key": asset.key,
            "path": request.path,
            "size_bytes": asset.size_bytes,
            "checksum": str(asset.checksum) if asset.checksum else None,
            "source": next((one for one in sources if one in asset.hrefs), None),
            "present": is_present,
            "by_ranges": request.cost is not None and request.cost.by_ranges,
            "bytes_to_fetch": price.bytes_to_fetch - bytes_before,
            "portal_requests": plan.quote.portal_requests - requests_before,
        }
    )
