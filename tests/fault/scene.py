"""A cluster in a test: portal, Redis, workers and their logs, with the questions tests ask."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geodes_tasks.client.enqueue
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import State
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.client.batch import Batch
    from geodes_tasks.model.results import DownloadRecord
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.servers import WorkerProcess
    from tests.standin import StandIn

KiB, MiB = 1 << 10, 1 << 20
TAIL_CHARS = 3000


class Scene:
    """What a test of faults holds in its hands."""

    def __init__(self, standin: StandIn, settings: Config, factory: WorkerFactory) -> None:
        self.standin, self.settings = standin, settings
        self.ledger = Ledger.of(settings)
        self.workers: list[WorkerProcess] = []
        self._factory = factory

    # --- begin -------------------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Change settings for whatever is started from now on."""
        self.settings = self.settings.replace(**values)
        self.close()
        self.ledger = Ledger.of(self.settings)

    def close(self) -> None:
        """Leave no connection behind."""
        self.ledger.connection.client.close()

    def end(self) -> None:
        """End all workers at once: waiting for a graceful stop after each test takes minutes."""
        for one in self.workers:
            one.kill()
        self.close()

    def worker(self, name: str, **options: Any) -> WorkerProcess:
        """Start a worker and wait until it takes messages."""
        started = self._factory(name, settings=self.settings, **options)
        self.workers.append(started)
        return started

    def items(self, count: int, size: int = MiB, **options: Any) -> list[dict[str, Any]]:
        """Add items to the portal's catalogue."""
        return [self.standin.add_item(size, **options) for _ in range(count)]

    def enqueue(self, *items: dict[str, Any], **options: Any) -> Batch:
        """Enqueue items."""
        return geodes_tasks.client.enqueue.enqueue(list(items), conf=self.settings, **options)

    # --- wait --------------------------------------------------------------------------------

    @property
    def logs(self) -> str:
        """The end of every worker's log, for the message of an assertion."""
        return "\n".join(f"--- {one.name}:\n{one.text[-TAIL_CHARS:]}" for one in self.workers)

    @property
    def logs_whole(self) -> str:
        """Every worker's log from its beginning."""
        return "".join(one.text for one in self.workers)

    def until(self, condition: Any, timeout_s: float, what: str) -> None:
        """Wait until something is so, or fail with the workers' logs."""
        try:
            wait_until(condition, timeout_s, what)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.logs}") from error

    def settled(self, batch: Batch, timeout_s: float) -> list[DownloadRecord]:
        """Wait until the batch is over, and give its records."""
        self.until(
            lambda: not batch.status().unfinished,
            timeout_s,
            f"{batch.id} is over; it is {batch.status().to_dict()}",
        )
        return batch.results()

    def fetched(self, item: dict[str, Any], size_bytes: int, timeout_s: float = 10.0) -> None:
        """Wait until so many bytes of an item are on disk in some part file."""
        self.until(
            lambda: any(path.stat().st_size >= size_bytes for path in self.parts(item)),
            timeout_s,
            f"{size_bytes} bytes on disk",
        )

    # --- look --------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return Path(self.settings.download_dir)

    def parts(self, item: dict[str, Any] | None = None) -> list[Path]:
        """Give the part files on disk, of one item or all."""
        name = item["properties"]["identifier"] if item else ""
        found = self.folder.rglob(f".geodes-tasks/{name}*")
        return [path for path in found if path.exists() and not path.name.endswith(".etag")]

    def leftovers(self) -> list[str]:
        """Name everything in the download folder that is no published file."""
        return sorted(str(path) for path in self.folder.rglob("*") if ".geodes-tasks" in str(path))

    def downloads(self, item: dict[str, Any]) -> int:
        """Count the GETs on an item's file."""
        return len(self.standin.downloads(item))

    def sent_bytes(self) -> int:
        """Count the body bytes that the portal has sent."""
        return sum(record.bytes_sent for record in self.standin.downloads())


def md5_of(path: Path) -> str:
    """Give the digest of a file."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def is_right(record: DownloadRecord) -> bool:
    """Tell whether a download ended well: proven bytes at the final name."""
    return record.state is State.SUCCESS and record.checksum == f"md5:{md5_of(Path(record.path))}"


def wrong(records: Sequence[DownloadRecord]) -> list[str]:
    """Describe the downloads that did not end well."""
    return [
        f"{one.item_id}: {one.state} {one.reason} {one.error} {list(one.history)}"
        for one in records
        if not is_right(one)
    ]


def errors_of(record: DownloadRecord) -> list[str]:
    """Give the errors in the history of a download."""
    return [str(entry["error"]) for entry in record.history]


def elapsed_since(began: float) -> float:
    """Give the seconds since a moment of the monotonic clock."""
    return time.monotonic() - began
