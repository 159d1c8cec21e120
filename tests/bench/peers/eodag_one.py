"""One product with eodag's GEODES provider: python eodag_one.py HREF KEY FOLDER; says its seconds.

eodag compares no checksum here: it only fetches.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

href, key, folder = sys.argv[1:]
os.environ["EODAG_CFG_DIR"] = folder

from eodag import EODataAccessGateway, EOProduct  # noqa: E402 - it reads its settings when imported

gateway = EODataAccessGateway()
gateway.update_providers_config(dict_conf={"geodes": {"auth": {"credentials": {"apikey": key}}}})
product = EOProduct(
    "geodes",
    {
        "id": "bench",
        "title": "bench",
        "geometry": "POINT (1 43)",
        "eodag:download_link": href,
        "order:status": "succeeded",
    },
    collection="S2_MSI_L1C",
)
product.register_downloader(gateway._plugins_manager.get_download_plugin(product), None)
began = time.perf_counter()
path = product.download(output_dir=str(Path(folder) / "files"), extract=False)
seconds = time.perf_counter() - began
assert path
print(json.dumps(seconds))
