"""Searches and pages as a stranger writes them: what is sent is right or refused by name."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from geodes_tasks.errors import SearchError
from geodes_tasks.stac import writers
from geodes_tasks.stac.paging import Page, Results, identity_of
from geodes_tasks.stac.query import Search
from tests.unit.stac.test_assets import ITEMS, JSON
from tests.unit.transfer.test_destination import NAMES

NUMBERS = st.floats() | st.integers() | st.none() | st.text(max_size=3)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["Point", "Polygon", "Feature", "FeatureCollection"]) | JSON,
        "coordinates": st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3)),
        "geometries": JSON,
        "geometry": JSON,
        "features": JSON,
    },
)
WKT = st.builds(
    lambda kind, rest: f"{kind} ({rest})",
    st.sampled_from(["POINT", "MULTIPOINT Z", "polygon", "SRID=4326;LINESTRING", "CIRCLE"]),
    st.text("0123456789.-+eE,() ", max_size=30),
)
SEARCHES = st.fixed_dictionaries(
    {},
    optional={
        "query": st.dictionaries(st.text() | st.just("dataType"), JSON, max_size=3),
        "bbox": st.lists(NUMBERS, max_size=7) | JSON,
        "intersects": SHAPES | WKT | JSON,
        "collections": st.lists(st.text(), max_size=3) | st.text(),
        "ids": st.lists(st.text() | st.just("URN:X"), max_size=3),
        "start": st.text() | st.datetimes() | st.dates(),
        "end": st.text() | st.just("9999") | st.dates(),
        "sort_by": st.lists(
            st.text() | st.dictionaries(st.sampled_from(["field", "direction"]), st.text()),
            max_size=2,
        ),
    },
)


@given(SEARCHES)
def test_any_search_is_sent_right_or_refused(search: dict[str, Any]) -> None:
    """Whatever a program wants: JSON with a total order and one collection, or one clear line."""
    try:
        parts = list(Search(**search).parts())
    except SearchError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
        return

    for part in parts:
        assert part["sortBy"][-1]["field"].removeprefix("properties.")
        assert len(part.get("collections", ["one"])) == 1
        json.dumps(part)


ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "features": st.lists(ITEMS | JSON, max_size=3) | JSON,
        "context": JSON | st.fixed_dictionaries({"matched": JSON, "limit": JSON}),
        "numberMatched": JSON,
    },
)


@given(st.lists(ANSWERS, max_size=5))
def test_any_pages_end_the_search(answers: list[dict[str, Any]]) -> None:
    """Whatever the portal answers, a search ends, and no item comes twice."""
    pages = iter(answers)
    results = Results(Search(start="2025").parts(), lambda *_: Page.of(next(pages, {})))

    ids = [identity_of(item) for item in results]
    assert len(ids) == len(set(ids))
    assert results.missing >= 0


def test_items_without_an_id_are_not_one_item() -> None:
    """Two items of a catalogue that leaves ids out are two, and the same one again is one."""
    items = [
        {"assets": {"a.zip": {}}},
        {"assets": {"b.zip": {}}},
        {"properties": {"identifier": "c"}},
    ]
    pages = iter([{"features": items}, {"features": items}])

    results = Results(Search(start="2025").parts(), lambda *_: Page.of(next(pages, {})))

    assert list(results) == items


@given(st.lists(ITEMS | st.fixed_dictionaries({"id": NAMES, "properties": JSON}), max_size=3))
@example([{"id": "=1+1", "collection": "@x", "properties": {"platform": "-2"}}])
def test_any_items_become_rows(items: list[dict[str, Any]]) -> None:
    """A row an item, and no cell that a spreadsheet would run."""
    stream = io.StringIO(newline="")

    written = writers._write_rows(items, stream)

    rows = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert len(rows) == written + 1 == len(items) + 1
    for cell in (cell for row in rows[1:] for cell in row):
        assert cell[:1] not in {"=", "+", "@"}
        assert cell.isprintable()
