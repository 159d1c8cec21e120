"""Planned downloads into the ledger: refuse what cannot be, queue the rest, call workers."""

from __future__ import annotations

import contextlib
import gc
import getpass
import logging
import os
import secrets
import socket
import stat
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import Price
from geodes_tasks.errors import ConfigError, GeodesTasksError
from geodes_tasks.ledger import Admission, FailureGroup, Refusal
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.results import ErrorInfo, Proof
from geodes_tasks.model.states import State
from geodes_tasks.transfer import multi_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.model.asset import Asset
    from geodes_tasks.tasks.app import Sender

logger = logging.getLogger(__name__)

BLOCK, FIRST_BLOCK = 400, 50
"""Downloads in one run of the admission script; items are never cut in two. The first are fewer, so
that workers begin early."""
_WORK = (Admission.NEW, Admission.AGAIN, Admission.JOINED)
"""States and outcomes that need a worker."""
BATCH_NAME = 128
"""Characters of a batch's name, at most."""
EXAMPLES = 3
"""Number of items named for one class of refusals."""


@dataclass(slots=True)
class Receipt:
    """The result of an admission: counts of requests by admission, and refused items."""

    batch: str
    admissions: Counter[str] = field(default_factory=Counter)
    downloads: int = 0
    """Everything in the batch, refused ones included; a file named twice counts once."""
    errors: list[GeodesTasksError] = field(default_factory=list)
    """Why items were refused, the first few."""
    refusals: dict[str, FailureGroup] = field(default_factory=dict)
    """The refused items by class of their errors."""
    mostly_known: bool = False
    """True when most of the last block was present or under way: ids alone are sent then."""

    price: Price = field(default_factory=Price)
    """Files, bytes and requests of the admitted downloads."""
    bytes_total: int = 0
    """Bytes of everything in the batch; those of unknown size count as none."""

    KEPT = 100

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """Note refusals."""
        self.admissions["refused"] += len(refusals)
        self.errors += [one.error for one in refusals][: self.KEPT - len(self.errors)]
        add_by_class(self.refusals, refusals)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``enqueue --json``."""
        counts = {str(name): self.admissions[name] for name in (*Admission, "refused")}
        counts["refused"] += counts.pop(Admission.TAKEN)
        problems = [{"message": str(error), "hint": error.hint} for error in self.errors]
        totals = {"downloads": self.downloads, "bytes_total": self.bytes_total}
        return {"batch": self.batch, **totals, **counts, "errors": problems}


def add_by_class(groups: dict[str, FailureGroup], refusals: Iterable[Refusal]) -> None:
    """Add refusals to the groups of their classes, with a few items of each as examples."""
    for one in refusals:
        kind = type(one.error).__name__
        group = groups.get(kind) or FailureGroup(
            State.FAILURE, kind, 0, ErrorInfo.of(one.error), one.item_id, is_refused=True
        )
        items = (*group.items, one.item_id)[:EXAMPLES]
        groups[kind] = replace(group, count=group.count + 1, items=items)


def check_batch_name(name: str) -> None:
    """Refuse a name under which a batch could not be found again, or that is another's key.

    Raises:
        ConfigError: what is wrong with it.
    """
    hint = "Give it a short name, for example --batch april."
    if not name.strip() or not name.isprintable() or len(name) > BATCH_NAME:
        problem = f"{printable(name)!r} is no name: 1 to {BATCH_NAME} printable characters"
        raise ConfigError("--batch", problem, hint)
    if name.startswith("-"):
        raise ConfigError("--batch", f"{name!r} is an option where a command names the batch", hint)
    if ":downloads" in name or ":ready" in name:
        raise ConfigError("--batch", f"{name!r} is what the ledger calls parts of a batch", hint)


@dataclass(frozen=True, slots=True)
class Rank:
    """How a batch shares its account with others."""

    priority: int = 0
    """Nothing of a lower one starts while a higher one has work."""
    weight: int = 1
    """Turns for one turn of a batch of weight 1 and the same priority."""


def rank_of(priority: int | None, weight: int | None) -> Rank | None:
    """Return the rank from the options; None leaves a batch with the rank it has.

    Raises:
        TypeError: one of them is no whole number.
        ValueError: one of them is out of its range.
    """
    ranges = {"priority": (priority, -9, 9), "weight": (weight, 1, 100)}
    for name, (value, least, most) in ranges.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name} is a whole number, not {value!r}")
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} is from {least} to {most}, not {value}")
    if priority is None and weight is None:
        return None
    return Rank(priority or 0, weight or 1)


def current_owner() -> str:
    """Return ``user@host`` of this process: the owner of the batches that it enqueues."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return printable(f"{user}@{socket.gethostname()}")


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
        planned: The plans of the items.
        batch: Name of the batch.
        account: The account whose limits count.
        ledger: The ledger that admits them.
        sender: Sends the wake-up messages; the first as soon as a worker has something to do.
        rank: Priority and weight of the batch; None leaves them as they are.
        on_work: Called once, when a worker has something to do: it starts one, which sends the
            messages of a few downloads. None where workers run.

    Raises:
        ConfigError: the name of the batch cannot be used.
        LedgerUnavailableError: Redis does not answer. An item is admitted whole or not at all;
            enqueueing the same items again completes the batch.
    """
    check_batch_name(batch)
    if rank is not None:
        ledger.control.prioritize(batch, rank.priority, rank.weight)
    receipt, has_begun = Receipt(batch), False
    under_way: Callable[[], None] | None = None

    def count() -> None:
        nonlocal under_way, has_begun
        if under_way is None:
            return
        results, under_way = under_way, None
        results()
        if not has_begun and any(receipt.admissions[name] for name in _WORK):
            has_begun = True
            if not is_few:
                sender.wake(ledger)
            if on_work is not None:
                on_work()

    # A worker that starts after the only block sends the messages itself. So this process, which
    # has one small file at times, need not load Celery: that takes a quarter of its time.
    is_few = False
    with _rare_collections():
        try:
            # While Redis admits a block, the next one is planned: that saves a third of the time.
            for number, block in enumerate(_blocks(planned)):
                count()
                is_only = not number and len(block.requests) + len(block.refusals) < FIRST_BLOCK
                is_few = is_only and on_work is not None
                under_way = _send_block(block, account, ledger, receipt)
                if number == 0:
                    # Workers wait for this one.
                    count()
                    ledger.admission.set_owner(batch, current_owner())
        except Exception:
            # Of the items: what was planned before it is admitted.
            count()
            raise
        count()
    ledger.admission.end(batch)
    if receipt.admissions:
        status = ledger.reading.status(batch)
        receipt.downloads, receipt.bytes_total = status.total, status.bytes_total
    if not is_few:
        sender.wake(ledger)
    if ledger.connection.replicas_confirm() is False:
        logger.warning(
            "no replica of Redis confirmed batch %s within a second: if the primary is lost now, "
            "enqueue the same items again",
            batch,
            extra={"action": "not_replicated", "batch": batch},
        )
    return receipt


def check_folder(folder: Path, ledger: Ledger) -> None:
    """Check that a worker of a cluster may write into a folder, as far as workers have published.

    Raises:
        ConfigError: none of them may.
    """
    allowed = ledger.dispatch.published("folders")
    # A link may lead elsewhere on the workers' machines: one right spelling is enough here, and
    # the worker checks its own.
    spellings = {folder, Path(os.path.realpath(folder))}
    if allowed and not any(one.is_relative_to(root) for one in spellings for root in allowed):
        below = " or ".join(sorted(allowed))
        problem = f"no worker may write into {folder}: they write below {below} only"
        hint = "Download into such a folder, or start the workers with this one in the setting."
        raise ConfigError("GEODES_TASKS_DOWNLOAD_ROOTS", problem, hint)


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Run the garbage collector less often: items are many and make no reference cycles."""
    if not _collections.acquire(blocking=False):
        yield  # another thread has changed it, and restores it
        return
    usual = gc.get_threshold()
    gc.set_threshold(usual[0] * 20, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        _collections.release()


_collections = threading.Lock()
"""Held by the thread that changed the garbage collector, which all threads share."""


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


def _send_block(
    block: Planned, account: str, ledger: Ledger, receipt: Receipt
) -> Callable[[], None]:
    """Send a block to be admitted; return a function that counts the results in the receipt."""

    def refuse(refusals: list[Refusal]) -> None:
        ledger.admission.refuse(receipt.batch, account, refusals)
        receipt.refused(refusals)

    def count() -> None:
        counts, taken = Counter[str](), list[Refusal]()
        answers = results()
        for answer, request in zip(answers, block.requests, strict=True):
            if answer.error is not None:
                asset = request.asset
                taken.append(Refusal(asset.item_id, asset.collection, asset.key, answer.error))
                continue
            counts[answer.admission] += 1
            receipt.price.add(request, is_present=answer.admission is Admission.PRESENT)
        # Facts of what begins anew are sent too, so that its id alone would be one call more.
        in_full = counts[Admission.NEW] + counts[Admission.AGAIN]
        receipt.mostly_known = in_full < len(answers) / 2
        receipt.admissions.update(counts)
        refuse(taken)

    refuse(block.refusals)
    results = ledger.admission.admit(
        receipt.batch,
        account,
        block.requests,
        lambda request: proof_at(request.path, request.asset),
        known=receipt.mostly_known,
    )
    return count


def proof_at(path: str, asset: Asset) -> Proof | None:
    """Return the proof of a file or folder as it is now; None where the asset is no such thing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, per file
        is_folder = stat.S_ISDIR(found.st_mode)
        # With some layouts an archive and its folder have one path. A folder at the source has no
        # checksum.
        if not is_folder if asset.unpack else is_folder and asset.checksum:
            return None
        return multi_object.proof_of(Path(path)) if is_folder else Proof.of(found)
    except OSError:
        return None
