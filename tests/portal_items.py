"""Real items of the portal, where their folder is at hand, and the form that eodag 3 writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
FILES = sorted(path for path in REAL.glob("*.json") if re.match(r"PEPS|THEIA", path.name))
"""Search results of eleven collections, from 2024 to 2026."""
EODAG_3 = {
    "start_datetime": "startTimeFromAscendingNode",
    "end_datetime": "completionTimeFromAscendingNode",
    "eo:cloud_cover": "cloudCover",
    "dataset": "productType",
    "platform": "platformSerialIdentifier",
    "identifier": "title",
}


def real_items() -> Iterator[dict[str, Any]]:
    """Yield every real item, fresh from its file."""
    for path in FILES:
        yield from json.loads(path.read_text())["features"]


def as_eodag_3(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as eodag 3.10.2 wrote it when it was served the real items.

    It lost the identifier in keys and titles, gave archives the role auxiliary (where it knows the
    collection) and overview tifs the role data, and renamed properties and quicklooks.
    """
    given = item["properties"]
    identifier = given["identifier"]
    properties = {EODAG_3.get(name, name): value for name, value in given.items()}
    tile = str(properties.pop("grid:code", "")).removeprefix("T")
    archive = next(a for a in item["assets"].values() if "data" in a["roles"])
    properties |= {"uid": item["id"], "downloadLink": archive["href"], "tileIdentifier": tile}
    assets = {}
    for key, asset in item["assets"].items():
        known = key.rpartition("/")[2].removeprefix(identifier).lstrip("._") or key
        role = {"tif": "data", "xml": "metadata"}.get(known.rpartition(".")[2], "auxiliary")
        assets[known] = {**asset, "title": known, "roles": [role]}
    return {
        "type": "Feature",
        "id": identifier,
        "geometry": item["geometry"],
        "properties": properties | {"eodag_provider": "geodes", "_id": "S2_MSI_L1C"},
        "assets": assets,
    }
