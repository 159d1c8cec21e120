"""Place, time and origin of an item as small JSON, from which a report makes STAC again."""

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
"""Properties by which users choose files; the rest stays in the catalogue."""
TIMES = ("datetime", "start_datetime", "end_datetime")
LONGEST_TEXT = 64
"""Characters of a property, at most; a longer one is left out."""
LONGEST = 16 * 1024
"""Bytes of a footprint, at most: those that are made are below 3 KiB."""
LONGEST_HREF = 512
"""Characters of the link to the item, at most; a longer one is left out."""
GEOMETRY_BYTES = 1500
"""Bytes of JSON of a geometry, at most; a longer one is replaced by its bounding box."""
BOXED = "geodes_tasks:geometry"
"""Property of an item whose geometry was replaced by its bounding box."""
DIGITS = 6
"""Digits after the point of a coordinate, at most: 0.1 m on the ground."""
DEEPEST = 8
"""Levels of nested lists of coordinates, at most; GeoJSON has four."""
LARGEST = 1e7
"""Degrees or metres of a coordinate, at most; a larger number is no coordinate."""


def footprint(item: Mapping[str, Any]) -> str | None:
    """Return compact JSON of the place, time and origin of an item, below 3 KiB.

    None if the item has no time: then no valid STAC can be made of it.
    """
    known = item.get("properties")
    known = known if isinstance(known, Mapping) else {}
    properties: dict[str, Any] = {}
    for name in KEPT:
        value = known.get(name)
        is_short = isinstance(value, str) and len(value) <= LONGEST_TEXT
        if _is_time(value) if name in TIMES else is_short or _is_number(value):
            properties[name] = value
    # STAC 1.0.0, Item, "datetime": required; null needs both start_datetime and end_datetime.
    if not ("datetime" in properties or {"start_datetime", "end_datetime"} <= set(properties)):
        return None
    properties.setdefault("datetime", None)
    geometry, box = _geometry(item)
    where = jsontext.compact(geometry)
    if geometry is not None and len(where) > GEOMETRY_BYTES and box:
        where = jsontext.compact(_boxed(*box))
        properties[BOXED] = "bbox"
    place = f'"geometry":{where},"bbox":{jsontext.compact(box)},' if geometry is not None else ""
    origin = _origin(item)
    source = f',"self":{jsontext.compact(origin)}' if origin is not None else ""
    return f'{{{place}"properties":{jsontext.compact(properties)}{source}}}'


def parts(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an item that its footprint is made of: a tenth of an item of GEODES."""
    properties, links = item.get("properties"), item.get("links")
    known = properties if isinstance(properties, Mapping) else {}
    found = links if isinstance(links, Sequence) else ()
    return {
        "geometry": item.get("geometry"),
        "bbox": item.get("bbox"),
        "properties": {name: known[name] for name in KEPT if name in known},
        "links": [one for one in found if isinstance(one, Mapping) and one.get("rel") == "self"],
    }


_WORDS = (
    b'{"geometry":{"type":"MultiPolygon","coordinates":[[[{"geometry":{"type":"Polygon",'
    b'"coordinates":[[[]]]},"bbox":[],"properties":{"datetime":"2025-01-02T03:04:05.678Z",'
    b'"start_datetime":"2024-01-02T03:04:05.678Z","end_datetime":"2023-01-02T03:04:05.678Z",'
    b'"platform":"S2A","eo:cloud_cover":12.5,"grid:code":"T31TCJ","processing:level":"L1C",'
    b'"product:type":"S2MSI1C","sat:orbit_state":"Descending","sat:relative_orbit":141},'
    b'"self":"https://geodes-portal.cnes.fr/api/stac/collections/PEPS_S2_L1C/items/'
    b"URN:FEATURE:DATA:gdh:"
)
"""Preset dictionary of zlib: words that most footprints contain, and packed ones refer to.

A text that was packed with one dictionary cannot be unpacked with another: a change is a new schema
of the ledger."""


def packed(kept: str) -> str:
    """Return a footprint compressed for the ledger: some 220 bytes in place of 720."""
    # Raw deflate (negative wbits, RFC 1951): no header, dictionary id and checksum, 10 bytes less.
    squeezed = zlib.compressobj(9, wbits=-12, memLevel=5, zdict=_WORDS)
    return base64.b64encode(squeezed.compress(kept.encode()) + squeezed.flush()).decode()


def unpacked(text: str) -> str:
    """Return a footprint from its compressed form.

    Raises:
        ValueError: not base64, or no UTF-8 in it.
        zlib.error: no compressed footprint.
    """
    data = base64.b64decode(text)
    # Bounded: 1 MB that another program wrote into the ledger unpacks to 1 GB (zlib, "maximum
    # compression factor" of 1032).
    return zlib.decompressobj(wbits=-15, zdict=_WORDS).decompress(data, LONGEST).decode()


def _is_time(value: object) -> bool:
    """Return whether this is a time with its zone."""
    # RFC 3339 section 5.6, which STAC requires, has no time without an offset.
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _origin(item: Mapping[str, Any]) -> str | None:
    links = item.get("links")
    for link in links if isinstance(links, Sequence) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self":
            href = link.get("href")
            return href if isinstance(href, str) and len(href) <= LONGEST_HREF else None
    return None


# --- place ---------------------------------------------------------------------------------------


def _geometry(item: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return geometry and bounding box, both or none."""
    # STAC 1.0.0, Item, "bbox": required if geometry is not null, prohibited if it is null.
    geometry = item.get("geometry")
    if not isinstance(geometry, Mapping) or not isinstance(geometry.get("type"), str):
        return None, None
    place = unwrapped(str(geometry["type"]), _rounded(geometry.get("coordinates")))
    points = list(_points(place["coordinates"]))
    if not points:
        return None, None
    east = [point[0] for point in points]
    north = [point[1] for point in points]
    box = [min(east), min(north), max(east), max(north)]
    given = item.get("bbox")
    if isinstance(given, Sequence) and len(given) in (4, 6) and all(map(_is_number, given)):
        # RFC 7946 section 5: all the lower edges come first, of three axes in a box with heights.
        west, south, *_ = given
        east, north, *_ = given[len(given) // 2 :]
        box = [round(float(edge), DIGITS) for edge in (west, south, east, north)]
    return place, box


def _boxed(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """Return a box as a geometry: two polygons if it lies over the date line."""
    # RFC 7946 sections 5.2 and 3.1.9: west is more than east there, and the line cuts the geometry.
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return _polygons(
        [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in spans]
    )


def _is_number(value: object) -> bool:
    """Return whether this is a number that may be a coordinate: neither infinite nor NaN."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and -LARGEST <= value <= LARGEST  # type: ignore[operator] # a number


def _rounded(value: Any, depth: int = 0) -> Any:
    # JSON has lists; other sequences come from other libraries (shapely has tuples).
    is_list = type(value) is list or (isinstance(value, Sequence) and not isinstance(value, str))
    if is_list and depth < DEEPEST:
        return [
            round(one, DIGITS)
            if type(one) is float and -LARGEST <= one <= LARGEST
            else _rounded(one, depth + 1)
            for one in value
        ]
    return round(float(value), DIGITS) if _is_number(value) else None


def unwrapped(kind: str, coordinates: Any) -> dict[str, Any]:
    """Return a geometry without the level that GEODES adds to polygons."""
    # RFC 7946 section 3.1.6: a polygon has three levels of lists, in GEODES some have four.
    deep, probe = 0, coordinates
    while isinstance(probe, list | tuple) and probe:
        deep, probe = deep + 1, probe[0]
    if (kind, deep) == ("Polygon", 4):
        return _polygons(coordinates)
    return {"type": kind, "coordinates": coordinates}


def _polygons(found: Any) -> dict[str, Any]:
    """Return one polygon as it is, and several as a multipolygon."""
    if len(found) == 1:
        return {"type": "Polygon", "coordinates": found[0]}
    return {"type": "MultiPolygon", "coordinates": found}


def _points(coordinates: Any) -> list[list[float]]:
    if not isinstance(coordinates, list) or not coordinates:
        return []
    # _rounded has made None of all that is no number.
    if isinstance(coordinates[0], float):
        whole = len(coordinates) >= 2 and {*map(type, coordinates)} == {float}
        return [coordinates] if whole else []
    return [point for one in coordinates for point in _points(one)]
