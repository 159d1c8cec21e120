"""From items to admitted downloads: plan each item, refuse what cannot be, queue the rest."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from geodes_tasks import destination, stac
from geodes_tasks.config import masked
from geodes_tasks.errors import ConfigError, GeodesTasksError, ItemError, LedgerUnavailableError
from geodes_tasks.ledger import Admission, Refusal, Request
from geodes_tasks.results import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from geodes_tasks.app import Sender
    from geodes_tasks.asset import Asset
    from geodes_tasks.ledger import Ledger

BLOCK, FIRST_BLOCK = 400, 50
"""Downloads in one run of the admission script; items are never cut in two. The first are fewer, so
that workers begin early."""
AUTO = "auto"
_WORK = (Admission.NEW, Admission.AGAIN, Admission.JOINED)
"""What a worker is needed for."""
BATCH_NAME = 128
"""Characters of a batch's name, at most."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which assets of an item are wanted, from where, and where they go."""

    folder: Path
    """The download folder, absolute."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    layout: str = destination.DEFAULT_LAYOUT
    source: str = AUTO
    """``auto``, or the only source to use."""

    def __post_init__(self) -> None:
        """Refuse a layout that no item could fill.

        Raises:
            ConfigError: the layout cannot be used.
        """
        destination.check_layout(self.layout)


@dataclass(frozen=True, slots=True)
class Planned:
    """What became of one item: downloads to ask for, and what is refused."""

    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def folder(given: str | Path) -> Path:
    """Give a download folder in the one spelling that its files' ids are derived from.

    Symbolic links stay: a worker may see them elsewhere than this machine does.
    """
    return Path(os.path.normpath(Path(given).expanduser().absolute()))


def plan(
    found: Iterable[Mapping[str, Any] | GeodesTasksError], selection: Selection
) -> Iterator[Planned]:
    """Turn items, one after the other, into requests; what is wrong with one harms no other."""
    for item in found:
        if isinstance(item, GeodesTasksError):
            yield Planned(refusals=[Refusal(str(item.args[0]), "", "", item)])
        else:
            yield _plan_item(item, selection)


def _plan_item(item: Mapping[str, Any], selection: Selection) -> Planned:
    planned = Planned()
    try:
        assets = stac.assets(item, include=selection.include, exclude=selection.exclude)
    except ItemError as error:
        planned.refusals.append(_refusal(item, "", error))
        return planned
    # One of them keeps it for all: the item's place and time, for a report that is STAC again.
    whole: Mapping[str, Any] | None = item
    for asset in assets:
        try:
            asset = _from_source(asset, selection.source)
            path = destination.plan(asset, selection.folder, selection.layout).path
            planned.requests.append(Request(asset, path, whole))
            whole = None
        except (ItemError, ConfigError) as error:
            planned.refusals.append(_refusal(item, asset.key, error))
    return planned


def _refusal(item: Mapping[str, Any], key: str, error: GeodesTasksError) -> Refusal:
    return Refusal(stac.item_name(item), str(item.get("collection") or ""), key, error)


def _from_source(asset: Asset, source: str) -> Asset:
    """Keep only the href of the source that was asked for."""
    if source == AUTO:
        return asset
    if source not in asset.hrefs:
        has = ", ".join(sorted(asset.hrefs)) or "none"
        raise ItemError(asset.item_id, f"asset {asset.key!r} is not on {source} (it is on: {has})")
    return replace(asset, hrefs={source: asset.hrefs[source]})


@dataclass(slots=True)
class Receipt:
    """What was asked for and what became of it."""

    batch: str
    admissions: Counter[str] = field(default_factory=Counter)
    downloads: int = 0
    """Everything in the batch, refused ones included; a file named twice counts once."""
    errors: list[GeodesTasksError] = field(default_factory=list)
    """Why items were refused, the first few."""
    mostly_known: bool = False
    """Whether most of what was admitted last had been asked for before."""

    KEPT = 100

    def refused(self, errors: Iterable[GeodesTasksError]) -> None:
        """Note refusals."""
        for error in errors:
            self.admissions["refused"] += 1
            if len(self.errors) < self.KEPT:
                self.errors.append(error)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form of ``enqueue --json``."""
        counts = {str(name): self.admissions[name] for name in (*Admission, "refused")}
        counts["refused"] += counts.pop(Admission.TAKEN)
        problems = [{"message": str(error), "hint": error.hint} for error in self.errors]
        return {"batch": self.batch, "downloads": self.downloads, **counts, "errors": problems}


def check_batch_name(name: str) -> None:
    """Refuse a name under which a batch could not be found again, or that is another's key.

    Raises:
        ConfigError: what is wrong with it.
    """
    hint = "Give it a short name, for example --batch april."
    if not name.strip() or not name.isprintable() or len(name) > BATCH_NAME:
        problem = f"{stac.printable(name)!r} is no name: 1 to {BATCH_NAME} printable characters"
        raise ConfigError("--batch", problem, hint)
    if ":downloads" in name or ":ready" in name:
        raise ConfigError("--batch", f"{name!r} is what the ledger calls parts of a batch", hint)


@dataclass(frozen=True, slots=True)
class Rank:
    """How a batch shares its account with others."""

    priority: int = 0
    """Nothing of a lower one starts while a higher one has work."""
    weight: int = 1
    """Turns in a row among batches of one priority."""


def rank_of(priority: int | None, weight: int | None) -> Rank | None:
    """Give the rank that was asked for; None leaves a batch with the one it has."""
    if priority is None and weight is None:
        return None
    return Rank(priority or 0, weight or 1)


def new_batch_name() -> str:
    """Make a name that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def admit(
    planned: Iterable[Planned],
    batch: str,
    account: str,
    ledger: Ledger,
    sender: Sender,
    rank: Rank | None = None,
    on_work: Callable[[], None] | None = None,
) -> Receipt:
    """Admit everything, block by block, and send the first messages.

    Args:
        planned: What is asked for.
        batch: Its name.
        account: Who pays.
        ledger: Where it is admitted.
        sender: Of messages; the first go out as soon as there is something to do.
        rank: Of the batch; None is the usual one.
        on_work: Called when there is something to do for a worker, once.

    Raises:
        ConfigError: the batch cannot be called so.
        LedgerUnavailableError: Redis does not answer. Items are queued whole or not at all;
            saying the same again completes the batch.
    """
    check_batch_name(batch)
    if rank is not None:
        ledger.rank(batch, rank.priority, rank.weight)
    receipt, begun = Receipt(batch), False
    with _rare_collections():
        for block in _blocks(planned):
            _admit_block(block, account, ledger, receipt)
            if not begun and any(receipt.admissions[name] for name in _WORK):
                begun = True
                _call(ledger, sender)
                if on_work is not None:
                    on_work()
    if receipt.admissions:
        receipt.downloads = ledger.status(batch).total
    _call(ledger, sender)
    return receipt


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Have Python look for circles of objects less often: items make none, and are many."""
    if not _collections.acquire(blocking=False):
        yield  # another thread has seen to it, and knows what is usual
        return
    usual = gc.get_threshold()
    gc.set_threshold(usual[0] * 20, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        _collections.release()


_collections = threading.Lock()
"""Of the thread that has changed the collector, which is one for all."""


def _call(ledger: Ledger, sender: Sender) -> None:
    """Send messages for those that find a place soon."""
    try:
        sender.send(ledger.release())
    except OperationalError as error:
        raise LedgerUnavailableError(masked(ledger.url), str(error)) from error


def _blocks(planned: Iterable[Planned]) -> Iterator[Planned]:
    """Gather items into blocks worth a round trip."""
    block, enough = Planned(), min(BLOCK, FIRST_BLOCK)
    for one in planned:
        block.requests.extend(one.requests)
        block.refusals.extend(one.refusals)
        if len(block.requests) + len(block.refusals) >= enough:
            yield block
            block, enough = Planned(), BLOCK
    if block.requests or block.refusals:
        yield block


def _admit_block(block: Planned, account: str, ledger: Ledger, receipt: Receipt) -> None:
    ledger.refuse(receipt.batch, account, block.refusals)
    receipt.refused(refusal.error for refusal in block.refusals)
    answers = ledger.admit(
        receipt.batch, account, block.requests, proof_at, known=receipt.mostly_known
    )
    told = Counter([answer.admission for answer in answers if answer.error is None])
    receipt.mostly_known = told[Admission.NEW] < len(answers) / 2
    receipt.admissions.update(told)
    taken = [
        Refusal(request.asset.item_id, request.asset.collection, request.asset.key, answer.error)
        for request, answer in zip(block.requests, answers, strict=True)
        if answer.error is not None
    ]
    ledger.refuse(receipt.batch, account, taken)
    receipt.refused(refusal.error for refusal in taken)


def proof_at(path: str) -> Proof | None:
    """Give what a stat shows at a path now; None for nothing or nothing that can be looked at."""
    try:
        return Proof.of(os.stat(path))  # noqa: PTH116 - half the cost of Path.stat, per file
    except OSError:
        return None
