"""The types of what users pass as items: objects of libraries, tables, JSON, names of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

SourceName = Literal["auto", "geodes", "s3"]
"""Where bytes come from; ``auto`` is any source that has the file, the best one first."""


class PystacLike(Protocol):
    """An object of pystac, pygeodes or this package."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        ...


class EodagLike(Protocol):
    """A product of eodag."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        ...


ItemLike = Mapping[str, Any] | PystacLike | EodagLike
"""One item."""
ItemsLike = ItemLike | str | Path | Iterable[Any]
"""Items, collections and tables of them, or the name of a file that holds them."""


def check_items(items: object) -> None:
    """Check that an argument can hold items, where a mistake of the caller is found at once.

    Raises:
        TypeError: it is None, a number or bytes.
    """
    if items is None or isinstance(items, bool | int | float | bytes):
        raise TypeError(f"items are STAC items or the name of a file, not {items!r}")


def check_source(source: str) -> None:
    """Check the name of a source.

    Raises:
        ValueError: it is none.
    """
    if source not in ("auto", "geodes", "s3"):
        raise ValueError(f"source is 'auto', 'geodes' or 's3', not {source!r}")
