"""Build the queries that the catalogue understands: dates, boxes, order, one collection each.

Pure. Each rule answers a trap that users met: see the functions.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from geodes_tasks.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

ORDER = ("start_datetime", "identifier")
"""A total order: without one, pages overlap and leave gaps."""
POINT_DEGREES = 0.0001
"""Degrees from a point to each side of the box that stands for it: about 11 m."""

_AREAS = {"Polygon", "MultiPolygon"}
_MONTH = re.compile(r"(\d{4})-(\d{2})\Z")
_YEAR = re.compile(r"\d{4}\Z")
_TILE = re.compile(r"(?:MGRS-|T)?(\d{2}[A-Z]{3})\Z", re.IGNORECASE)

Box = tuple[float, float, float, float]
Moment = str | date | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search. Every field is optional; an item must match all that are given."""

    query: Mapping[str, Any] | None = None
    """``{property: {operator: value}}``, or ``{property: value}`` for equality."""
    bbox: Sequence[float] | None = None
    """West, south, east, north in degrees; west of more than east goes over the date line."""
    intersects: Any = None
    """GeoJSON geometry or Feature, or any object with ``__geo_interface__``."""
    collections: Sequence[str] | str | None = None
    """Ids; each is a search of its own."""
    start: Moment | None = None
    """Acquired at this time or later."""
    end: Moment | None = None
    """Acquired at this time or earlier; a day, month or year means its end."""
    ids: Sequence[str] | None = None
    """Ids of items."""
    sort_by: Sequence[Mapping[str, str] | str] | None = None
    """``{"field", "direction"}`` or names, ``-name`` for descending; made total by itself."""

    @property
    def is_everything(self) -> bool:
        """Return whether nothing limits the search."""
        given = (self.query, self.bbox, self.intersects, self.collections, self.start, self.end)
        return not any(value is not None for value in (*given, self.ids))

    def parts(self) -> Iterator[dict[str, Any]]:
        """Return the searches to send, as JSON without page and limit.

        Two or more collections in one request find nothing, so each gets its own; a box over
        the date line is two boxes.

        Raises:
            SearchError: a value cannot be used.
        """
        named = [self.collections] if isinstance(self.collections, str) else self.collections
        area = self._area()
        for collection, where in itertools.product(dict.fromkeys(named or (None,)), area):
            body: dict[str, Any] = {"sortBy": order(self.sort_by), **where}
            if query := self._query():
                body["query"] = query
            if collection is not None:
                body["collections"] = [collection]
            if self.ids:
                body["ids"] = list(self.ids)
            yield body

    def _query(self) -> dict[str, dict[str, Any]]:
        query = {name: conditions(name, value) for name, value in (self.query or {}).items()}
        # Overlap of the time of acquisition; `datetime` is the day of dissemination in GEODES.
        if self.start is not None:
            _stricter(query.setdefault("end_datetime", {}), "gte", moment(self.start), max)
        if self.end is not None:
            _stricter(
                query.setdefault("start_datetime", {}), "lte", moment(self.end, end=True), min
            )
        return query

    def _area(self) -> list[dict[str, Any]]:
        if self.bbox is not None and self.intersects is not None:
            raise SearchError("bbox and intersects", "give one of them, not both")
        if self.bbox is not None:
            return [{"bbox": list(box)} for box in boxes(self.bbox)]
        if self.intersects is None:
            return [{}]
        shape = geometry(self.intersects)
        if shape["type"] in _AREAS:
            return [{"intersects": shape}]
        return [{"bbox": list(_box_around(shape))}]


# --- query -------------------------------------------------------------------------------------


def conditions(name: str, value: Any) -> dict[str, Any]:
    """Write the conditions on one property as the portal reads them.

    A plain value is equality, a list one of several; times are written in UTC.
    """
    if not isinstance(value, Mapping):
        several = isinstance(value, list | tuple | set)
        value = {"in": list(value)} if several else {"eq": value}
    timely = name.endswith("datetime")
    return {operator: _value(one, timely, operator) for operator, one in value.items()}


def _value(value: Any, timely: bool, operator: str) -> Any:
    if isinstance(value, list | tuple | set):
        return [_value(one, timely, operator) for one in value]
    if isinstance(value, date) or (timely and isinstance(value, str)):
        return moment(value, end=operator in {"lte", "gt"})
    return value


def _stricter(known: dict[str, Any], operator: str, value: str, choose: Any) -> None:
    # One format and one zone, so that the order of the texts is the order of the times.
    known[operator] = choose(known[operator], value) if operator in known else value


def order(sort_by: Sequence[Mapping[str, str] | str] | None) -> list[dict[str, str]]:
    """Make a sort that puts any two items in one order, whatever the caller's leaves open."""
    fields = [_field(one) for one in ([sort_by] if isinstance(sort_by, str) else sort_by or ())]
    named = {field["field"].removeprefix("properties.") for field in fields}
    # The identifier alone decides; the time before it only where nothing was asked for.
    missing = ORDER if not fields else ORDER[-1:]
    return fields + [{"field": f, "direction": "asc"} for f in missing if f not in named]


def _field(one: Mapping[str, str] | str) -> dict[str, str]:
    if isinstance(one, str):
        return {"field": one.lstrip("+-"), "direction": "desc" if one.startswith("-") else "asc"}
    # The portal takes every word but `asc` for descending.
    ascending = str(one.get("direction", "asc")).lower().startswith("asc")
    return {"field": one["field"], "direction": "asc" if ascending else "desc"}


def tile_code(text: str) -> str:
    """Write a Sentinel-2 tile as GEODES does: ``T31TCJ``, also for ``31TCJ`` and ``MGRS-31TCJ``."""
    match = _TILE.match(text.strip())
    return f"T{match[1].upper()}" if match else text


# --- time --------------------------------------------------------------------------------------


def moment(value: Moment, *, end: bool = False) -> str:
    """Write a time as ISO 8601 in UTC, with milliseconds and ``Z``.

    Args:
        value: A datetime (a naive one is UTC), a day, or text: ISO 8601, ``2025-04-02``,
            ``2025-04`` or ``2025``.
        end: Whether a day, month or year means its last moment, not its first.

    Raises:
        SearchError: no time.
    """
    first, last = _span(value)
    chosen = last if end else first
    return chosen.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(value: Moment) -> tuple[datetime, datetime]:
    if isinstance(value, datetime):
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        return at, at
    if isinstance(value, date):
        return _days(value, value + timedelta(days=1))
    text = value.strip()
    try:
        if match := _MONTH.match(text):
            first = date(int(match[1]), int(match[2]), 1)
            return _days(first, (first + timedelta(days=32)).replace(day=1))
        if _YEAR.match(text):
            return _days(date(int(text), 1, 1), date(int(text) + 1, 1, 1))
        if len(text) <= 10:
            return _span(date.fromisoformat(text))
        return _span(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise SearchError(
            repr(value), "is no time; write 2025-04-02 or 2025-04-02T17:57Z"
        ) from error


def _days(first: date, after: date) -> tuple[datetime, datetime]:
    begin, end = (datetime.combine(day, time(), UTC) for day in (first, after))
    return begin, end - timedelta(milliseconds=1)


# --- place -------------------------------------------------------------------------------------


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
    """Return the GeoJSON geometry of a geometry, a Feature, or an object of a geographic library.

    Raises:
        SearchError: none of these.
    """
    shape = getattr(thing, "__geo_interface__", thing)
    if isinstance(shape, Mapping) and shape.get("type") == "Feature":
        shape = shape.get("geometry")
    features = shape.get("features") if isinstance(shape, Mapping) else None
    if isinstance(features, list | tuple) and len(features) == 1:
        return geometry(features[0])
    if not isinstance(shape, Mapping) or not ("coordinates" in shape or "geometries" in shape):
        raise SearchError("intersects", "is no GeoJSON geometry")
    return dict(shape)


def _box_around(shape: Mapping[str, Any]) -> Box:
    """Return a box for a geometry that the portal ignores silently: anything but polygons."""
    points = list(_points(shape.get("coordinates") or shape.get("geometries")))
    if not points:
        raise SearchError("intersects", f"a {shape['type']} without coordinates")
    across, up = [point[0] for point in points], [point[1] for point in points]
    box = (
        max(min(across) - POINT_DEGREES, -180.0),
        max(min(up) - POINT_DEGREES, -90.0),
        min(max(across) + POINT_DEGREES, 180.0),
        min(max(up) + POINT_DEGREES, 90.0),
    )
    kind, shown = shape["type"], ", ".join(f"{edge:g}" for edge in box)
    logger.warning("the portal ignores a %s: searching in the box %s around it", kind, shown)
    return box


def _points(coordinates: Any) -> Iterator[Sequence[float]]:
    if isinstance(coordinates, Mapping):
        yield from _points(coordinates.get("coordinates") or coordinates.get("geometries"))
    elif isinstance(coordinates, list | tuple) and coordinates:
        if isinstance(coordinates[0], int | float):
            yield coordinates
        else:
            for part in coordinates:
                yield from _points(part)
