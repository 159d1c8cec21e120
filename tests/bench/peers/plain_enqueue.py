"""A loop of ``.delay()``: python plain_enqueue.py ITEMS.jsonl COUNT; says seconds and memory."""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from pathlib import Path

from tests.bench.peers.plain_celery import note

path, count = Path(sys.argv[1]), int(sys.argv[2])
began = time.perf_counter()
with path.open() as lines:
    for line in itertools.islice(lines, count):
        item = json.loads(line)
        (asset,) = item["assets"].values()
        href = asset["href"]
        target = f"/data/downloads/{item['collection']}/{asset['title']}"
        note.delay(item["id"], asset["title"], href, target, href.rsplit("/", 1)[1], 1 << 20)
seconds = time.perf_counter() - began
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
