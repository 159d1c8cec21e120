"""The report as a STAC ItemCollection: the files on disk and their origin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State

STAC_VERSION = "1.1.0"
CRC32_MULTIHASH = "b20204"
"""Multihash prefix of a CRC-32: code 0x0132 as a varint, then its length of 4 bytes.
Source: https://github.com/multiformats/multicodec/blob/master/table.csv"""
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
    """Yield an ItemCollection, an item a line, in constant memory.

    Args:
        records: Records in the order of a batch, those of one item in a row.
        footprint_of: Returns geometry and time of an item by its id, as ``footprint.footprint``
            makes them; None: the record's own footprint is used.
        left_out: Receives the ids of items on disk without geometry and time.
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
    """Return the STAC Item of the files of one item on disk.

    Source: STAC 1.1.0 item specification; file extension 2.1.0 for size and checksum.
    """
    collection = records[0].collection
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [FILE_EXTENSION],
        "id": item_id,
        "geometry": kept.get("geometry"),
        "properties": kept["properties"],
        "links": _links(kept.get("self"), collection),
        "assets": {key: asset for record in records for key, asset in _assets(record)},
    }
    # STAC requires a bbox with a geometry, and forbids it without (item-spec, "bbox").
    if kept.get("geometry") is not None:
        item["bbox"] = kept["bbox"]
    if any(link["rel"] == "collection" for link in item["links"]):
        item["collection"] = collection
    else:
        item["properties"] = {**item["properties"], "geodes_tasks:collection": collection}
    return item


def _links(origin: str | None, collection: str) -> list[dict[str, str]]:
    """Return links to the item in the catalogue and to its collection."""
    if origin is None:
        return []
    links = [{"rel": "derived_from", "href": origin, "type": "application/geo+json"}]
    # STAC allows the field `collection` only together with this link (item-spec, "collection").
    above, found, _ = origin.rpartition("/items/")
    if found and collection:
        links.append({"rel": "collection", "href": above, "type": "application/json"})
    return links


def _assets(record: DownloadRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield key and asset of a file, or of each file of a set of members."""
    if not record.members:
        yield record.asset_key, _asset(record)
    for member in record.members:
        one = replace(record, path=member.path, size_bytes=member.size_bytes, checksum=None)
        checksum = {"file:checksum": CRC32_MULTIHASH + member.crc32}
        yield os.path.relpath(member.path, record.path), _asset(one) | checksum


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
