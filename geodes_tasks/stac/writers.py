"""Items into files: one ItemCollection, an item a line, or a row an item, as the suffix says."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from geodes_tasks.errors import ItemError
from geodes_tasks.model.asset import GEODES, Asset
from geodes_tasks.model.atomic_write import replacing
from geodes_tasks.model.formatting import cell, printable
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac.item_properties import identifier_of, property_of, text_of
from geodes_tasks.stac.paging import Item

COLUMNS = ("start_datetime", "end_datetime", "platform", "product:type", "grid:code",
           "eo:cloud_cover", "endpoint_url")  # fmt: skip
"""Properties in the CSV of a search."""


def data_of(item: Item) -> Asset | None:
    """Return the first data file of an item; None without one."""
    with suppress(ItemError):
        return next(iter(stac_assets.assets(item, on_refusal=lambda *_: None)), None)
    return None


def write(items: Iterable[Item], output: Path) -> int:
    """Write items as they come, and return how many; a regular file appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    form = FORMS.get(output.suffix.lower(), write_collection)
    is_followed, is_replaced = True, True
    with suppress(FileNotFoundError):
        link = output.lstat()
        # In a shared folder another user may have put a link there: it is replaced, as a file.
        is_followed = not stat.S_ISLNK(link.st_mode) or link.st_uid in {0, os.geteuid()}
        is_replaced = not is_followed or stat.S_ISREG(output.stat().st_mode)
    if not is_replaced:
        # A device or a pipe is written to; a folder cannot be opened.
        with output.open("w", encoding="utf-8", newline="") as stream:
            return form(items, stream)
    # Behind a symbolic link its target is replaced, and the link stays.
    output = Path(os.path.realpath(output)) if is_followed else output
    with replacing(output, encoding="utf-8", newline="") as stream:
        return form(items, stream)


def write_collection(items: Iterable[Item], stream: TextIO) -> int:
    """Write one ItemCollection as the items come, and return how many they are."""
    stream.write('{"type": "FeatureCollection", "features": [')
    written = 0
    for written, item in enumerate(items, start=1):
        stream.write(("\n" if written == 1 else ",\n") + json.dumps(item))
    stream.write("\n]}\n")
    return written


def _write_lines(items: Iterable[Item], stream: TextIO) -> int:
    written = 0
    for written, item in enumerate(items, start=1):  # noqa: B007 - the count is the answer
        stream.write(json.dumps(item) + "\n")
    return written


def _write_rows(items: Iterable[Item], stream: TextIO) -> int:
    rows = csv.writer(stream)
    rows.writerow(
        ("id", "identifier", "collection", *COLUMNS, "title", "size_bytes", "checksum", "href")
    )
    written = 0
    for written, item in enumerate(items, start=1):  # noqa: B007 - the count is the answer
        own = (item.get("id"), identifier_of(item), item.get("collection"))
        file: tuple[object, ...] = ()
        if data := data_of(item):
            file = (data.title, data.size_bytes, str(data.checksum or ""), data.hrefs.get(GEODES))
        values = (*own, *(property_of(item, name) for name in COLUMNS), *file)
        texts = ((value, printable(text_of(value), 2000)) for value in values)
        rows.writerow(t if isinstance(value, int | float) else cell(t) for value, t in texts)
    return written


Form = Callable[[Iterable[Item], TextIO], int]
FORMS: dict[str, Form] = {
    ".jsonl": _write_lines, ".ndjson": _write_lines, ".geojsonl": _write_lines, ".csv": _write_rows,
}  # fmt: skip
"""Suffix of a file to how items are written there; any other is one ItemCollection."""
