"""Reports: a record for each download, in formats that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from textwrap import indent

from geodes_tasks.model.formatting import cell
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.reports.stac_collection import stac_lines
from geodes_tasks.monitoring.reports.summary import markdown_lines

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
    """Input of `md5sum -c`: verified files only, paths absolute."""
    MARKDOWN = "markdown"
    """A page to read: counts, and errors by class with their hints."""
    STAC = "stac"
    """An ItemCollection of the files on disk."""


def lines(
    records: Iterable[DownloadRecord],
    form: Format,
    *,
    batch: str = "",
    folder: Path | None = None,
    footprint_of: Callable[[str], str | None] = lambda _: None,
    left_out: list[str] | None = None,
) -> Iterator[str]:
    """Yield records in a format, line by line, in constant memory.

    Args:
        records: Records of one batch, in its order.
        form: The format.
        batch: Name of the batch, for Markdown.
        folder: For Markdown: the download folder of a private ledger; None for a cluster's.
        footprint_of: For STAC: returns geometry and time of an item, None when unknown.
        left_out: For STAC: receives the ids of items without geometry and time.
    """
    if form is Format.MARKDOWN:
        yield from markdown_lines(records, batch, folder)
    elif form is Format.STAC:
        yield from stac_lines(records, footprint_of, left_out)
    elif form is Format.JSONL:
        yield from (json.dumps(record.to_dict()) for record in records)
    elif form is Format.JSON:
        yield from _json(records)
    elif form is Format.CSV:
        yield from _csv(records)
    else:
        yield from _md5sums(records)


def _json(records: Iterable[DownloadRecord]) -> Iterator[str]:
    line = "["
    for record in records:
        yield line
        line = indent(json.dumps(record.to_dict(), indent=2), "  ") + ","
    yield line.removesuffix(",")
    yield "]"


def _csv(records: Iterable[DownloadRecord]) -> Iterator[str]:
    yield _csv_line([*COLUMNS, *ERROR_COLUMNS])
    for record in records:
        data = record.to_row()
        # A path stays exact, for programs that open the file; it begins with "/", so that it is no
        # formula.
        yield _csv_line(
            cell(value) if isinstance(value := data.get(name), str) and name != "path" else value
            for name in (*COLUMNS, *ERROR_COLUMNS)
        )


def _csv_line(values: Iterable[object]) -> str:
    buffer = io.StringIO()
    # csv quotes the characters of its line terminator: with "\n" alone, a lone CR in a name would
    # stay bare and end the line for other readers (RFC 4180 section 2, rule 6).
    csv.writer(buffer, lineterminator="\r\n").writerow(["" if v is None else v for v in values])
    return buffer.getvalue().removesuffix("\r\n")


def _md5sums(records: Iterable[DownloadRecord]) -> Iterator[str]:
    for record in records:
        algorithm, _, digest = (record.checksum or "").partition(":")
        # md5sum -c has no other algorithm, and warns of lines that it cannot read; the MD5 of an
        # archive that became a folder is no file's any more.
        is_file = record.state is State.SUCCESS and not Path(record.path).is_dir()
        if is_file and algorithm == "md5":
            yield md5sum_line(digest, Path(record.path))


def md5sum_line(digest: str, path: Path) -> str:
    r"""Return a line as md5sum writes it: names with a newline or backslash are escaped.

    Source: GNU coreutils manual, "md5sum invocation".
    """
    name = str(path)
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}"
