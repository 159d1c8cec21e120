"""Reports: one record a download, in the formats that other programs read."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from geodes_tasks.model.states import State
from geodes_tasks.monitoring.reports.stac_collection import stac_lines
from geodes_tasks.monitoring.reports.summary import markdown_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from geodes_tasks.model.results import DownloadRecord

COLUMNS = (
    "item_id", "collection", "asset_key", "state", "outcome", "path", "size_bytes", "checksum",
    "verified", "bytes_transferred", "attempts", "source", "started_at", "finished_at",
)  # fmt: skip
ERROR_COLUMNS = ("error_type", "error_message", "error_hint")


class Format(StrEnum):
    """The formats of ``report``."""

    JSONL = "jsonl"
    """One JSON object a line."""
    JSON = "json"
    """One JSON list."""
    CSV = "csv"
    """With a header line; the error in three columns."""
    MD5SUMS = "md5sums"
    """What `md5sum -c` reads, proven files only, paths absolute."""
    MARKDOWN = "markdown"
    """A page for people: counts, and the errors by class with what to do."""
    STAC = "stac"
    """An ItemCollection of the files that are here."""


def lines(
    records: Iterable[DownloadRecord],
    form: Format,
    *,
    batch: str = "",
    footprint_of: Callable[[str], str | None] = lambda _: None,
    left_out: list[str] | None = None,
) -> Iterator[str]:
    """Write records in a format, line by line, with flat memory.

    Args:
        records: Of one batch, in its order.
        form: The format.
        batch: Its name, for the page.
        footprint_of: For STAC: place and time of an item, where the records have none.
        left_out: For STAC: takes the ids of items of which nothing was kept.
    """
    if form is Format.MARKDOWN:
        yield from markdown_lines(records, batch)
    elif form is Format.STAC:
        yield from stac_lines(records, footprint_of, left_out)
    elif form is Format.JSONL:
        yield from (json.dumps(record.to_dict()) for record in records)
    elif form is Format.JSON:
        yield json.dumps([record.to_dict() for record in records], indent=2)
    elif form is Format.CSV:
        yield from _csv(records)
    else:
        yield from _md5sums(records)


def _csv(records: Iterable[DownloadRecord]) -> Iterator[str]:
    yield _csv_line([*COLUMNS, *ERROR_COLUMNS])
    for record in records:
        data = record.to_dict()
        error = data["error"] or {}
        values = [data[name] for name in COLUMNS]
        yield _csv_line([*values, *(error.get(n[6:]) for n in ERROR_COLUMNS)])


def _csv_line(values: Iterable[object]) -> str:
    buffer = io.StringIO()
    # Only what the line terminator holds is quoted: without it, a lone CR would end the line.
    csv.writer(buffer, lineterminator="\r\n").writerow(["" if v is None else v for v in values])
    return buffer.getvalue().removesuffix("\r\n")


def _md5sums(records: Iterable[DownloadRecord]) -> Iterator[str]:
    for record in records:
        algorithm, _, digest = (record.checksum or "").partition(":")
        if record.state is State.SUCCESS and algorithm == "md5":
            yield md5sum_line(digest, Path(record.path))


def md5sum_line(digest: str, path: Path) -> str:
    r"""Write one line as md5sum does: names with a newline or backslash are escaped.

    Source: GNU coreutils manual, "md5sum invocation".
    """
    name = str(path)
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}"
