"""A run: items admitted and downloaded to their end, on this machine or by a cluster."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geodes_tasks.client import enqueue_admission
from geodes_tasks.client.batch import Batch
from geodes_tasks.client.enqueue_admission import Rank, Receipt
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import Quote, priced
from geodes_tasks.client.waiting import Waiting
from geodes_tasks.errors import KeyMissingError, in_folder
from geodes_tasks.ledger import FailureGroup, Ledger
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.formatting import human_bytes, plural
from geodes_tasks.model.results import BatchStatus, ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.terminal import View
from geodes_tasks.monitoring.wording import in_words
from geodes_tasks.settings.account_keys import spellings
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import Sender
from geodes_tasks.transports import chosen

MOST_CLASSES = 4
"""Number of classes of errors that are named, with two lines each: what is refused at the start and
what fails by the end of a run then have 18 lines at most, whatever the number of items."""
CHECKED = 200
"""Number of items that are looked at for a file that needs an API key, before a run starts."""


@dataclass(frozen=True, slots=True)
class Run:
    """A batch that was admitted, and what works on it."""

    batch: Batch
    receipt: Receipt
    machine: OneMachine | None = None
    """The server and worker of one-machine mode; None for a cluster."""

    @property
    def folder(self) -> Path | None:
        """The download folder of a private ledger; None for that of a cluster."""
        return self.machine.folder if self.machine is not None else None

    def watch(
        self,
        view: View,
        *,
        write: Callable[[str], None] = lambda _: None,
        max_wait_s: float | None = None,
    ) -> BatchStatus:
        """Show progress until the batch is finished, or all that is left waits for a key.

        Args:
            view: Where it is shown; entered here.
            write: Receives a line for each reason why downloads wait, once.
            max_wait_s: Seconds to wait when all that is left is on tape. None: for ever where a
                cluster works, not at all on one machine.

        Raises:
            PrivateProcessError: the private worker ended by itself.
            LedgerUnavailableError: Redis does not answer any more.
        """
        if max_wait_s is None:
            max_wait_s = math.inf if self.machine is None else 0.0
        return Waiting(
            self.batch.id, self.batch.ledger, view, write, "key", max_wait_s, self.machine,
            self.folder,
        ).run()  # fmt: skip

    def left(self) -> str:
        """Return one line about the rest of an interrupted batch."""
        status = self.batch.status()
        size = human_bytes(status.bytes_left)
        return f"{status.unfinished} of {plural(status.total, 'download')} ({size}) left"

    def stop(self) -> None:
        """Stop the private workers, if there are some: they release their downloads."""
        if self.machine is not None:
            self.machine.stop_workers()


def failure_lines(
    failures: Iterable[FailureGroup],
    where: str,
    batch: str = "BATCH",
    folder: Path | None = None,
) -> Iterator[str]:
    """Yield lines for each class of error: how many failed or wait, examples, what to do.

    Args:
        failures: The classes.
        where: What shows them all, for the last line.
        batch: Its name, for the commands that retry.
        folder: The download folder of a private ledger; None for that of a cluster.
    """

    def line(word: str, error: ErrorInfo) -> str:
        text = in_words(word, error)
        command = "geodes-tasks retry BATCH", f"geodes-tasks retry {shlex.quote(batch)}"
        return in_folder(text.replace(*command), folder)

    groups = sorted(failures, key=lambda group: -group.count)
    for group in groups[:MOST_CLASSES]:
        word = "refused" if group.is_refused else "failed"
        if group.state is not State.FAILURE:
            word = "waits" if group.count == 1 else "wait"
        if group.count == 1:
            # The other messages begin with the name of the item or the file.
            is_address = group.example.message.startswith("http")
            name = f": {group.items[0]}" if is_address and group.items else ""
            yield line(f"{word}{name}", group.example)
            continue
        yield line(f"{group.count} {word}", group.example)
        more = f" and {group.count - len(group.items)} more"
        yield f"  {', '.join(group.items)}{more if group.count > len(group.items) else ''}"
    if others := groups[MOST_CLASSES:]:
        count = sum(group.count for group in others)
        yield f"and {count} more, of {len(others)} other classes: see {where}"


def check_key(planned: Iterable[Planned], conf: Config) -> Iterable[Planned]:
    """Check that none of the first missing files needs a missing key; return what is planned.

    Raises:
        KeyMissingError: the portal alone has a missing file, and there is no API key.
    """
    if conf.key():
        return planned
    rest, usable = iter(planned), set(chosen(conf)) - {GEODES}
    first = list(itertools.islice(rest, CHECKED))
    for request in (request for one in first for request in one.requests):
        hrefs = request.asset.hrefs
        # Another host than the portal's gets no key, and needs none.
        at_portal = hrefs.get(GEODES, "").startswith(f"{conf.portal_url.rstrip('/')}/")
        if at_portal and not usable & hrefs.keys() and not Path(request.path).exists():
            error = KeyMissingError(conf.portal_url, conf.key_variable, "is not set")
            error.remedy = in_folder(error.remedy, Path(conf.download_dir))
            raise error
    return itertools.chain(first, rest)


@contextlib.contextmanager
def begun(
    planned: Iterable[Planned],
    folder: Path | None,
    conf: Config,
    name: str | None = None,
    on_price: Callable[[Quote], None] | None = None,
) -> Iterator[Run]:
    """Admit downloads to this machine, whose worker starts when it has work, or to a cluster.

    Args:
        planned: What to download.
        folder: The download folder on this machine; None for the cluster of the settings.
        conf: The user's configuration.
        name: Name of the batch; None makes one.
        on_price: As for :func:`admitted`.

    Raises:
        FolderBusyError, PrivateProcessError, ConfigError, LedgerUnavailableError: it cannot begin.
    """
    if folder is None:
        yield admitted(planned, conf, name, on_price=on_price)
        return
    with OneMachine(conf, folder) as machine:
        yield admitted(planned, machine.settings, name, machine, on_price=on_price)


def admitted(
    planned: Iterable[Planned],
    conf: Config,
    name: str | None = None,
    machine: OneMachine | None = None,
    rank: Rank | None = None,
    folder: Path | None = None,
    on_price: Callable[[Quote], None] | None = None,
) -> Run:
    """Admit downloads to the Redis of the settings.

    Args:
        planned: What to download.
        conf: The user's configuration.
        name: Name of the batch; None makes one.
        machine: Whose worker starts when there is something to do; None for a cluster.
        rank: Of the batch; None leaves it as it is.
        folder: Into which some worker must be allowed to write; None checks nothing.
        on_price: Receives the price before the first download is admitted; after the last one for
            a list that is not read first, and again when fewer files are present than thought.

    Raises:
        LedgerUnavailableError: Redis does not answer.
        ConfigError: no worker may write into ``folder``; or a pattern of members matches nothing.
    """
    ledger = Ledger.of(conf)
    ledger.connection.ping()
    if folder is not None:
        enqueue_admission.check_folder(folder, ledger)
    conf = conf.replace(account=known_account(ledger, conf.account))
    name = name or enqueue_admission.new_batch_name()
    begin: Callable[[], None] | None = machine.start_worker if machine is not None else None
    price = None
    planned, has_sets = _with_sets(planned)
    if on_price is not None or has_sets:
        planned, price = priced(planned, ledger, conf)
        if machine is not None and price is not None:
            missing = price.files - price.present
            begin = partial(machine.start_workers, missing, price.bytes_to_fetch)
        if on_price is not None and price is not None and price.files:
            on_price(Quote.of(price, conf))
    receipt = enqueue_admission.admit(
        planned, name, conf.account, ledger, Sender(conf), rank, begin
    )
    found = receipt.price
    if on_price is not None and found.files and (not price or price.present != found.present):
        on_price(Quote.of(found, conf))
    return Run(Batch(name, ledger, conf, is_empty=not receipt.downloads), receipt, machine)


def known_account(ledger: Ledger, account: str) -> str:
    """Return an account as the ledger has it: spellings that share a key share its limits."""
    known = spellings(account, ledger.dispatch.accounts())
    return account if account in known or not known else known[0]


def _with_sets(planned: Iterable[Planned]) -> tuple[Iterable[Planned], bool]:
    """Return what is planned, and whether it is sets of members: all of it is, or none."""
    rest, first = iter(planned), list[Planned]()
    for one in rest:
        first.append(one)
        if one.requests:
            break
    is_set = any(request.asset.members for one in first for request in one.requests)
    return itertools.chain(first, rest), is_set
