"""The footprint of an item: small JSON whatever the item contains, and smaller when packed."""

from __future__ import annotations

import binascii
import json
import zlib
from typing import Any

import pytest

from geodes_tasks.model.footprint import (
    BOXED,
    DEEPEST,
    DIGITS,
    GEOMETRY_BYTES,
    LONGEST_HREF,
    LONGEST_TEXT,
    footprint,
    packed,
    parts,
    unpacked,
)

RING = [[1.0, 43.0], [2.0, 43.0], [2.0, 44.0], [1.0, 43.0]]


def item_of(**fields: Any) -> dict[str, Any]:
    """Return an item with a time, and other fields."""
    return {"properties": {"datetime": "2025-01-02T03:04:05Z"}} | fields


def kept(item: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an item."""
    return dict(json.loads(footprint(item) or "null"))


def test_packed_is_read_back() -> None:
    """A footprint comes back from its compressed form, which is smaller."""
    text = footprint(item_of(geometry={"type": "Polygon", "coordinates": [RING]})) or ""

    assert unpacked(packed(text)) == text
    assert len(packed(text)) < len(text) / 2


@pytest.mark.parametrize(("text", "error"), [("a", binascii.Error), ("////", zlib.error)])
def test_rubbish_is_not_unpacked(text: str, error: type[Exception]) -> None:
    """A text that is no compressed footprint is an error."""
    with pytest.raises(error):
        unpacked(text)


def test_only_known_short_properties_are_kept() -> None:
    """Long texts, booleans, other properties and numbers without end are left out."""
    properties = {
        "datetime": "2025-01-02T03:04:05Z",
        "start_datetime": "2025-01-02T03:04:05",
        "platform": "S2A",
        "grid:code": "x" * (LONGEST_TEXT + 1),
        "eo:cloud_cover": float("inf"),
        "sat:relative_orbit": True,
        "title": "a",
    }

    found = kept({"properties": properties})

    assert found == {"properties": {"datetime": "2025-01-02T03:04:05Z", "platform": "S2A"}}


def test_the_link_to_the_item_is_kept() -> None:
    """The origin is the link ``self``; one that is too long or no text is left out."""
    links = [{"rel": "root", "href": "https://h"}, {"rel": "self", "href": "https://h/a"}]

    assert kept(item_of(links=links))["self"] == "https://h/a"
    for href in ("h" * (LONGEST_HREF + 1), 3, None):
        assert "self" not in kept(item_of(links=[{"rel": "self", "href": href}]))


def test_the_box_is_that_of_the_item_or_of_its_points() -> None:
    """The bounding box of the item is used if it has four numbers, else that of the geometry."""
    geometry = {"type": "Polygon", "coordinates": [RING]}

    assert kept(item_of(geometry=geometry, bbox=[0, 1, 2, 3]))["bbox"] == [0, 1, 2, 3]
    assert kept(item_of(geometry=geometry, bbox=[0, 1, 2]))["bbox"] == [1.0, 43.0, 2.0, 44.0]


@pytest.mark.parametrize("given", [[179, 0, -179, 1], [179, 0, -5, -179, 1, 10]])
def test_a_box_over_the_date_line(given: list[float]) -> None:
    """A box has its four edges, whatever its heights, and over the date line it is two polygons."""
    ring = [[-180 + i / 10_000, 0.5] for i in range(200)]
    short = {"type": "MultiPolygon", "coordinates": [[[[179, 0], [180, 0], [180, 1], [179, 0]]]]}

    found = kept(item_of(geometry={"type": "Polygon", "coordinates": [ring]}, bbox=given))

    assert kept(item_of(geometry=short, bbox=given))["bbox"] == [179, 0, -179, 1]
    assert (found["bbox"], found["properties"][BOXED]) == ([179, 0, -179, 1], "bbox")
    assert found["geometry"] == {
        "type": "MultiPolygon",
        "coordinates": [
            [[[179, 0], [180, 0], [180, 1], [179, 1], [179, 0]]],
            [[[-180, 0], [-179, 0], [-179, 1], [-180, 1], [-180, 0]]],
        ],
    }


@pytest.mark.parametrize("coordinates", [["a"], [[1e9, 1.0]], [[1.0]], 5, [[[[]]]], {"a": 1}])
def test_no_point_no_place(coordinates: Any) -> None:
    """A geometry without one whole point is left out."""
    assert "geometry" not in kept(item_of(geometry={"type": "Point", "coordinates": coordinates}))


def test_lists_without_end_are_cut() -> None:
    """Coordinates that are nested a thousand levels deep cost no recursion error."""
    deep: Any = [1.0, 2.0]
    for _ in range(1000):
        deep = [deep]

    assert "geometry" not in kept(item_of(geometry={"type": "Polygon", "coordinates": deep}))


def test_the_parts_of_an_item_make_its_footprint() -> None:
    """They are much less than the item, whatever the rest of it is."""
    geometry = {"type": "Polygon", "coordinates": [RING]}
    links = [{"rel": "root", "href": "r"}, "no link", {"rel": "self", "href": "https://p/i"}]
    item = item_of(geometry=geometry, links=links, assets={"a": {}})
    item["properties"] |= {"platform": "S2A", "long": "x" * 5000}
    wrong: dict[str, Any] = {"properties": [], "links": 3, "geometry": "POINT"}

    assert footprint(parts(item)) == footprint(item)
    assert len(json.dumps(parts(item))) < len(json.dumps(item)) / 10
    assert footprint(parts(wrong)) is footprint(wrong) is None


def test_an_interval_is_a_time() -> None:
    """STAC wants ``datetime`` as null beside start and end; one of these alone is no time."""
    start, end = (
        {"start_datetime": "2025-01-02T03:04:05Z"},
        {"end_datetime": "2025-01-03T00:00:00Z"},
    )

    assert kept({"properties": start | end})["properties"] == {"datetime": None} | start | end
    assert footprint({"properties": start}) is None
    assert footprint({"properties": {"datetime": "yesterday"}}) is None


@pytest.mark.parametrize("longer", [0, 1])
def test_a_long_geometry_becomes_its_box(longer: int) -> None:
    """A geometry of the longest size is kept; one byte more makes it a box, and says so."""
    geometry = {"type": "MultiPoint", "coordinates": [[1.5, 2.5]] * 100}
    spare = GEOMETRY_BYTES + longer - len(json.dumps(geometry, separators=(",", ":")))
    geometry["type"] = "MultiPoint" + "x" * spare

    found = kept(item_of(geometry=geometry))

    assert found["geometry"]["type"] == ("Polygon" if longer else geometry["type"])
    assert found["properties"].get(BOXED) == ("bbox" if longer else None)


def test_coordinates_of_other_libraries() -> None:
    """Shapely has tuples, and whole numbers; each is rounded to a tenth of a metre."""
    place = {"type": "Point", "coordinates": (1, 43.123456789)}

    assert kept(item_of(geometry=place))["geometry"]["coordinates"] == [
        1.0,
        round(43.123456789, DIGITS),
    ]


def test_the_level_that_geodes_adds_is_removed() -> None:
    """A polygon has three levels of lists (RFC 7946 section 3.1.6); a multipolygon has four."""
    for kind, coordinates in (
        ("Polygon", [[RING]]),
        ("Polygon", [RING]),
        ("MultiPolygon", [[RING]]),
    ):
        found = kept(item_of(geometry={"type": kind, "coordinates": coordinates}))

        assert found["geometry"]["coordinates"] == ([RING] if kind == "Polygon" else [[RING]])

    several = kept(item_of(geometry={"type": "Polygon", "coordinates": [[RING], [RING]]}))
    assert several["geometry"] == {"type": "MultiPolygon", "coordinates": [[RING], [RING]]}


@pytest.mark.parametrize(("levels", "is_kept"), [(DEEPEST, True), (DEEPEST + 1, False)])
def test_the_deepest_coordinates(levels: int, is_kept: bool) -> None:
    """So many levels of lists are read and no more."""
    deep: Any = [1.0, 2.0]
    for _ in range(levels - 1):
        deep = [deep]

    found = kept(item_of(geometry={"type": "MultiPolygon", "coordinates": deep}))

    assert ("geometry" in found) is is_kept


def test_the_longest_link_is_kept() -> None:
    """A link of the longest size is no longer than the limit."""
    href = "h" * LONGEST_HREF

    assert kept(item_of(links=[{"rel": "self", "href": href}]))["self"] == href
