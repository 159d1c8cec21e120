"""What is kept of an item beside its asset, so that a report can be STAC again: small and true."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from geodes_tasks.model import json as jsontext

KEPT = (
    "datetime", "start_datetime", "end_datetime", "platform", "eo:cloud_cover", "grid:code",
    "processing:level", "product:type", "sat:orbit_state", "sat:relative_orbit",
)  # fmt: skip
"""Properties that later work chooses files by; the rest stays in the catalogue."""
TIMES = ("datetime", "start_datetime", "end_datetime")
GEOMETRY_BYTES = 1500
"""A longer geometry gives way to the box around it, and a property says so."""
BOXED = "geodes_tasks:geometry"
DIGITS = 6
"""Of a degree: a tenth of a metre."""
DEEPEST = 8
"""Lists within lists of coordinates; GeoJSON has four."""
LARGEST = 1e7
"""Degrees and heights in metres are smaller; what is not, is no coordinate."""


def footprint(item: Mapping[str, Any]) -> str | None:
    """Give compact JSON of place, time and origin of an item, below 3 KiB.

    None when the item has no time: then no valid STAC can be made of it.
    """
    known = item.get("properties")
    known = known if isinstance(known, Mapping) else {}
    properties = {name: known[name] for name in KEPT if _is_plain(known.get(name))}
    for name in TIMES:
        if not _is_time(properties.get(name)):
            properties.pop(name, None)
    if not ("datetime" in properties or {"start_datetime", "end_datetime"} <= set(properties)):
        return None
    properties.setdefault("datetime", None)
    geometry, box = _geometry(item)
    where = jsontext.compact(geometry)
    if geometry is not None and len(where) > GEOMETRY_BYTES and box:
        where = jsontext.compact(_around(box))
        properties[BOXED] = "bbox"
    place = f'"geometry":{where},"bbox":{jsontext.compact(box)},' if geometry is not None else ""
    origin = _origin(item)
    source = f',"self":{jsontext.compact(origin)}' if origin is not None else ""
    return f'{{{place}"properties":{jsontext.compact(properties)}{source}}}'


_WORDS = (
    b'{"geometry":{"type":"MultiPolygon","coordinates":[[[{"geometry":{"type":"Polygon",'
    b'"coordinates":[[[]]]},"bbox":[],"properties":{"datetime":"2025-01-02T03:04:05.678Z",'
    b'"start_datetime":"2024-01-02T03:04:05.678Z","end_datetime":"2023-01-02T03:04:05.678Z",'
    b'"platform":"S2A","eo:cloud_cover":12.5,"grid:code":"T31TCJ","processing:level":"L1C",'
    b'"product:type":"S2MSI1C","sat:orbit_state":"Descending","sat:relative_orbit":141},'
    b'"self":"https://geodes-portal.cnes.fr/api/stac/collections/PEPS_S2_L1C/items/'
    b"URN:FEATURE:DATA:gdh:"
)
"""Words that most footprints have; packed ones need not repeat them. What is packed with one text
cannot be read with another: a change is a new schema of the ledger."""


def packed(kept: str) -> str:
    """Make a footprint small, for the ledger: some 220 bytes in place of 720."""
    squeezed = zlib.compressobj(9, wbits=-12, memLevel=5, zdict=_WORDS)
    return base64.b64encode(squeezed.compress(kept.encode()) + squeezed.flush()).decode()


def unpacked(text: str) -> str:
    """Give back what was packed."""
    data = base64.b64decode(text)
    return zlib.decompressobj(wbits=-15, zdict=_WORDS).decompress(data).decode()


def _is_plain(value: object) -> bool:
    return len(value) <= 64 if isinstance(value, str) else _is_number(value)


def _is_time(value: object) -> bool:
    """Tell whether this is a time as RFC 3339 has it, with its zone."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _origin(item: Mapping[str, Any]) -> str | None:
    links = item.get("links")
    for link in links if isinstance(links, Sequence) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self":
            href = link.get("href")
            return href if isinstance(href, str) and len(href) <= 512 else None
    return None


# --- where ---------------------------------------------------------------------------------------


def _geometry(item: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Give geometry and box, both or none: STAC asks for a box exactly where a geometry is."""
    geometry = item.get("geometry")
    if not isinstance(geometry, Mapping) or not isinstance(geometry.get("type"), str):
        return None, None
    coordinates = _unwrapped(str(geometry["type"]), _rounded(geometry.get("coordinates")))
    points = list(_points(coordinates))
    if not points:
        return None, None
    east = [point[0] for point in points]
    north = [point[1] for point in points]
    box = [min(east), min(north), max(east), max(north)]
    given = item.get("bbox")
    if isinstance(given, Sequence) and len(given) == 4 and all(map(_is_number, given)):
        box = [round(float(edge), DIGITS) for edge in given]
    return {"type": geometry["type"], "coordinates": coordinates}, box


def _is_number(value: object) -> bool:
    """Tell whether this is a number that may be a coordinate: neither infinite nor NaN."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and -LARGEST <= value <= LARGEST  # type: ignore[operator] # a number


def _rounded(value: Any, depth: int = 0) -> Any:
    if type(value) is float and -LARGEST <= value <= LARGEST:
        return round(value, DIGITS)
    # A list is what JSON has; other sequences come from other libraries.
    is_list = type(value) is list or (isinstance(value, Sequence) and not isinstance(value, str))
    if is_list and depth < DEEPEST:
        return [_rounded(one, depth + 1) for one in value]
    return round(float(value), DIGITS) if _is_number(value) else None


def _unwrapped(kind: str, coordinates: Any) -> Any:
    """Take one level out of polygons that GEODES nests one deeper than GeoJSON has them."""
    deep, probe = 0, coordinates
    while isinstance(probe, list) and probe:
        deep, probe = deep + 1, probe[0]
    return coordinates[0] if (kind, deep) == ("Polygon", 4) else coordinates


def _points(coordinates: Any) -> list[list[float]]:
    if not isinstance(coordinates, list) or not coordinates:
        return []
    # All that is no number was made None on the way here.
    if isinstance(coordinates[0], float):
        whole = len(coordinates) >= 2 and all(type(one) is float for one in coordinates)
        return [coordinates] if whole else []
    return [point for one in coordinates for point in _points(one)]


def _around(box: list[float]) -> dict[str, Any]:
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
