"""Files by our engine, verified: ours.py SPEC.json FOLDER THREADS SOURCE; says its seconds.

Many small files are shared by a process a core, bound to it, as a worker binds itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.settings import config
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transports import create

Row = tuple[str, str, int]

MANY_FILES = 400
"""Number of files from which one-machine mode has a worker a core (client.local_server)."""

spec, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
threads, source = sys.argv[3:]
transport = create(source, config.load())
cores = sorted(os.sched_getaffinity(0)) if len(spec) >= MANY_FILES else [0]
processes = len(cores)


def fetch(row: Row) -> None:
    """Fetch one file and prove it."""
    href, md5, size = row
    name = href.rsplit("/", 1)[1]
    asset = Asset(
        item_id=name, collection="bench", key=name, title=name, hrefs={source: href},
        size_bytes=size, checksum=Checksum("md5", md5),
    )  # fmt: skip
    assert transfer.download(asset, folder / name, {source: transport}).verified


def fetch_share(number: int) -> None:
    """Fetch this process's share of the files, with its share of the threads, on its core."""
    os.sched_setaffinity(0, {cores[number]})
    fetch_all(spec[number::processes])


def fetch_all(rows: list[Row]) -> None:
    """Fetch files, several at once."""
    with ThreadPoolExecutor(int(threads) // processes) as pool:
        list(pool.map(fetch, rows))


began = time.perf_counter()
if processes == 1:
    fetch_all(spec)
else:
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(fetch_share, range(processes)))
print(json.dumps(time.perf_counter() - began))
