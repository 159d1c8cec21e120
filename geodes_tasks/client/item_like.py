"""The types of what users pass as items: objects of libraries, tables, JSON, names of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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
        TypeError: it, or an element of a list, is None, a number, bytes or another object.
        ValueError: it, or an element of a list, is the empty name of a file.
    """
    for one in items if isinstance(items, list | tuple) else (items,):
        # What a generator yields is not read here: it is read once.
        has_form = any(hasattr(one, name) for name in ("to_dict", "as_dict", "__iter__"))
        if isinstance(one, bytes) or not (has_form or isinstance(one, os.PathLike)):
            raise TypeError(f"items are STAC items or the name of a file, not {one!r}")
        if isinstance(one, str) and not one:
            raise ValueError("items are STAC items or the name of a file, and this name is empty")


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Check that an argument is a list of texts: one text is a list of its letters too.

    Raises:
        TypeError: it is one text.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is a list, such as [{texts!r}]")


def check_source(source: str) -> None:
    """Check the name of a source.

    Raises:
        ValueError: it is none.
    """
    if source not in ("auto", "geodes", "s3"):
        raise ValueError(f"source is 'auto', 'geodes' or 's3', not {source!r}")
