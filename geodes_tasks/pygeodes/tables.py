"""Search results as a table: geopandas' data frame where it is installed, else a plain one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from geodes_tasks.errors import MissingPackageError
from geodes_tasks.pygeodes.item import Collection, Item

WGS84 = 4326
"""EPSG number of longitude and latitude in degrees, as GeoJSON prescribes (RFC 7946 section 4)."""
SHOWN_ROWS = 60
"""Rows shown in a notebook at most; pandas shows as many."""


class Table:
    """Items or collections with some of their fields; iteration yields the objects."""

    def __init__(self, objects: Sequence[Any], columns: Iterable[str], kind: str) -> None:
        """Keep the objects; ``kind`` names their own column, ``item`` or ``collection``."""
        self.objects, self.kind = list(objects), kind
        self.columns = [*columns, kind]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.objects)

    def __iter__(self) -> Iterator[Any]:
        """Yield the objects."""
        return iter(self.objects)

    def __getitem__(self, column: str) -> list[Any]:
        """Return a column."""
        if column == self.kind:
            return list(self.objects)
        return [one.find(column) for one in self.objects]

    def __repr__(self) -> str:
        """Return the number of rows and the names of the columns."""
        return f"Table({len(self)} rows, columns {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        """Show the first SHOWN_ROWS rows in a notebook."""
        names = self.columns[:-1]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(str(one.find(name)))}</td>' for name in names)}</tr>"
            for one in self.objects[:SHOWN_ROWS]
        )
        more = len(self) - SHOWN_ROWS
        rest = f"<p>and {more} more</p>" if more > 0 else ""
        return f"<table><tr>{head}</tr>{rows}</table>{rest}"


def items_table(items: Sequence[Any], columns: Iterable[str] = ()) -> Any:
    """Return a table of items: id, collection, more columns by name, ``item`` and the geometry."""
    names = list(dict.fromkeys(("id", "collection", *columns)))
    geo_table = _geo_table()
    if geo_table is None:
        return Table(items, names, "item")
    # shapely comes with geopandas, which needs it.
    shapely = import_module("shapely.geometry")
    data = {name: [item.find(name) for item in items] for name in names} | {"item": list(items)}
    shapes = [shapely.shape(_flat(item.geometry)) if item.geometry else None for item in items]
    return geo_table.GeoTable(data, geometry=shapes, crs=WGS84)


def collections_table(collections: Sequence[Any], columns: Iterable[str] = ()) -> Any:
    """Return a table of collections: title, description, more by name, and ``collection``."""
    names = list(dict.fromkeys(("title", "description", *_collection_columns(columns))))
    geo_table = _geo_table()
    if geo_table is None:
        return Table(collections, names, "collection")
    data = {name: [one.find(name) for one in collections] for name in names}
    return geo_table.GeoTable(data | {"collection": list(collections)})


def format_items(items: Any, columns_to_add: Iterable[str] = ()) -> Any:
    """Return a table of items with more columns by name; pygeodes' spelling.

    Args:
        items: Items, or the table of a search; its own columns stay, and it does not change.
        columns_to_add: Names of properties, nested ones with dots.
    """
    if not hasattr(items, "columns"):
        return items_table(items, columns_to_add)
    return _with_columns(items, "item", columns_to_add)


def format_collections(collections: Any, columns_to_add: Iterable[str] = ()) -> Any:
    """Return a table of collections with more columns by name, as :func:`format_items`."""
    if not hasattr(collections, "columns"):
        return collections_table(collections, columns_to_add)
    return _with_columns(collections, "collection", _collection_columns(columns_to_add))


def _with_columns(table: Any, kind: str, names: Iterable[str]) -> Any:
    if isinstance(table, Table):
        return Table(table.objects, dict.fromkeys((*table.columns[:-1], *names)), kind)
    # Columns that the user added are no fields of an item: they are copied, not read again.
    copy = table.copy()
    for name in names:
        copy[name] = [one.find(name) for one in copy[kind]]
    return copy


def _collection_columns(names: Iterable[str]) -> list[str]:
    """Return field names of collections; what items call ``dataset`` is a collection's id."""
    return ["id" if name == "dataset" else name for name in names]


def export_dataframe(dataframe: Any, outfile: str) -> None:
    """Write a table to a GeoJSON file, items and collections with it."""
    Path(outfile).write_text(dataframe.to_json())


def load_dataframe(filepath: str) -> Any:
    """Return a table that ``export_dataframe`` or ``to_file`` wrote, with its objects again.

    Raises:
        MissingPackageError: geopandas is not installed.
    """
    geo_table = _geo_table()
    if geo_table is None:
        raise MissingPackageError("geopandas", "load_dataframe")
    return geo_table.load_dataframe(
        filepath, {"item": Item.from_dict, "collection": Collection.from_dict}
    )


def _geo_table() -> Any:
    """Return the module of geopandas' tables; None where geopandas is not installed."""
    try:
        import_module("geopandas")
        return import_module("geodes_tasks.pygeodes.geo_table")
    except ImportError:
        return None


def _flat(geometry: dict[str, Any]) -> dict[str, Any]:
    """Return the geometry without the extra level that GEODES gives some polygons."""
    # GeoJSON nests a polygon's numbers three deep (RFC 7946 section 3.1.6), GEODES some four.
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Polygon" and isinstance(coordinates, list | tuple):
        deepest = coordinates
        depth = 0
        while isinstance(deepest, list | tuple) and deepest:
            deepest, depth = deepest[0], depth + 1
        if depth == 4 and len(coordinates) == 1:
            return geometry | {"coordinates": coordinates[0]}
    return geometry
