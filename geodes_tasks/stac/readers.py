"""Where items come from: files, stdin and Python objects, walked down to plain item JSON.

A bad line or element is handed over as an ItemError in its place, so that the good ones around it
are still done; a source that cannot be read as a whole raises SourceError. One item a line is
read with flat memory; the other forms are one JSON document, which is held whole.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

from geodes_tasks.errors import GeodesTasksError, ItemError, NoItemsError, SourceError
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.json import OBJECT
from geodes_tasks.stac import eodag
from geodes_tasks.stac.assets import json_kind

Found = Mapping[str, Any] | GeodesTasksError
Line = tuple[int, bytes]

STDIN = "-"
"""The source that means standard input."""

# Record separators may stand before each line of a GeoJSON text sequence (RFC 8142).
_BLANK = b" \t\r\n\x1e"
_BOM = b"\xef\xbb\xbf"
_DEEPEST = 8
"""Levels of lists within lists that are read; a list that holds itself ends here too."""


def read(source: str) -> Iterator[Mapping[str, Any] | GeodesTasksError]:
    """Yield the items of a JSON file, in order; nothing is read before the first one is needed.

    Args:
        source: Path of a STAC Item, an ItemCollection, a list of items, one item a line, or what
            ``pygeodes search -o`` writes; ``-`` for stdin. Pipes are fine.

    Yields:
        An item, or the ItemError of a line or element that is none.

    Raises:
        SourceError: missing, unreadable, not JSON, or JSON of something else.
        NoItemsError: readable, with no item in it.
    """
    name = "stdin" if source == STDIN else printable(source)
    if "\0" in source:
        raise SourceError(name, "is no file name")
    try:
        with _opened(source) as stream:
            yield from _from_stream(stream, name)
    except OSError as error:
        raise SourceError(name, (error.strerror or str(error)).lower()) from error


def items_of(objects: Any) -> Iterator[Mapping[str, Any] | GeodesTasksError]:
    """Yield the items in Python objects, whatever library they come from.

    Args:
        objects: An Item or ItemCollection as plain dict, of pystac, pygeodes or eodag, a pygeodes
            data frame, a path (read with :func:`read`), or any iterable of these, nested or not.

    Yields:
        An item, or the ItemError of an element that is none.

    Raises:
        SourceError: a path among the objects cannot be read.
    """
    return _from_object(objects, "the given object", 0)


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    if source != STDIN:
        path = Path(source)
        # /dev/zero never ends; a terminal and /dev/stdin do.
        if path.is_char_device() and source != os.devnull:
            with path.open("rb") as stream:
                if not stream.isatty():
                    raise OSError("is a device, not a file")
        return path.open("rb")
    if sys.stdin is None:
        raise OSError("there is no standard input")
    # Not closed at the end: stdin belongs to the program.
    return nullcontext(sys.stdin.buffer)


def _from_stream(stream: IO[bytes], name: str) -> Iterator[Found]:
    """Read a stream as one document, or as one item a line where the first line alone is JSON."""
    head = stream.readline()
    if (encoding := json.detect_encoding(head)) in ("utf-16", "utf-32"):
        # A mark begins the text: a line of it ends in several bytes.
        try:
            stream = io.BytesIO((head + stream.read()).decode(encoding).encode())
        except UnicodeDecodeError as error:
            raise SourceError(name, f"is not text in {encoding.upper()}") from error
        head = stream.readline()
    lines = _numbered(chain([head], stream))
    first = next(lines, None)
    if first is None:
        raise NoItemsError(name, "is empty")
    try:
        value = _parsed(first[1])
    except ValueError:
        above = b"\n" * (first[0] - 1)  # so that errors give the line as an editor does
        yield from _from_text(above + first[1] + stream.read(), name)
        return
    second = next(lines, None)
    if second is None:
        yield from _from_document(value, name)
    else:
        yield from _from_lines(chain([first, second], lines), name)


def _numbered(lines: Iterable[bytes]) -> Iterator[Line]:
    """Number the lines from 1 and leave out the blank ones."""
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip(_BLANK):
            yield number, text


def _from_text(text: bytes, name: str) -> Iterator[Found]:
    """Read a document over many lines, or one item a line of which the first is broken."""
    try:
        value = _parsed(text)
    except ValueError as error:
        lines = list(_numbered(text.splitlines()))
        items = 0
        for _, line in lines:
            with suppress(ValueError):
                items += _item(_parsed(line)) is not None
        # Mostly items: a list of them with broken lines, not a broken document.
        if text.lstrip(_BLANK).startswith(b"[") or items * 2 < len(lines):
            raise SourceError(name, str(error)) from error
        yield from _from_lines(lines, name)
    else:
        yield from _from_document(value, name)


def _from_lines(lines: Iterable[Line], name: str) -> Iterator[Found]:
    for number, line in lines:
        where = f"line {number} of {name}"
        try:
            value = _parsed(line.rstrip(b"\r\n"))
        except ValueError as error:
            yield ItemError(where, str(error))
        else:
            yield from _from_json(value, where)


def _from_document(value: object, name: str) -> Iterator[Found]:
    if _elements(value) is None and _item(value) is None:
        raise SourceError(name, _no_item(value))
    empty = True
    for found in _from_json(value, name):
        empty = False
        yield found
    if empty:
        raise NoItemsError(name, "holds no items")


def _parsed(text: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: in one line, what is wrong.
    """
    try:
        # From bytes, so that UTF-16 (what some shells redirect) and a BOM are recognised.
        return jsontext.parsed(text.lstrip(b"\x1e"))
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
        where = f"{line}column {error.colno}"
        raise ValueError(f"is not JSON: {error.msg.removesuffix(' at')} at {where}") from error


def _from_json(value: object, where: str, depth: int = 0) -> Iterator[Found]:
    """Walk a JSON value down to its items. Strings in it are never taken for paths."""
    elements = _elements(value)
    item = _item(value)
    if elements is not None and depth < _DEEPEST:
        for number, element in enumerate(elements, 1):
            yield from _from_json(element, f"element {number} of {where}", depth + 1)
    elif item is not None:
        yield eodag.restored(item)
    else:
        yield ItemError(where, _no_item(value) if depth < _DEEPEST else "is nested too deeply")


def _elements(value: object) -> list[Any] | tuple[Any, ...] | None:
    """Return the elements of a list or a FeatureCollection; None for anything else."""
    held = value.get("features") if isinstance(value, OBJECT) else value
    return held if isinstance(held, list | tuple) else None


def _item(value: object) -> Mapping[str, Any] | None:
    """Return the item that a JSON object is, or that a pygeodes export contains; else None."""
    if not isinstance(value, OBJECT):
        return None
    if (exported := _exported_item(value)) is not None:
        return exported
    named_so = value.get("type") == "Feature"
    has_assets = isinstance(value.get("assets"), OBJECT)
    other_stac = value.get("type") in ("Collection", "Catalog")
    return value if named_so or (has_assets and not other_stac) else None


def _exported_item(feature: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Take the item out of a row of ``pygeodes search -o``: a data frame as GeoJSON.

    The whole item is the property ``item`` of the row's feature, which has no assets itself.
    A frame that went through a geographic file format holds it as text.
    """
    properties = feature.get("properties")
    if "assets" in feature or not isinstance(properties, OBJECT):
        return None
    item = properties.get("item")
    if isinstance(item, str) and item.startswith("{"):
        try:
            item = _parsed(item.encode())
        except ValueError:
            return None
    return item if isinstance(item, Mapping) else None


def _no_item(value: object) -> str:
    """Return one line that describes the value found in place of an item."""
    if not isinstance(value, Mapping):
        return f"is {json_kind(value)}, not a STAC item"
    if value.get("type") in ("Collection", "Catalog"):
        return f"is a STAC {value['type']}, not an Item: search for the items in it"
    keys = printable(", ".join(str(key) for key in list(value)[:5])) or "none"
    return f"is JSON but no STAC item; its keys: {keys}"


def _from_object(thing: Any, where: str, depth: int) -> Iterator[Found]:
    # The table of a search of pygeodes has its items in a column, and each row has one there.
    is_row = isinstance(thing, Mapping) and "assets" not in thing
    if (is_row or hasattr(thing, "iloc")) and "item" in thing:
        thing = thing["item"]
    elif "item" in getattr(thing, "_fields", ()):
        thing = thing.item  # a row of itertuples()
    elif hasattr(thing, "iloc") and hasattr(thing, "columns"):
        # Iteration over a table of pandas yields the names of its columns.
        thing = thing.to_dict("records")
    if isinstance(thing, str) and thing.lstrip().startswith("{"):
        # JSON, as geographic file formats return it of a table.
        yield from _from_stream(io.BytesIO(thing.encode(errors="surrogatepass")), where)
    elif isinstance(thing, str | os.PathLike):
        yield from read(os.fsdecode(thing))
    elif isinstance(thing, Mapping):
        yield from _from_json(thing, where)
    elif depth >= _DEEPEST:
        yield ItemError(where, "is nested too deeply")
    elif (method := _json_method(thing)) is not None:
        yield from _from_library(method, where)
    elif isinstance(thing, Iterable) and not isinstance(thing, bytes | bytearray):
        for number, one in enumerate(thing, 1):
            yield from _from_object(one, f"element {number} of {where}", depth + 1)
    else:
        yield ItemError(where, f"is {json_kind(thing)}, not a STAC item")


def _json_method(thing: Any) -> Any:
    """Return the method of an item of pystac or eodag that returns it as JSON; None without one."""
    if hasattr(thing, "iloc"):
        return None  # tables and columns of pandas have a to_dict of their own
    methods = (getattr(thing, name, None) for name in ("to_dict", "as_dict"))
    return next((method for method in methods if callable(method)), None)


def _from_library(to_json: Any, where: str) -> Iterator[Found]:
    # pystac would fetch the root catalogue over the network only to shorten links
    # (https://pystac.readthedocs.io/en/stable/api/item.html, to_dict).
    takes_it = "transform_hrefs" in inspect.signature(to_json).parameters
    try:
        value = to_json(**({"transform_hrefs": False} if takes_it else {}))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        problem = printable(f"cannot be described as JSON: {type(error).__name__}: {error}")
        yield ItemError(where, problem)
    else:
        yield from _from_json(value, where)
