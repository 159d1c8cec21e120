"""What most benches play in: files on a server, items that lead to them, Redis, one worker."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from celery import Celery

import geodes_tasks
from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from tests.bench.harness import ROOT, processor_s
from tests.servers import Process, RedisServer, WorkerProcess
from tests.standin.bodies import GeneratedBody, read
from tests.standin.items import build
from tests.standin.spec import ItemSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from geodes_tasks.client.batch import Batch
    from tests.standin.bodies import Body

KEY = "bench-key-of-no-use"
POLL_S = 0.02
Item = dict[str, Any]


def item(number: int, url: str, body: Body | None = None, md5: str | None = None) -> Item:
    """Make one item as the portal writes it, without a quicklook.

    Args:
        number: Names are made from it.
        url: Where its file is.
        body: Its bytes.
        md5: In place of the true one, for items whose bytes nobody asks for.
    """
    spec = ItemSpec(body=body, quicklook=False, endpoint_url=None, catalogue_md5=md5)
    return build(spec, url, number)[0]


def href_of(one: Item) -> str:
    """Give the address of an item's only file."""
    (asset,) = one["assets"].values()
    return str(asset["href"])


def publish(root: Path, url: str, count: int, size: int) -> list[Item]:
    """Make items, and put their files where a server of ``root`` finds them."""
    items = []
    for number in range(count):
        body = GeneratedBody(f"bench {number}", size)
        items.append(item(number, url, body))
        target = root / href_of(items[-1]).removeprefix(f"{url}/")
        target.parent.mkdir(parents=True)
        target.write_bytes(read(body))
    return items


def many(count: int, url: str = "http://127.0.0.1:9") -> Iterator[Item]:
    """Make items whose files nobody asks for, one at a time."""
    for number in range(count):
        yield item(number, url, md5=f"{number:032x}")


def write_lines(path: Path, items: Iterable[Item]) -> Path:
    """Write items to a file, one a line."""
    with path.open("w") as stream:
        stream.writelines(json.dumps(one) + "\n" for one in items)
    return path


class Cluster:
    """A private Redis, settings, and as many workers as are started."""

    def __init__(self, folder: Path, url: str = "http://127.0.0.1:9", **flags: Any) -> None:
        """Prepare; ``with`` starts the Redis.

        Args:
            folder: Where everything goes.
            url: Of the portal; by default nobody listens there.
            flags: Config that a bench wants otherwise.
        """
        self.folder, self._url, self._flags = folder, url, flags
        self.redis = RedisServer(folder / "redis")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the Redis."""
        self._stack.enter_context(self.redis)
        usual: dict[str, Any] = {
            "api_key": KEY,
            "portal_url": self._url,
            "s3_endpoint_url": "http://127.0.0.1:9",
            "redis_url": self.redis.url,
            "download_dir": self.folder / "files",
            "download_roots": (self.folder,),
            "quota": "off",
            "max_concurrent": 16,
        }
        self.settings = config.load(**usual | self._flags)
        self.ledger = Ledger.of(self.settings)
        self._stack.callback(self.ledger.connection.client.close)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop workers and Redis."""
        self._stack.close()

    def worker(self, slots: int = 16, name: str = "one") -> WorkerProcess:
        """Start a worker, ready for messages."""
        folder = self.folder / "workers"
        worker = WorkerProcess(self.settings, folder, name=name, concurrency=slots)
        self._stack.callback(worker.stop)
        return worker.start()

    def enqueue(self, items: Any, download_dir: Path | None = None) -> Batch:
        """Queue items, as a program would."""
        return geodes_tasks.enqueue(items, conf=self.settings, download_dir=download_dir)

    def seconds(self, items: Any, download_dir: Path | None = None) -> float:
        """Queue items and wait for the end of the last; every one has to succeed."""
        began = time.perf_counter()
        batch = self.enqueue(items, download_dir)
        while (status := batch.status()).unfinished:
            time.sleep(POLL_S)
        seconds = time.perf_counter() - began
        assert status.states["SUCCESS"] == status.total, status
        return seconds

    def commands(self) -> int:
        """Give how many commands Redis has carried out so far."""
        return int(self.ledger.connection.client.info("stats")["total_commands_processed"])

    def used_bytes(self) -> int:
        """Give the memory that the data of Redis takes."""
        return int(self.ledger.connection.client.info("memory")["used_memory"])


class PlainCelery:
    """A worker whose task does ``requests.get`` and nothing else, with a Redis of its own."""

    def __init__(self, folder: Path, pool: str, slots: int) -> None:
        """Start it, ready for messages."""
        folder.mkdir()
        self.redis = RedisServer(folder).start()
        self.environment = {"PLAIN_BROKER": self.redis.url}
        self.worker = Process(folder / "worker.log")
        command = [sys.executable, "-m", "celery", "-A", "tests.bench.peers.plain_celery"]
        command += ["worker", "--pool", pool, "--concurrency", str(slots), "--loglevel", "INFO"]
        self.worker.spawn(command, env=os.environ | self.environment, cwd=ROOT)
        self.worker.wait_for(" ready.")

    @property
    def processor_s(self) -> float:
        """Processor seconds of worker and Redis so far; not those of a worker's children."""
        return processor_s(self.worker.pid) + processor_s(self.redis.pid)

    def seconds(self, arguments: Sequence[str], task: str = "plain.fetch") -> float:
        """Send a message for each, and wait for the end of the last, which the log tells."""
        app = Celery("client", broker=self.redis.url)
        at = self.worker.log.stat().st_size
        began = time.perf_counter()
        for argument in arguments:
            app.send_task(task, (argument,), ignore_result=True)
        while self._succeeded(at) < len(arguments):
            assert self.worker.alive, self.worker.text[-3000:]
            time.sleep(POLL_S)
        app.close()
        return time.perf_counter() - began

    def _succeeded(self, at: int) -> int:
        """Count the tasks that the log, from a place on, tells the end of."""
        with self.worker.log.open() as log:
            log.seek(at)
            return log.read().count(" succeeded in ")

    def stop(self) -> None:
        """Stop both."""
        self.worker.stop()
        self.redis.close()
