"""Search results as a table: geopandas' data frame where it is installed, else a plain one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from geodes_tasks.errors import MissingPackageError
from geodes_tasks.model.footprint import unwrapped
from geodes_tasks.model.formatting import plural, printable
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


def format_items(items: Any, columns_to_add: Iterable[str] | None = None) -> Any:
    """Return a table of items: id, collection, more columns by name, ``item`` and the geometry.

    Args:
        items: Items, or the table of a search; its own columns stay, and it does not change.
        columns_to_add: Names of properties, nested ones with dots. One that no item has is left
            out, with a warning.
    """
    return _table(items, "item", ("id", "collection"), columns_to_add or ())


def format_collections(collections: Any, columns_to_add: Iterable[str] | None = None) -> Any:
    """Return a table of collections: title, description, more by name, and ``collection``.

    Args:
        collections: Collections, or a table of them, as for :func:`format_items`.
        columns_to_add: Names of fields; what items call ``dataset`` is a collection's id.
    """
    names = ["id" if name == "dataset" else name for name in columns_to_add or ()]
    return _table(collections, "collection", ("title", "description"), names)


def _table(given: Any, kind: str, usual: Iterable[str], more: Iterable[str]) -> Any:
    is_table = hasattr(given, "columns")
    objects = list(given[kind] if is_table else given)
    # Columns that the user added are no fields of an item: they are copied, not read again.
    names = dict.fromkeys(more if is_table else (*usual, *more))
    columns = {name: [one.find(name) for one in objects] for name in names}
    for name in dict.fromkeys(more):
        if objects and all(value is None for value in columns[name]):
            del columns[name]
            warnings.warn(f"no {kind} has {name}: the column is left out", stacklevel=3)
    if is_table and not isinstance(given, Table):
        return given.assign(**columns)
    if is_table or (geo_table := _geo_table()) is None:
        own = given.columns[:-1] if is_table else ()
        return Table(objects, dict.fromkeys((*own, *columns)), kind)
    if kind == "collection":
        return geo_table.GeoTable(columns | {kind: objects})
    shapes = [_shape(item.geometry) for item in objects]
    pairs = zip(objects, shapes, strict=True)
    if lost := [item.id for item, shape in pairs if item.geometry and shape is None]:
        problem = f"{plural(len(lost), 'item')} without a usable geometry, such as {lost[0]}"
        warnings.warn(printable(problem), stacklevel=3)
    return geo_table.GeoTable(columns | {kind: objects}, geometry=shapes, crs=WGS84)


def _shape(geometry: Any) -> Any:
    """Return a geometry as shapely has it; None where it has none."""
    # shapely comes with geopandas, which needs it.
    shape, errors = import_module("shapely.geometry").shape, import_module("shapely.errors")
    # It raises what its own reading of malformed coordinates ends in.
    wrong = (ValueError, TypeError, AttributeError, LookupError)
    with suppress(errors.ShapelyError, *wrong):
        if "coordinates" in geometry:  # a GeometryCollection has none
            geometry = unwrapped(geometry["type"], geometry["coordinates"])
        return shape(geometry)
    return None


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
