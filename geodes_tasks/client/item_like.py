"""The types of what users pass as items: objects of libraries, tables, JSON, names of files."""

from __future__ import annotations

import os
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
        TypeError: it, or an element of a list, is None, a number, bytes, an open file, a class or
            another object.
        ValueError: it, or an element of a list, is the empty name of a file.
    """
    is_row = hasattr(items, "_fields")  # of a table's itertuples()
    for one in items if isinstance(items, list | tuple) and not is_row else (items,):
        # What a generator yields is not read here: it is read once.
        has_form = any(hasattr(one, name) for name in ("to_dict", "as_dict", "__iter__"))
        # The elements of an open file are its lines.
        is_wrong = isinstance(one, bytes | bytearray | type) or hasattr(one, "read")
        if is_wrong or not (has_form or isinstance(one, os.PathLike)):
            raise TypeError(f"items are STAC items or the name of a file, not {one!r}")
        if isinstance(one, str) and not one:
            raise ValueError("items are STAC items or the name of a file, and this name is empty")


def check_text(name: str, value: object) -> str:
    """Return an argument that has to be text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is text, not {value!r}")
    return value


def check_texts(name: str, texts: Iterable[str] | None) -> list[str]:
    """Return an argument that has to be a list of texts; None is an empty one.

    Raises:
        TypeError: it is one text, which is a list of its letters too, or holds something else.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is a list, such as [{texts!r}]")
    # An iterator is exhausted by the first item that it is compared with.
    given = () if texts is None else texts
    found = [*given] if isinstance(given, Iterable) else [given]
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name} is a list of texts, and has {one!r}")
    return found


def check_source(source: str) -> None:
    """Check the name of a source.

    Raises:
        ValueError: it is none.
    """
    if source not in ("auto", "geodes", "s3"):
        raise ValueError(f"source is 'auto', 'geodes' or 's3', not {source!r}")
