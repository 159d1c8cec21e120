"""Search as the portal does it, traps included."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.standin.catalogue import Catalogue
from tests.standin.settings import Config
from tests.standin.spec import Item

DEFAULT_LIMIT = 10

# Names that may be searched; the names of before 2025-03-31 are not among them and get 400.
QUERYABLE = {
    "identifier", "dataset", "endpoint_url", "start_datetime", "end_datetime", "datetime",
    "sat:relative_orbit", "sat:absolute_orbit", "sat:orbit_state", "eo:cloud_cover", "grid:code",
    "continent_code", "platform", "instrument", "swath", "product:type", "processing:level",
    "processing:version", "product:timeliness", "sar:instrument_mode", "sar:polarizations",
    "version", "latest", "area", "keywords", "id", "mission", "mission_take_id", "bands",
    "endpoint_description", "eo:snow_cover", "processing:datetime", "processing_context",
    "proj:bbox", "provider_urn", "s2:datatake_id", "sat:orbit_cycle", "sci:doi", "political",
    "physical", "hydrology", "references", "statistics", "bbox", "classification", "links",
    "ground_useful_pixel", "min_useful_pixel", "nb_col_interpolation_error", "nb_cols", "nb_rows",
    "no_geometry", "nodata_pixel", "parameter", "pparameter", "processing:lineage", "product",
    "processing_correction", "product_validity", "sar:beam_ids", "saturated_defective_pixel",
    "sensor_angle", "sensor_pitch", "sensor_roll", "subTile", "temporal_resolution", "water_cover",
}  # fmt: skip
# Names of collections that pygeodes' own tests and its list of arguments have beside them.
OF_COLLECTIONS = QUERYABLE | {"title", "total_items", "dcs:sensor", "dcs:processingLevel"}


class BadSearchError(Exception):
    """The search makes no sense to the portal; it answers 400 with this text."""


@dataclass(frozen=True)
class Found:
    """One page of what a search found."""

    features: list[Item]
    """The items of the page."""
    matched: int
    """How many items the search found in all, as it says."""
    page: int
    """Number of the page, from 1."""
    limit: int
    """Items on a page."""


def _moment(value: object) -> datetime | None:
    """Return a text as a point in time, or None when it is none."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _compared(have: Any, want: Any) -> int | None:
    """Return -1, 0 or 1 as a value is less than, equal to or greater than another; None: neither.

    Raises:
        BadSearchError: a number was asked for with a text.
    """
    if isinstance(have, (int, float)) and isinstance(want, str):
        raise BadSearchError(f"'{want}' is not a number")
    have_time, want_time = _moment(have), _moment(want)
    if have_time and want_time and (have_time.tzinfo is None) == (want_time.tzinfo is None):
        have, want = have_time, want_time
    try:
        return int(have > want) - int(have < want)
    except TypeError:
        return None


def _contains(have: Any, want: Any) -> bool:
    """Tell whether a list has a member, or a text a part."""
    return want in have if isinstance(have, (list, str)) else False


def _equal(have: Any, want: Any) -> bool:
    """Tell whether a value is the one asked for; for lists, whether it is a member."""
    return want in have if isinstance(have, list) else _compared(have, want) == 0


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "neq": lambda have, want: not _equal(have, want),
    "in": lambda have, want: any(_equal(have, one) for one in want),
    "contains": _contains,
    "containsAll": lambda have, want: all(_contains(have, one) for one in want),
    "lte": lambda have, want: _compared(have, want) in (-1, 0),
    "gte": lambda have, want: _compared(have, want) in (0, 1),
    "lt": lambda have, want: _compared(have, want) == -1,
    "gt": lambda have, want: _compared(have, want) == 1,
    "startsWith": lambda have, want: str(have).startswith(want),
    "endsWith": lambda have, want: str(have).endswith(want),
    "matchType": lambda _have, _want: True,
}


def value_of(item: Item, name: str) -> Any:
    """Return what an item has under a searchable name; None when it has nothing."""
    return item["id"] if name == "id" else item["properties"].get(name)


class Search:
    """Answers searches over a catalogue, and remembers the last few for their next pages."""

    def __init__(self, catalogue: Catalogue, settings: Config) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._known: dict[tuple[int, str], list[Item]] = {}

    def page(self, body: dict[str, Any]) -> Found:
        """Return one page of a search; members that are null count as absent.

        Raises:
            BadSearchError: a name, an operator, a collection or a number makes no sense.
        """
        wanted = {name: value for name, value in body.items() if value is not None}
        page, limit = self._window(wanted)
        matched = self._matched(wanted)
        if not self._settings.stable_order and not _sort_of(wanted):
            # The order changes between pages, so pages overlap and leave gaps.
            matched = random.Random(page).sample(matched, len(matched))
        count = len(matched) + (page - 1 if self._settings.matched_grows else 0)
        first = 0 if self._settings.page_ignored else (page - 1) * limit
        first -= self._settings.page_overlap if first else 0
        given = matched[: len(matched) - self._settings.items_withheld]
        return Found(given[first : first + limit], count, page, limit)

    def _window(self, wanted: dict[str, Any]) -> tuple[int, int]:
        """Return number and length of the page that is asked for."""
        page, limit = int(wanted.get("page", 1)), int(wanted.get("limit", DEFAULT_LIMIT))
        if page < 1 or limit < 1:
            raise BadSearchError("page and limit start at 1")
        if limit > self._settings.page_limit and self._settings.page_limit_error:
            raise BadSearchError(f"limit must be at most {self._settings.page_limit}")
        if page * min(limit, self._settings.page_limit) > self._settings.search_window:
            window = self._settings.search_window
            raise BadSearchError(f"Result window is too large, it must be at most [{window}]")
        return page, min(limit, self._settings.page_limit)

    def _matched(self, wanted: dict[str, Any]) -> list[Item]:
        """Return every item that matches, sorted as asked; counted once for all pages."""
        asked = {name: value for name, value in wanted.items() if name not in ("page", "limit")}
        several = self._settings.several_collections
        key = (self._catalogue.version, json.dumps([asked, several], sort_keys=True))
        if key not in self._known:
            if len(self._known) > 16:
                self._known.clear()
            self._known[key] = self._filtered(asked)
        return self._known[key]

    def _filtered(self, asked: dict[str, Any]) -> list[Item]:
        """Return every item that passes all parts of a search."""
        query = asked.get("query") or {}
        check_query(query)
        items = self._of_collections(asked.get("collections") or [])
        if ids := asked.get("ids"):
            items = [item for item in items if item["id"] in ids]
        if box := asked.get("bbox") or _box_of(asked.get("intersects")):
            items = [item for item in items if _touches(item["bbox"], box)]
        if when := asked.get("datetime"):
            items = [item for item in items if _within(item["properties"].get("datetime"), when)]
        items = [item for item in items if _passes(item, query)]
        return _sorted(items, _sort_of(asked))

    def _of_collections(self, names: list[str]) -> list[Item]:
        """Return the items of a collection; of two or more, none, unless the switch is on."""
        items = self._catalogue.items()
        known = {collection["id"] for collection in self._catalogue.collections("")}
        if unknown := set(names) - known:
            raise BadSearchError(f"Unknown collection {sorted(unknown)[0]}")
        if len(names) > 1 and not self._settings.several_collections:
            return []
        return [item for item in items if item["collection"] in names] if names else items


def matching(collections: list[Item], query: dict[str, Any]) -> list[Item]:
    """Return the collections that a query finds, by their summaries.

    Raises:
        BadSearchError: a name or an operator is unknown.
    """
    check_query(query, OF_COLLECTIONS)
    # Of collections a number may come as text: pygeodes' tests search total_items with "0".
    total = {
        operator: int(want) if str(want).isdecimal() else want
        for operator, want in query.get("total_items", {}).items()
    }
    query = query | {"total_items": total}
    return [one for one in collections if _passes(_as_item(one), query)]


def _as_item(collection: Item) -> Item:
    """Return a collection with what a query may ask for where items have it."""
    shown = {"title": collection["title"], "keywords": collection["keywords"]}
    return {"id": collection["id"], "properties": shown | collection["summaries"]}


def check_query(query: dict[str, Any], known: set[str] = QUERYABLE) -> None:
    """Refuse a query whose names or operators are unknown.

    Raises:
        BadSearchError: with the name or the operator.
    """
    for name, conditions in query.items():
        if name not in known:
            raise BadSearchError(f"Unknown property {name}")
        for operator in conditions:
            if operator not in OPERATORS:
                raise BadSearchError(f"Unknown operator {operator} on {name}")


def _passes(item: Item, query: dict[str, Any]) -> bool:
    """Tell whether an item fulfils every condition; what it does not have, it does not fulfil."""
    for name, conditions in query.items():
        have = value_of(item, name)
        if have is None or not all(OPERATORS[op](have, want) for op, want in conditions.items()):
            return False
    return True


def _sort_of(wanted: dict[str, Any]) -> list[dict[str, str]]:
    """Return the sort of a search under either spelling."""
    return wanted.get("sortBy") or wanted.get("sortby") or []


def _sorted(items: list[Item], fields: list[dict[str, str]]) -> list[Item]:
    """Return the items sorted; every direction but ``asc`` is taken for descending."""
    for field in reversed(fields):
        name, descending = field["field"], field.get("direction", "asc") != "asc"
        name = name.removeprefix("properties.")
        if name not in QUERYABLE:
            raise BadSearchError(f"Unknown property {name}")
        items = sorted(items, key=lambda item: _rank(value_of(item, name)), reverse=descending)
    return items


def _rank(value: Any) -> tuple[int, Any]:
    """Return a sort key; the kind goes first, so numbers, texts and gaps never meet."""
    if isinstance(value, (int, float)):
        return 1, value
    moment = _moment(value)
    if moment is not None and moment.tzinfo is not None:
        return 2, moment
    return (3, str(value)) if value is not None else (0, 0)


def _box_of(geometry: dict[str, Any] | None) -> list[float] | None:
    """Return the box of a polygon; None for other shapes, which the portal ignores."""
    if not geometry or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return None
    points = _points(geometry["coordinates"])
    across, up = [p[0] for p in points], [p[1] for p in points]
    return [min(across), min(up), max(across), max(up)]


def _points(coordinates: Any) -> list[list[float]]:
    """Return every point of nested rings."""
    if coordinates and isinstance(coordinates[0], (int, float)):
        return [coordinates]
    return [point for part in coordinates for point in _points(part)]


def _touches(one: list[float], other: list[float]) -> bool:
    """Tell whether two boxes (west, south, east, north) have a point in common."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _within(value: Any, interval: str) -> bool:
    """Tell whether a time lies in ``a/b``, where ``..`` is open, or is the one given."""
    first, _, last = interval.partition("/")
    after = first in ("", "..") or _compared(value, first) in (0, 1)
    end = last if "/" in interval else first
    return after and (end in ("", "..") or _compared(value, end) in (-1, 0))
