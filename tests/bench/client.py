"""What a client of ours costs, in a process of its own: python -m tests.bench.client VERB ...

``enqueue ITEMS.jsonl FOLDER`` says seconds, memory, bytes read, and the counts of the batch;
``queue URL ITEMS.json FOLDER`` runs a DownloadQueue twice on this machine and says its seconds.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import geodes_tasks
from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.geodes import Geodes
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config


def bytes_read() -> int:
    """Give how many bytes this process has read from files so far, cached ones included."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def enqueue(items: str, folder: str) -> None:
    """Queue a file of items."""
    settings = config.load()
    with Path(items).open() as lines:
        first = json.loads(lines.readline())
    # Imports, connections and the ledger's scripts, read anew each time, are not the question.
    for _ in range(2):
        read = bytes_read()
        geodes_tasks.enqueue(first, download_dir=folder, conf=settings)
        aside = bytes_read() - read
    read, began = bytes_read(), time.perf_counter()
    batch = geodes_tasks.enqueue(items, download_dir=folder, conf=settings)
    seconds, read = time.perf_counter() - began, bytes_read() - read - aside
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": seconds, "memory_mib": memory, "read_bytes": read}
    print(json.dumps(told | {"batch": batch.id, "states": dict(batch.status().states)}))


def queue(url: str, items: str, folder: str) -> None:
    """Run a queue twice, as a user of pygeodes would."""
    conf = Config(
        api_key="bench-key-of-no-use", portal_url=url, quota="off",
        s3_endpoint_url="http://127.0.0.1:9",
    )  # fmt: skip
    Geodes(conf)
    found = [Item.from_dict(one) for one in json.loads(Path(items).read_text())]
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        status = DownloadQueue(found, download_dir=folder).run()
        seconds.append(time.perf_counter() - began)
        assert status.states["SUCCESS"] == len(found), status
    print(json.dumps(seconds))


if __name__ == "__main__":
    if sys.argv[1] == "enqueue":
        enqueue(*sys.argv[2:])
    else:
        queue(*sys.argv[2:])
