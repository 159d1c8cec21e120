"""Members of items with pygeodes: python pygeodes_members.py URL KEY ITEMS.json FOLDER REGEX."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pygeodes import Config, Geodes
from pygeodes.utils.stac import Item

url, key, items_file, folder, pattern = sys.argv[1:]
Path(folder).mkdir(parents=True)
geodes = Geodes(
    conf=Config(api_key=key, download_dir=folder, use_async_requests=False), base_url=url
)
items = [Item.from_dict(one) for one in json.loads(Path(items_file).read_text())]
began = time.perf_counter()
for item in items:
    geodes.download_item_files(item, pattern=pattern)
print(json.dumps(time.perf_counter() - began))
