"""What a search found as a table: geopandas' frame where it is installed, else a plain one."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WGS84 = 4326
SHOWN_ROWS = 60


class Table:
    """Found objects with some of their fields; iterating gives the objects."""

    def __init__(self, objects: Sequence[Any], columns: Sequence[str], kind: str) -> None:
        """Take the objects; ``kind`` names their own column, ``item`` or ``collection``."""
        self.objects, self.kind = list(objects), kind
        self.columns = [*columns, kind]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.objects)

    def __iter__(self) -> Iterator[Any]:
        """Give the objects."""
        return iter(self.objects)

    def __getitem__(self, column: str) -> list[Any]:
        """Give a column."""
        if column == self.kind:
            return list(self.objects)
        return [one.find(column) for one in self.objects]

    def __repr__(self) -> str:
        """Say what is in it."""
        return f"Table({len(self)} rows, columns {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
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
    """Make a table of items: id, collection, more columns by name, ``item`` and the geometry."""
    names = list(dict.fromkeys(("id", "collection", *columns)))
    geopandas = _geopandas()
    if geopandas is None:
        return Table(items, names, "item")
    shapely = import_module("shapely.geometry")
    data = {name: [item.find(name) for item in items] for name in names} | {"item": list(items)}
    shapes = [shapely.shape(_flat(item.geometry)) if item.geometry else None for item in items]
    return geopandas.GeoDataFrame(data, geometry=shapes, crs=WGS84)


def collections_table(collections: Sequence[Any], columns: Iterable[str] = ()) -> Any:
    """Make a table of collections: title, description, more by name, and ``collection``."""
    renamed = ("id" if name == "dataset" else name for name in columns)
    names = list(dict.fromkeys(("title", "description", *renamed)))
    geopandas = _geopandas()
    if geopandas is None:
        return Table(collections, names, "collection")
    data = {name: [one.find(name) for one in collections] for name in names}
    return geopandas.GeoDataFrame(data | {"collection": list(collections)})


def _geopandas() -> Any:
    try:
        return import_module("geopandas")
    except ImportError:
        return None


def _flat(geometry: dict[str, Any]) -> dict[str, Any]:
    """Take one level out of polygons that GEODES nests one deeper than GeoJSON has them."""
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Polygon" and isinstance(coordinates, list | tuple):
        deepest = coordinates
        depth = 0
        while isinstance(deepest, list | tuple) and deepest:
            deepest, depth = deepest[0], depth + 1
        if depth == 4 and len(coordinates) == 1:
            return geometry | {"coordinates": coordinates[0]}
    return geometry
