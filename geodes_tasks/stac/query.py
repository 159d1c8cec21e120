"""Build the queries that the catalogue understands: names, dates, order, one collection each.

Pure. Each rule avoids a trap of the portal: see the functions.
"""

from __future__ import annotations

import itertools
import logging
import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Self

from geodes_tasks.errors import SearchError
from geodes_tasks.model.formatting import printable
from geodes_tasks.stac.geometry import boxes, geometry, searchable
from geodes_tasks.stac.item_properties import NEW_NAMES

logger = logging.getLogger(__name__)

ORDER = ("start_datetime", "identifier")
"""A total order: without one, pages overlap and leave gaps."""

_MONTH = re.compile(r"(\d{4})-(\d{2})\Z")
_YEAR = re.compile(r"\d{4}\Z")
_ENDING = re.compile(r"\.(zip|SAFE|tar|tgz|h5\.gz|nc|tif)\Z", re.IGNORECASE)
_VERSION = re.compile(r"_V\d+-\d+\Z")
_TILE = re.compile(r"(?:MGRS-|T)?(\d{2}[A-Z]{3})\Z", re.IGNORECASE)

Moment = str | date | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search. Every field is optional; an item must match all that are given."""

    query: Mapping[str, Any] | None = None
    """``{property: {operator: value}}``, or ``{property: value}`` for equality."""
    bbox: Sequence[float] | None = None
    """West, south, east, north in degrees; west of more than east goes over the date line."""
    intersects: Any = None
    """GeoJSON geometry or Feature, WKT, or any object with ``__geo_interface__``."""
    collections: Sequence[str] | str | None = None
    """Ids; each is a search of its own. An empty list is an error, not every collection."""
    start: Moment | None = None
    """Acquired at this time or later."""
    end: Moment | None = None
    """Acquired at this time or earlier; a day, month or year means its end."""
    ids: Sequence[str] | str | None = None
    """Ids of items (URNs), or identifiers of products. An empty list is an error."""
    sort_by: Sequence[Mapping[str, str] | str] | Mapping[str, str] | None = None
    """``{"field", "direction"}`` or names, ``-name`` for descending; made total by itself."""

    def __post_init__(self) -> None:
        """Warn of former names of properties: the portal refuses them, so the new ones are sent.

        Raises:
            SearchError: the query, the ids or the collections have the wrong type.
        """
        query = {} if self.query is None else self.query
        if not (isinstance(query, Mapping) and all(isinstance(name, str) for name in query)):
            problem = f"is {{property: {{operator: value}}}}, not {query!r}"
            raise SearchError("query", printable(problem))
        for field in ("collections", "ids"):
            if (given := getattr(self, field)) is not None:
                # One text is one of them; the elements of an iterator are read more than once.
                is_list = isinstance(given, Iterable) and not isinstance(given, str)
                found = [*given] if is_list else [given]
                if wrong := [one for one in found if not isinstance(one, str)]:
                    raise SearchError(field, printable(f"are texts, not {wrong[0]!r}"))
                # The dataclass is frozen from here on.
                object.__setattr__(self, field, found)
        for name in NEW_NAMES.keys() & (self.query or {}).keys():
            logger.warning("the portal now calls %s %s: searching for that", name, NEW_NAMES[name])

    @property
    def is_everything(self) -> bool:
        """Return whether nothing limits the search."""
        given = (self.bbox, self.intersects, self.collections, self.start, self.end, self.ids)
        # An empty query, which a program computed, limits nothing either.
        return not self.query and all(value is None for value in given)

    def limited(self) -> Self:
        """Return the same search.

        Raises:
            SearchError: nothing limits it: it would find every item of the portal.
        """
        if self.is_everything:
            problem = "give a query, bbox, intersects, collections, ids or a time"
            raise SearchError("search", problem)
        return self

    def parts(self) -> Iterator[dict[str, Any]]:
        """Return the searches to send, as JSON without page and limit.

        Two or more collections in one request find nothing, so each gets its own; a box over
        the date line is two boxes.

        Raises:
            SearchError: a value cannot be used.
        """
        collections = self.collections
        for name, given in (("collections", collections), ("ids", self.ids)):
            if given is not None and not given:
                raise SearchError(name, "is an empty list: give one or more, or leave it out")
        each: Sequence[str | None] = (
            [None] if collections is None else [*dict.fromkeys(collections)]
        )
        for collection, area, (urns, names) in itertools.product(each, self._areas(), self._ids()):
            query = self._query()
            if names and "in" in query.setdefault("identifier", {}):
                raise SearchError("query", "has 'in' of identifier, and so do the ids")
            if names:
                query["identifier"]["in"] = names
            yield {
                "sortBy": order(self.sort_by),
                **area,
                **({"query": query} if query else {}),
                **({"collections": [collection]} if collection is not None else {}),
                **({"ids": urns} if urns else {}),
            }

    def _ids(self) -> list[tuple[list[str], list[str]]]:
        """Return the ids, then the product names: the portal has them in two fields."""
        given = list(self.ids or ())
        urns = [one for one in given if one.upper().startswith("URN:")]
        names = [spelt for one in given if one not in urns for spelt in spellings(one)]
        return [(urns, [])] * bool(urns) + [([], names)] * bool(names) or [([], [])]

    def _query(self) -> dict[str, dict[str, Any]]:
        query: dict[str, dict[str, Any]] = {}
        for given, value in (self.query or {}).items():
            name = NEW_NAMES.get(given, given)
            query[name] = query.get(name, {}) | conditions(name, value)
        # Overlap of the time of acquisition; `datetime` is the day of dissemination in GEODES.
        # One format and one zone, so that the order of the texts is the order of the times.
        if self.start is not None:
            end, first = query.setdefault("end_datetime", {}), moment(self.start)
            end["gte"] = max(first, end.get("gte", first))
        if self.end is not None:
            start, last = query.setdefault("start_datetime", {}), moment(self.end, end=True)
            start["lte"] = min(last, start.get("lte", last))
        return query

    def _areas(self) -> list[dict[str, Any]]:
        if self.bbox is not None and self.intersects is not None:
            raise SearchError("bbox and intersects", "give one of them, not both")
        if self.bbox is not None:
            return [{"bbox": list(box)} for box in boxes(self.bbox)]
        if self.intersects is None:
            return [{}]
        return [searchable(geometry(self.intersects))]


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
    if isinstance(value, str | int | float | Mapping | None):
        return value
    if isinstance(value, Real | Decimal):
        # A number of numpy or decimal is none for JSON.
        return int(value) if isinstance(value, Integral) else float(str(value))
    raise SearchError(
        "query", printable(f"{value!r} is no text, number or time, nor a list of them")
    )


def order(
    sort_by: Sequence[Mapping[str, str] | str] | Mapping[str, str] | None,
) -> list[dict[str, str]]:
    """Make a sort that puts any two items in one order, whatever the caller's leaves open."""
    given = [sort_by] if isinstance(sort_by, str | Mapping) else sort_by or ()
    fields = [_field(one) for one in given]
    named = {field["field"].removeprefix("properties.") for field in fields}
    # The identifier alone decides; the time before it only where nothing was asked for.
    missing = ORDER if not fields else ORDER[-1:]
    return fields + [{"field": f, "direction": "asc"} for f in missing if f not in named]


def _field(one: Mapping[str, str] | str) -> dict[str, str]:
    if isinstance(one, str):
        one = {"field": one.lstrip("+-"), "direction": "desc" if one.startswith("-") else "asc"}
    prefix, name = "", one.get("field", "") if isinstance(one, Mapping) else ""
    if not name or not isinstance(name, str):
        raise SearchError("sort_by", printable(f'has {one!r}, which has no "field"'))
    # The portal takes every word but `asc` for descending.
    ascending = str(one.get("direction", "asc")).lower().startswith("asc")
    if name.startswith("properties."):
        prefix, name = "properties.", name.removeprefix("properties.")
    return {
        "field": prefix + NEW_NAMES.get(name, name),
        "direction": "asc" if ascending else "desc",
    }


def spellings(name: str) -> list[str]:
    """Return the identifiers that a product name, or the name of its archive, may mean."""
    bare = _ENDING.sub("", name.strip().rpartition("/")[2])
    # The identifier of a THEIA product has no version, the name of its archive has.
    return list(dict.fromkeys((bare, _VERSION.sub("", bare))))


def tile_code(text: str) -> str:
    """Write a Sentinel-2 tile as GEODES does: ``T31TCJ``, also for ``31TCJ`` and ``MGRS-31TCJ``."""
    match = _TILE.match(text.strip())
    return f"T{match[1].upper()}" if match else text


def moment(value: Moment, *, end: bool = False) -> str:
    """Write a time as ISO 8601 in UTC, with milliseconds and ``Z``.

    Args:
        value: A datetime (a naive one is UTC), a day, or text: ISO 8601, ``2025-04-02``,
            ``2025-04`` or ``2025``.
        end: Whether a day, month or year means its last moment, not its first.

    Raises:
        SearchError: no time.
    """
    try:
        first, last = _span(value)
        chosen = (last if end else first).astimezone(UTC)
    except (AttributeError, ValueError, OverflowError) as error:
        problem = "is no time; write 2025-04-02 or 2025-04-02T17:57Z"
        raise SearchError(printable(repr(value)), problem) from error
    return chosen.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(value: Moment) -> tuple[datetime, datetime]:
    if isinstance(value, datetime):
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        return at, at
    if isinstance(value, date):
        return _days(value, value)
    text = value.strip()
    if match := _MONTH.match(text):
        first = date(int(match[1]), int(match[2]), 1)
        return _days(first, first.replace(day=monthrange(first.year, first.month)[1]))
    if _YEAR.match(text):
        return _days(date(int(text), 1, 1), date(int(text), 12, 31))
    if len(text) <= 10:
        return _span(date.fromisoformat(text))
    return _span(datetime.fromisoformat(text))


def _days(first: date, last: date) -> tuple[datetime, datetime]:
    end = time(23, 59, 59, 999_000)
    return datetime.combine(first, time(), UTC), datetime.combine(last, end, UTC)
