"""Files by our engine, verified: ours.py SPEC.json FOLDER THREADS SOURCE; says its seconds."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.settings import config
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transports import create

spec, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
threads, source = sys.argv[3:]
transport = create(source, config.load())


def fetch(row: tuple[str, str, int]) -> None:
    """Fetch one file and prove it."""
    href, md5, size = row
    name = href.rsplit("/", 1)[1]
    asset = Asset(
        item_id=name, collection="bench", key=name, title=name, hrefs={source: href},
        size_bytes=size, checksum=Checksum("md5", md5),
    )  # fmt: skip
    assert transfer.download(asset, folder / name, {source: transport}).verified


began = time.perf_counter()
with ThreadPoolExecutor(int(threads)) as pool:
    list(pool.map(fetch, spec))
print(json.dumps(time.perf_counter() - began))
