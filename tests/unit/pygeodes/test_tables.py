"""Tables of items and collections, with columns added afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.pygeodes import tables
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.pygeodes.tables import Table, format_collections, format_items
from geodes_tasks.stac import readers
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
    before = format_items([item], ["identifier"])

    after = format_items(before, ["eo:cloud_cover", "identifier"])

    assert isinstance(after, Table)
    assert after.columns == ["id", "collection", "identifier", "eo:cloud_cover", "item"]
    assert after["eo:cloud_cover"] == [5.0]
    assert before.columns == ["id", "collection", "identifier", "item"]


def test_columns_are_added_to_a_data_frame(item: Item) -> None:
    """With geopandas columns that the user added stay, and the frame of the search is unchanged."""
    pytest.importorskip("geopandas")
    frame = format_items([item])
    frame["mine"] = ["kept"]

    after = format_items(frame, ["eo:cloud_cover"])

    assert list(after["mine"]) == ["kept"]
    assert list(after["eo:cloud_cover"]) == [5.0]
    assert "eo:cloud_cover" not in frame.columns


@pytest.mark.filterwarnings("error")
def test_a_malformed_geometry_costs_no_other_item(item: Item) -> None:
    """It is missing in the table, with one warning; the level that GEODES adds is no fault."""
    pytest.importorskip("geopandas")
    ring = [[1, 43], [2, 43], [2, 44], [1, 43]]
    wrong: list[Any] = [
        {"type": "Point", "coordinates": [None, 43]},
        {"type": "Polygon", "coordinates": [[[1, 43], [2, 43]]]},
        {"type": "Polygon", "coordinates": [[[1, 43], [2, 43, 5], [2, 44], [1, 43]]]},
        {"type": "Circle", "coordinates": [1, 43]},
        {"coordinates": [1, 43]},
        "POINT (1 43)",
    ]
    right: list[Any] = [
        {"type": "Polygon", "coordinates": [[ring]]},
        {"type": "Polygon", "coordinates": [[ring], [ring]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 43]}]},
        None,
    ]
    items = [Item.from_dict(item.to_dict() | {"geometry": one}) for one in wrong + right]

    with pytest.warns(UserWarning, match=f"6 items without a usable geometry, such as {item.id}"):
        table = format_items(items)

    kinds = [None if one is None else one.geom_type for one in table["geometry"]]
    assert kinds == [None] * 6 + ["Polygon", "MultiPolygon", "GeometryCollection", None]


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


def test_items_survive_geojson_files_and_maps(item: Item, tmp_path: Path) -> None:
    """``to_json``, ``to_file``, ``export_dataframe`` and folium's door write whole items."""
    pytest.importorskip("geopandas")
    table = tables.format_items([item], ["eo:cloud_cover"])[["id", "item", "geometry"]]
    exported, written = str(tmp_path / "a.json"), str(tmp_path / "b.geojson")

    tables.export_dataframe(table, exported)
    table.to_file(written, driver="GeoJSON")
    interface = json.loads(json.dumps(table.to_crs("EPSG:4326").__geo_interface__))
    loaded = [tables.load_dataframe(name)["item"][0] for name in (exported, written)]
    read = [list(readers.read(name)) for name in (exported, written)]

    assert interface["features"][0]["properties"]["item"]["id"] == item.id
    assert [one.data_asset_checksum for one in loaded] == [item.data_asset_checksum] * 2
    assert [[one["id"] for one in found if isinstance(one, dict)] for found in read] == [
        [item.id],
        [item.id],
    ]


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_column_that_no_item_has_is_left_out(
    item: Item, monkeypatch: pytest.MonkeyPatch, is_plain: bool
) -> None:
    """A misspelt name is a warning and no column of None, as in pygeodes; None adds nothing."""
    if is_plain:
        monkeypatch.setitem(sys.modules, "geopandas", None)
    else:
        pytest.importorskip("geopandas")

    with pytest.warns(UserWarning, match="no item has eo:cloudcover: the column is left out"):
        table = format_items([item], {"eo:cloudcover"})

    assert "eo:cloudcover" not in table.columns
    assert list(format_items(table, None).columns) == list(table.columns)
    assert len(format_items([], ["platform"])) == 0
