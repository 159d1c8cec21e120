"""Items with pygeodes' queue: python pygeodes_queue.py URL KEY ITEMS.json FOLDER RUNS."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pygeodes import Config, Geodes
from pygeodes.utils.profile import DownloadQueue, Profile
from pygeodes.utils.stac import Item

url, key, items_file, folder, runs = sys.argv[1:]
Path(folder).mkdir(parents=True)
# Its list of downloads lies in its package: two that run at once would break each other's.
Profile._filepath = str(Path(items_file).with_name("profile.json"))
Profile.reset()
Geodes(conf=Config(api_key=key, download_dir=folder, use_async_requests=False), base_url=url)
items = [Item.from_dict(one) for one in json.loads(Path(items_file).read_text())]
seconds = []
for _ in range(int(runs)):
    began = time.perf_counter()
    DownloadQueue(items, download_dir=folder).run()
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
