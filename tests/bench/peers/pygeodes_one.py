"""One item with pygeodes: python pygeodes_one.py URL KEY ITEM.json FOLDER; says its seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pygeodes import Config, Geodes
from pygeodes.utils.profile import Profile
from pygeodes.utils.stac import Item

url, key, item_file, folder = sys.argv[1:]
Path(folder).mkdir(parents=True, exist_ok=True)
# Its list of downloads lies in its package: two that run at once would break each other's.
Profile._filepath = f"{folder}/profile.json"
geodes = Geodes(
    conf=Config(api_key=key, download_dir=folder, use_async_requests=False), base_url=url
)
item = Item.from_dict(json.loads(Path(item_file).read_text()))
began = time.perf_counter()
geodes.download_item_archive(item)
print(json.dumps(time.perf_counter() - began))
