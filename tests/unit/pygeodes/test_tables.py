"""Tables of items and collections, with columns added afterwards."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from geodes_tasks.pygeodes.item import Item
from geodes_tasks.pygeodes.tables import Table, format_collections, format_items, items_table
from tests.unit.pygeodes.test_item import made


class Found:
    """A collection with two fields."""

    def find(self, key: str) -> Any:
        """Return a field."""
        return {"id": "PEPS_S2_L1C", "title": "Sentinel-2"}.get(key)


@pytest.fixture
def item() -> Item:
    """Return an item of the portal."""
    return Item.from_dict(made(cloud_cover=5.0))


def test_columns_are_added_to_a_plain_table(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without geopandas the columns of a search stay, and the new ones follow."""
    monkeypatch.setitem(sys.modules, "geopandas", None)
    before = items_table([item], ["identifier"])

    after = format_items(before, ["eo:cloud_cover", "identifier"])

    assert isinstance(after, Table)
    assert after.columns == ["id", "collection", "identifier", "eo:cloud_cover", "item"]
    assert after["eo:cloud_cover"] == [5.0]
    assert before.columns == ["id", "collection", "identifier", "item"]


def test_columns_are_added_to_a_data_frame(item: Item) -> None:
    """With geopandas columns that the user added stay, and the frame of the search is unchanged."""
    pytest.importorskip("geopandas")
    frame = items_table([item])
    frame["mine"] = ["kept"]

    after = format_items(frame, ["eo:cloud_cover"])

    assert list(after["mine"]) == ["kept"]
    assert list(after["eo:cloud_cover"]) == [5.0]
    assert "eo:cloud_cover" not in frame.columns


def test_items_become_a_table(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of items is a table with the columns of a search."""
    monkeypatch.setitem(sys.modules, "geopandas", None)

    assert format_items([item], ["platform"]).columns == ["id", "collection", "platform", "item"]


def test_collections_become_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """``dataset``, as items call it, is the id of a collection."""
    monkeypatch.setitem(sys.modules, "geopandas", None)

    table = format_collections(format_collections([Found()]), ["dataset"])

    assert table.columns == ["title", "description", "id", "collection"]
    assert table["id"] == ["PEPS_S2_L1C"]
