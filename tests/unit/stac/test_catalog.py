"""Searches are made fit for the portal before they are sent; its answers are read tolerantly."""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.errors import CatalogueUnavailableError, SearchError
from geodes_tasks.settings import config
from geodes_tasks.stac import catalog
from geodes_tasks.stac.paging import EMPTY_PAGES, Page, Results
from geodes_tasks.stac.query import Search, moment, order, tile_code
from geodes_tasks.transports.http.exchange import Reply
from geodes_tasks.transports.http.http_client import HttpClient

POINT = {"type": "Point", "coordinates": [1.5, 43.5]}
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}


def part(**search: Any) -> dict[str, Any]:
    """Give the one request that a search becomes."""
    (only,) = Search(**search).parts()
    return only


# --- order -------------------------------------------------------------------------------------


def test_every_search_has_a_total_order() -> None:
    """Without a sort the portal's pages overlap, so there always is one that ends in a name."""
    fields = [one["field"] for one in part(bbox=[0, 0, 1, 1])["sortBy"]]

    assert fields == ["start_datetime", "identifier"]


@pytest.mark.parametrize(
    ("given_sort", "expected"),
    [
        (["-eo:cloud_cover"], [("eo:cloud_cover", "desc"), ("identifier", "asc")]),
        (
            [{"field": "datetime", "direction": "dsc"}],
            [("datetime", "desc"), ("identifier", "asc")],
        ),
        ([{"field": "identifier", "direction": "ascending"}], [("identifier", "asc")]),
        ([{"field": "properties.identifier"}], [("properties.identifier", "asc")]),
    ],
)
def test_a_given_order_is_made_total(given_sort: Any, expected: list[tuple[str, str]]) -> None:
    """What the caller asks for comes first; the name decides what it leaves open."""
    made = order(given_sort)

    assert [(one["field"], one["direction"]) for one in made] == expected


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2025", "2025-01-01T00:00:00.000Z", "2025-12-31T23:59:59.999Z"),
        ("2024-02", "2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z"),
        ("2025-04-02", "2025-04-02T00:00:00.000Z", "2025-04-02T23:59:59.999Z"),
        (date(2025, 12, 31), "2025-12-31T00:00:00.000Z", "2025-12-31T23:59:59.999Z"),
        ("2025-04-02T17:57:41.024Z", "2025-04-02T17:57:41.024Z", "2025-04-02T17:57:41.024Z"),
        ("2025-04-02T02:00+02:00", "2025-04-02T00:00:00.000Z", "2025-04-02T00:00:00.000Z"),
        (datetime(2025, 4, 2), "2025-04-02T00:00:00.000Z", "2025-04-02T00:00:00.000Z"),  # noqa: DTZ001 - on purpose
    ],
)
def test_times_are_normalised(value: Any, first: str, last: str) -> None:
    """A time in any usual form becomes UTC with Z; a day, month or year has a first and a last."""
    assert (moment(value), moment(value, end=True)) == (first, last)


@given(st.datetimes(min_value=datetime(1972, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_the_zone_does_not_change_the_moment(at: datetime) -> None:
    """The same moment in another zone is written the same."""
    here = at.replace(tzinfo=UTC)
    there = here.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert moment(here) == moment(there)


@pytest.mark.parametrize("value", ["", "soon", "2025-13", "2025-02-30", "02/04/2025"])
def test_what_is_no_time_is_named(value: str) -> None:
    """A wrong date ends the search before it is sent, with the text that was wrong."""
    with pytest.raises(SearchError, match="is no time"):
        moment(value)


def test_a_window_asks_for_overlap() -> None:
    """An item that begins before the window and ends in it belongs to it."""
    query = part(start="2025-04-02", end="2025-04-03")["query"]

    assert query == {
        "end_datetime": {"gte": "2025-04-02T00:00:00.000Z"},
        "start_datetime": {"lte": "2025-04-03T23:59:59.999Z"},
    }


def test_a_window_and_a_query_both_count() -> None:
    """Where both limit the same property the stricter limit wins."""
    query = part(
        query={"start_datetime": {"lte": "2025-01-01", "gte": "2024-01-01"}}, end="2025-06"
    )["query"]

    assert query["start_datetime"] == {
        "lte": "2025-01-01T23:59:59.999Z",
        "gte": "2024-01-01T00:00:00.000Z",
    }


def test_plain_values_are_equality() -> None:
    """A value without an operator means equal, a list one of several."""
    query = part(query={"platform": "S2A", "grid:code": ["T31TCJ", "T31TCH"]})["query"]

    assert query == {"platform": {"eq": "S2A"}, "grid:code": {"in": ["T31TCJ", "T31TCH"]}}


@pytest.mark.parametrize("text", ["31TCJ", "T31TCJ", "MGRS-31TCJ", "t31tcj"])
def test_tiles_are_written_as_the_portal_does(text: str) -> None:
    """Each usual spelling of a tile finds it."""
    assert tile_code(text) == "T31TCJ"


# --- place -------------------------------------------------------------------------------------


def test_each_collection_is_a_search_of_its_own() -> None:
    """Two collections in one request find nothing on the portal, so they are never sent so."""
    parts = list(Search(collections=["A", "B", "A"]).parts())

    assert [one["collections"] for one in parts] == [["A"], ["B"]]


def test_a_point_becomes_a_small_box(caplog: pytest.LogCaptureFixture) -> None:
    """The portal ignores a point silently; here it is searched for, with a notice."""
    caplog.set_level(logging.WARNING)

    body = part(intersects=POINT)

    assert "intersects" not in body
    assert body["bbox"] == pytest.approx([1.4999, 43.4999, 1.5001, 43.5001])
    assert "the portal ignores a Point" in caplog.text


@pytest.mark.parametrize(
    "shape",
    [
        SQUARE,
        {"type": "Feature", "geometry": SQUARE, "properties": {}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": SQUARE}]},
        SimpleNamespace(__geo_interface__=SQUARE),
    ],
)
def test_areas_are_taken_in_every_form(shape: Any) -> None:
    """Geometries, Features and objects of geographic libraries name the same area."""
    assert part(intersects=shape) == part(intersects=SQUARE)


def test_a_line_becomes_its_box() -> None:
    """Lines are as invisible to the portal as points, so their box is searched."""
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 2]]}

    assert part(intersects=line)["bbox"] == pytest.approx([-0.0001, -0.0001, 1.0001, 2.0001])


def test_a_box_over_the_date_line_is_two_boxes() -> None:
    """From 170 east to 170 west is a narrow strip, not the rest of the world."""
    parts = list(Search(bbox=[170, -10, -170, 10]).parts())

    assert [one["bbox"] for one in parts] == [[170, -10, 180, 10], [-180, -10, -170, 10]]


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"bbox": [1, 2, 3]}, "3 numbers in place of 4"),
        ({"bbox": [0, 50, 1, 40]}, "in degrees"),
        ({"bbox": [0, 0, 400, 1]}, "in degrees"),
        ({"bbox": ["west", 0, 1, 1]}, "is not west, south, east, north"),
        ({"bbox": [0, 0, 1, 1], "intersects": POINT}, "not both"),
        ({"intersects": "Toulouse"}, "no GeoJSON geometry"),
    ],
)
def test_places_that_make_no_sense_are_named(search: dict[str, Any], problem: str) -> None:
    """A wrong place ends the search before it is sent."""
    with pytest.raises(SearchError, match=problem):
        part(**search)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "matched", "limit"),
    [
        ({"context": {"matched": 7, "limit": 5}}, 7, 5),
        ({"numberMatched": 7, "numberReturned": 5}, 7, None),
        ({"context": None}, None, None),
        ({"context": {"matched": None}, "numberMatched": 3}, 3, None),
        ({"features": None}, None, None),
    ],
)
def test_counts_are_read_where_they_are(
    answer: dict[str, Any], matched: int | None, limit: int | None
) -> None:
    """Old and new portals count in different places, and some not at all."""
    page = Page.of(answer)

    assert (page.matched, page.limit) == (matched, limit)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"message": "Service temporarily unavailable"}', "HTTP 200: Service temporarily"),
        (b'{"features": null, "collections": {}}', "HTTP 200, no results"),
        (b"<html>", "HTTP 200, no JSON"),
    ],
)
def test_a_message_in_place_of_results_is_not_nothing(
    monkeypatch: pytest.MonkeyPatch, body: bytes, problem: str
) -> None:
    """An answer without the expected list is requested again, and never counts as 0 found."""
    answers = [Reply(200, {}, body)] * 5
    good = b'{"features": [{"id": "a"}], "collections": [{"id": "C"}], "products": []}'
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(
        HttpClient, "fetch", lambda *_, **__: answers.pop() if answers else Reply(200, {}, good)
    )
    portal = catalog.Catalog(config.load())

    assert portal.page(Search(start="2025"))[0] == [{"id": "a"}]
    assert portal.collections() == [{"id": "C"}]
    for request in (
        lambda: list(portal.search(Search(start="2025"))),
        portal.collections,
        lambda: portal.availability([("h", "e")]),
    ):
        answers.extend([Reply(200, {}, body)] * 6)
        with pytest.raises(CatalogueUnavailableError, match=problem):
            request()


def test_names_and_a_query_of_names_are_not_one_of_them() -> None:
    """The ids of a search do not replace what its query has of the same property."""
    with pytest.raises(SearchError, match="has 'in' of identifier, and so do the ids"):
        part(ids=["A"], query={"identifier": ["B"]})

    assert part(ids=["A"], query={"identifier": {"startsWith": "A"}})["query"] == {
        "identifier": {"startsWith": "A", "in": ["A"]}
    }


# --- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [7, 40])
def test_a_link_to_a_next_page_is_followed(cap: int) -> None:
    """A portal that cuts its pages without a word or a count still links to the next one."""
    items = [{"id": f"{number}"} for number in range(100)]

    def fetch(_: Any, number: int, size: int) -> Page:
        end = number * min(size, cap)
        links = [{"rel": "self"}, {"rel": "next"}] if end < len(items) else [None, {"rel": "self"}]
        return Page.of({"features": items[end - min(size, cap) : end], "links": links})

    assert list(Results(Search(start="2025").parts(), fetch)) == items


@pytest.mark.parametrize(
    ("empty", "found", "asked"),
    [(1, ["a", "b"], 4), (EMPTY_PAGES, ["a", "b"], EMPTY_PAGES + 3), (99, ["a"], EMPTY_PAGES + 2)],
)
def test_empty_pages_with_a_link_to_the_next_are_skipped(
    empty: int, found: list[str], asked: int
) -> None:
    """What follows them is found; a portal whose pages all have a link is not read for ever."""
    more = [{"rel": "next"}]
    pages: list[dict[str, Any]] = [{"features": [{"id": "a"}], "links": more}]
    pages += [{"features": [], "links": more}] * empty + [{"features": [{"id": "b"}]}, {}]
    rest = iter(pages)

    items = Results(Search(start="2025").parts(), lambda *_: Page.of(next(rest)))

    assert [item["id"] for item in items] == found
    assert len(pages) - len(list(rest)) == asked


def test_a_first_page_may_be_empty() -> None:
    """Its length is not that of a page."""
    links = [{"rel": "next"}]
    pages = [{"features": [], "links": links}, {"features": [{"id": "a"}], "links": links}, {}]
    sizes: list[int] = []

    def fetch(_: Any, number: int, size: int) -> Page:
        sizes.append(size)
        return Page.of(pages[number - 1])

    assert list(Results(Search(start="2025").parts(), fetch)) == [{"id": "a"}]
    assert sizes == [80, 80, 80]


@pytest.mark.parametrize(
    ("search", "named"),
    [
        ({"query": "dataset"}, "query: is {property: {operator: value}}, not 'dataset'"),
        ({"query": [1]}, "not [1]"),
        ({"query": {5: 1}}, "not {5: 1}"),
        ({"query": {"a": b"x"}}, "query: b'x' is no text, number or time"),
        ({"query": {"a": {"in": [1j]}}}, "1j is no text"),
        ({"collections": 5}, "collections: are texts, not 5"),
        ({"collections": ["C", None]}, "not None"),
        ({"ids": [5]}, "ids: are texts, not 5"),
        ({"start": 5}, "5: is no time"),
        ({"end": "0001-01-01T00:00+14:00"}, "is no time"),
        ({"sort_by": [5]}, "sort_by: has 5, which has no"),
        ({"sort_by": [{"field": 5}]}, "sort_by: has {'field': 5}"),
    ],
)
def test_a_value_of_another_type_is_named(search: dict[str, Any], named: str) -> None:
    """A mistake in a search is one clear line, not an error of a library below."""
    with pytest.raises(SearchError, match=re.escape(named)):
        list(Search(**search).parts())


def test_what_programs_write_is_taken() -> None:
    """One id or one field to sort by alone, an iterator, numbers of decimal, the last year."""
    (found,) = Search(
        ids="URN:A",
        collections=iter(["C"]),  # type: ignore[arg-type]
        sort_by={"field": "datetime", "direction": "desc"},
        query={"eo:cloud_cover": {"lte": Decimal("20.5")}},
        end="9999",
    ).parts()

    assert (found["ids"], found["collections"]) == (["URN:A"], ["C"])
    assert found["sortBy"][0] == {"field": "datetime", "direction": "desc"}
    assert found["query"]["eo:cloud_cover"] == {"lte": 20.5}
    assert found["query"]["start_datetime"] == {"lte": "9999-12-31T23:59:59.999Z"}


@pytest.mark.parametrize(
    ("name", "is_named"),
    [
        ("urn:1", True),
        ("SENTINEL2A_L2A_T31TCJ_C", True),
        ("SENTINEL2A_L2A_T31TCJ_C_V2-0.zip", True),
        ("a/folder/SENTINEL2A_L2A_T31TCJ_C_V2-0", True),
        ("SENTINEL2A_L2A_T31TCJ_C_V1-0.zip", False),
        ("SENTINEL2A_L2A_T31TCJ_D_V2-0.zip", False),
        ("SENTINEL2A_L2A_T31TCJ", False),
    ],
)
def test_a_version_in_a_name_is_that_of_the_item(name: str, is_named: bool) -> None:
    """A product of THEIA has its version in the name of its archive alone."""
    item = {
        "id": "urn:1",
        "properties": {"identifier": "SENTINEL2A_L2A_T31TCJ_C"},
        "assets": {"x": {"title": "SENTINEL2A_L2A_T31TCJ_C_V2-0.zip"}},
    }
    other = {
        "id": "urn:2",
        "properties": {"identifier": "SENTINEL2A_L2A_T31TCJ_E"},
        "assets": {"x": {"title": "SENTINEL2A_L2A_T31TCJ_C_V2-0.zip"}},
    }

    untitled = item | {"assets": {"SENTINEL2A_L2A_T31TCJ_C_V2-0.zip": {}}}

    assert catalog._is_named(item, name) is is_named
    assert catalog._is_named(untitled, name) is is_named
    assert not catalog._is_named(other, name)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_search_that_the_portal_refuses_is_not_repeated(status: int) -> None:
    """Every attempt would have the same answer."""
    with pytest.raises(SearchError, match=f"HTTP {status}"):
        catalog._refusal("https://p", Reply(status, {}, b"{}"), {})


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504, 507])
def test_a_portal_that_is_busy_is_tried_again(status: int) -> None:
    """Its answer tells nothing of the search."""
    assert catalog._refusal("https://p", Reply(status, {}, b"{}"), {}) == f"HTTP {status}"
