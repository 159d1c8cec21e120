"""Search results as a GeoDataFrame whose objects survive GeoJSON, files and maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from geopandas import GeoDataFrame, read_file

OBJECTS = ("item", "collection")
"""Columns that hold objects."""


class GeoTable(GeoDataFrame):  # type: ignore[misc, unused-ignore] # geopandas has no types
    """A GeoDataFrame that writes its items and collections as JSON.

    pandas and GDAL know no such objects: ``to_json`` would raise, and ``to_file`` would write
    their names alone.
    """

    @property
    def _constructor(self) -> Callable[..., Any]:
        """Keep the class for rows and columns of a table (pandas, "Extending pandas")."""
        return GeoTable

    def iterfeatures(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows as GeoJSON; ``to_json`` and ``__geo_interface__`` are made of these."""
        for feature in super().iterfeatures(*args, **kwargs):
            for name, value in feature["properties"].items():
                if hasattr(value, "to_dict"):
                    feature["properties"][name] = value.to_dict()
            yield feature

    def to_file(self, filename: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write the table to a file; objects are written as JSON text."""
        texts = {
            name: [json.dumps(one.to_dict()) for one in self[name]]
            for name in OBJECTS
            if name in self.columns and hasattr(next(iter(self[name]), None), "to_dict")
        }
        GeoDataFrame(self.assign(**texts)).to_file(filename, *args, **kwargs)


def load_dataframe(filepath: str, readers: dict[str, Callable[[Any], Any]]) -> GeoTable:
    """Return a table that was written to a file, with its objects again.

    Args:
        filepath: The file.
        readers: What makes an object of its JSON, by the name of its column.
    """
    table = GeoTable(read_file(Path(filepath)))
    for name, read in readers.items():
        if name in table.columns:
            table[name] = [_restored(one, read) for one in table[name]]
    return table


def _restored(value: Any, read: Callable[[Any], Any]) -> Any:
    # GDAL returns nested JSON as text or as an object, by its version. A table of items has a
    # column `collection` too, with the names of their collections.
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    return read(value) if isinstance(value, dict) else value
