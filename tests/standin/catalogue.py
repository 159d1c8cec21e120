"""The catalogue: items, the files behind their hrefs, and the collections they form."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from typing import Any

from tests.standin.bodies import Body
from tests.standin.items import build
from tests.standin.spec import Item, ItemSpec, ServedFile

# Collections that exist whether or not they hold an item here.
COLLECTIONS = (
    "PEPS_S1_L1", "PEPS_S1_L2", "PEPS_S2_L1C", "PEPS_S3_L1", "THEIA_REFLECTANCE_SENTINEL2_L2A",
    "THEIA_REFLECTANCE_SENTINEL2_L3A", "THEIA_REFLECTANCE_LANDSAT8_L2A",
    "THEIA_REFLECTANCE_VENUS_VM1_L2A", "THEIA_REFLECTANCE_VENUS_VM1_L3A",
    "THEIA_SNOW_SENTINEL2_L2B", "THEIA_WATERQUAL_SENTINEL2_L2B", "THEIA_OSO_RASTER_L3B",
    "THEIA_OSO_VECTOR_L3B", "SWH_SPOT123_L1", "SWH_SPOT4_L1", "SWH_SPOT5_L1",
    "THEIA_POSTEL_VEGETATION_LAI",
)  # fmt: skip


class Catalogue:
    """Everything the portal knows of, seeded by the tests."""

    def __init__(self) -> None:
        self.version = 0
        self._items: dict[str, Item] = {}
        self._files: dict[tuple[str, str], ServedFile] = {}
        self._named: defaultdict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        self._lock = threading.RLock()

    def add(self, spec: ItemSpec, url: str) -> Item:
        """Build an item, keep it with its files, and return it."""
        with self._lock:
            item, files = build(spec, url, self.version + 1)
            return self.keep(item, files)

    def keep(self, item: Item, files: list[ServedFile]) -> Item:
        """Keep an item with its files, and return it."""
        with self._lock:
            self._items[item["id"]] = item
            self._keep(files)
            self.version += 1
        return item

    def _keep(self, files: list[ServedFile]) -> None:
        """Make files findable by their href and by their names."""
        for file in files:
            place = file.urn, file.md5
            self._files[place] = file
            for name in file.names:
                self._named[name][place] = None

    def clear(self) -> None:
        """Forget every item and file."""
        with self._lock:
            self._items, self._files = {}, {}
            self._named.clear()
            self.version += 1

    def items(self) -> list[Item]:
        """Return every item in the order in which they were added."""
        with self._lock:
            return list(self._items.values())

    def item(self, urn: str) -> Item | None:
        """Return an item by its id, or None."""
        return self._items.get(urn)

    def file(self, urn: str, md5: str) -> ServedFile | None:
        """Return a file by the two parts of its href, or None."""
        return self._files.get((urn, md5))

    def files(self, name: str) -> list[ServedFile]:
        """Return the files that go by a digest, an item's id or a product's name."""
        with self._lock:
            return [self._files[place] for place in self._named.get(name, {})]

    def replace_body(self, name: str, body: Body) -> None:
        """Change what the archives of that name hold, and leave the catalogue as it was."""
        with self._lock:
            for file in self.files(name):
                if file.archive:
                    self._files[file.urn, file.md5] = replace(file, body=body)

    def collections(self, url: str) -> list[dict[str, Any]]:
        """Return every collection: the known ones, and those that items brought in."""
        counts: dict[str, int] = dict.fromkeys(COLLECTIONS, 0)
        for item in self.items():
            counts[item["collection"]] = counts.get(item["collection"], 0) + 1
        return [_collection(name, count, url) for name, count in counts.items()]


def _collection(name: str, count: int, url: str) -> dict[str, Any]:
    """Return one collection in the portal's shape."""
    stac = f"{url}/api/stac"
    times: list[list[str | None]] = [["2014-04-03T00:00:00Z", None]]
    return {
        "type": "Collection",
        "stac_version": "1.0.0-beta.2",
        "stac_extensions": [],
        "id": name,
        "title": name,
        "description": f"{name} products",
        "keywords": name.split("_"),
        "license": "proprietary",
        "providers": [{"name": "CNES", "roles": ["host"], "url": "https://cnes.fr"}],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": times}},
        "summaries": {"total_items": count, "dataset": [name]},
        "links": [
            {"rel": "self", "href": f"{stac}/collections/{name}", "type": "application/json"},
            {"rel": "root", "href": stac, "type": "application/json"},
        ],
    }
