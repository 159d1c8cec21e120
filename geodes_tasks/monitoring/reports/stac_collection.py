"""The report as a STAC ItemCollection: the files that are here, and where they came from."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from geodes_tasks.model.results import DownloadRecord

STAC_VERSION = "1.1.0"
FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
MEDIA_TYPES = {
    ".zip": "application/zip", ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff", ".nc": "application/netcdf",
    ".h5": "application/x-hdf5", ".gz": "application/gzip", ".tar": "application/x-tar",
    ".jp2": "image/jp2", ".xml": "application/xml", ".json": "application/json",
    ".jpg": "image/jpeg", ".png": "image/png",
}  # fmt: skip


def stac_lines(
    records: Iterable[DownloadRecord],
    footprint_of: Callable[[str], str | None],
    left_out: list[str] | None = None,
) -> Iterator[str]:
    """Write an ItemCollection, one item a line, with flat memory.

    Args:
        records: Those of one item one after the other, as a batch keeps them.
        footprint_of: Gives place and time of an item by its id, as ``footprint.footprint`` makes
            them; what a record has itself is left aside then.
        left_out: Takes the ids of items whose place and time nobody kept.
    """
    yield '{"type": "FeatureCollection", "features": ['
    comma = ""
    for item_id, grouped in groupby(records, key=lambda record: record.item_id):
        group = list(grouped)
        present = [record for record in group if record.state is State.SUCCESS]
        own = next((record.footprint for record in group if record.footprint), None)
        kept = (footprint_of(item_id) or own) if present else None
        if kept is not None:
            yield comma + json.dumps(stac_item(item_id, present, json.loads(kept)))
            comma = ","
        elif present and left_out is not None:
            left_out.append(item_id)
    yield "]}"


def stac_item(item_id: str, records: list[DownloadRecord], kept: dict[str, Any]) -> dict[str, Any]:
    """Make the item of files on this disk."""
    collection = records[0].collection
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [FILE_EXTENSION],
        "id": item_id,
        "geometry": kept.get("geometry"),
        "properties": kept["properties"],
        "links": _links(kept.get("self"), collection),
        "assets": {record.asset_key: _asset(record) for record in records},
    }
    if kept.get("geometry") is not None:
        item["bbox"] = kept["bbox"]
    if any(link["rel"] == "collection" for link in item["links"]):
        item["collection"] = collection
    else:
        item["properties"] = {**item["properties"], "geodes_tasks:collection": collection}
    return item


def _links(origin: str | None, collection: str) -> list[dict[str, str]]:
    """Point back to the catalogue. STAC allows a collection's name only beside a link to it."""
    if origin is None:
        return []
    links = [{"rel": "derived_from", "href": origin, "type": "application/geo+json"}]
    above, found, _ = origin.rpartition("/items/")
    if found and collection:
        links.append({"rel": "collection", "href": above, "type": "application/json"})
    return links


def _asset(record: DownloadRecord) -> dict[str, Any]:
    path = Path(record.path)
    asset: dict[str, Any] = {"href": record.path, "title": path.name, "roles": ["data"]}
    if media_type := MEDIA_TYPES.get(path.suffix.lower()):
        asset["type"] = media_type
    if record.size_bytes is not None:
        asset["file:size"] = record.size_bytes
    if record.checksum:
        asset["file:checksum"] = checksums.parse(record.checksum).multihash
    return asset
