"""Places of a search: boxes, GeoJSON and WKT, as the portal reads them. Pure."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from geodes_tasks.errors import SearchError
from geodes_tasks.model.formatting import printable

logger = logging.getLogger(__name__)

POINT_DEGREES = 0.0001
"""Degrees from a point to each side of the box that stands for it: about 11 m."""

_AREAS = {"Polygon", "MultiPolygon"}
# Well-known text (OGC 06-103r4 section 7), with the SRID that PostGIS puts before it.
_WKT = re.compile(
    r"\s*(?:SRID=4326;)?\s*(MULTI)?(POINT|LINESTRING|POLYGON)\s*(?:ZM?|M)?\s*(\(.*\))\s*",
    re.IGNORECASE | re.DOTALL,
)
_KINDS = {"POINT": "Point", "LINESTRING": "LineString", "POLYGON": "Polygon"}
_COORDINATES = re.compile(r"-?[\d.]+(?:[eE][+-]?\d+)?(?:\s+-?[\d.]+(?:[eE][+-]?\d+)?){1,3}")

Box = tuple[float, float, float, float]


def boxes(bbox: Sequence[float]) -> list[Box]:
    """Check a box; one that goes over the date line becomes two.

    Raises:
        SearchError: not four numbers (or six, with heights) in degrees.
    """
    try:
        numbers = [float(edge) for edge in bbox]
    except (TypeError, ValueError) as error:
        raise SearchError(f"bbox {bbox!r}", "is not west, south, east, north") from error
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4:
        raise SearchError(f"bbox {bbox!r}", f"has {len(numbers)} numbers in place of 4")
    west, south, east, north = numbers
    if not (-90 <= south <= north <= 90 and max(abs(west), abs(east)) <= 180):
        raise SearchError(f"bbox {bbox!r}", "is not west, south, east, north in degrees")
    if west > east:
        return [(west, south, 180.0, north), (-180.0, south, east, north)]
    return [(west, south, east, north)]


def geometry(thing: Any) -> dict[str, Any]:
    """Return the GeoJSON geometry of a geometry, a Feature, WKT, or a geographic library's object.

    Raises:
        SearchError: none of these.
    """
    shape = getattr(thing, "__geo_interface__", thing)
    if isinstance(shape, str):
        shape = _from_wkt(shape)
    if isinstance(shape, Mapping) and shape.get("type") == "Feature":
        shape = shape.get("geometry")
    features = shape.get("features") if isinstance(shape, Mapping) else None
    if isinstance(features, list | tuple) and len(features) == 1:
        return geometry(features[0])
    if not isinstance(shape, Mapping) or not isinstance(shape.get("type"), str):
        problem = "is no GeoJSON geometry, and no WKT such as POLYGON ((0 0, 1 0, 1 1, 0 0))"
        raise SearchError("intersects", problem)
    return dict(shape)


def _from_wkt(text: str) -> dict[str, Any] | None:
    """Return the GeoJSON geometry of well-known text; None for other text.

    Raises:
        SearchError: its coordinates cannot be read.
    """
    match = _WKT.fullmatch(text)
    if match is None:
        return None
    several, kind, rest = match[1], match[2].upper(), match[3]
    try:
        points = _COORDINATES.sub(lambda one: json.dumps([float(n) for n in one[0].split()]), rest)
        coordinates = json.loads(points.replace("(", "[").replace(")", "]"))
        # MULTIPOINT ((1 2), (3 4)) and MULTIPOINT (1 2, 3 4) are both in use.
        if kind == "POINT":
            coordinates = list(_points(coordinates)) if several else coordinates[0]
    except (ValueError, IndexError) as error:
        raise SearchError("intersects", f"the coordinates of {kind} cannot be read") from error
    return {"type": f"{'Multi' if several else ''}{_KINDS[kind]}", "coordinates": coordinates}


def searchable(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition of a search on a geometry: the portal ignores all but polygons.

    Raises:
        SearchError: it has no coordinates.
    """
    if shape["type"] in _AREAS and shape.get("coordinates"):
        return {"intersects": shape}
    points = list(_points(shape.get("coordinates") or shape.get("geometries")))
    kind = printable(shape["type"])
    if not points:
        raise SearchError("intersects", f"a {kind} without coordinates")
    across, up = [point[0] for point in points], [point[1] for point in points]
    box = (
        max(min(across) - POINT_DEGREES, -180.0),
        max(min(up) - POINT_DEGREES, -90.0),
        min(max(across) + POINT_DEGREES, 180.0),
        min(max(up) + POINT_DEGREES, 90.0),
    )
    (checked,) = boxes(box)
    shown = ", ".join(f"{edge:g}" for edge in checked)
    logger.warning("the portal ignores a %s: searching in the box %s around it", kind, shown)
    return {"bbox": list(checked)}


def _points(coordinates: Any) -> Iterator[Sequence[float]]:
    if isinstance(coordinates, Mapping):
        yield from _points(coordinates.get("coordinates") or coordinates.get("geometries"))
    elif isinstance(coordinates, list | tuple) and coordinates:
        if len(coordinates) > 1 and all(isinstance(n, int | float) for n in coordinates[:2]):
            yield coordinates
        else:
            for part in coordinates:
                yield from _points(part)
