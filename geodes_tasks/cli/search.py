"""The command ``search``, and the options by which ``download`` searches in place of a file."""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geodes_tasks.cli.options import ConfigFile, say
from geodes_tasks.client import batch as batches
from geodes_tasks.errors import ConfigError, SearchError
from geodes_tasks.settings import config
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.query import Search, tile_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from geodes_tasks.stac.catalog import Item

ASK_ABOVE = 1000
"""Number of items above which a search is confirmed at the terminal."""
LINES = {".jsonl", ".ndjson", ".geojsonl"}
"""Suffixes of files with one item a line."""

Collections = Annotated[
    list[str] | None, typer.Option("--collection", "-c", help="Collection; may be given again.")
]
Bbox = Annotated[
    str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Box in degrees.")
]  # fmt: skip
Intersects = Annotated[
    str | None, typer.Option("--intersects", metavar="GEOJSON", help="Geometry, or a file with it.")
]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="Acquired then or later: 2025-04-02.")
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Acquired then or earlier.")]
CloudCover = Annotated[
    float | None,
    typer.Option("--cloud-cover", min=0, max=100, help="Most cloud cover in per cent."),
]
Tile = Annotated[
    list[str] | None, typer.Option("--tile", help="Sentinel-2 tile such as T31TCJ.")
]  # fmt: skip
Query = Annotated[
    str | None,
    typer.Option("--query", metavar="JSON", help='{"platform": {"eq": "S2A"}}, for all the rest.'),
]
AskAbove = Annotated[int, typer.Option("--ask-above", min=0, help="Ask first above so many items.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write there: .json one collection, .jsonl an item a line."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(search)


def search(
    collection: Collections = None,
    bbox: Bbox = None,
    intersects: Intersects = None,
    start: Start = None,
    end: End = None,
    cloud_cover: CloudCover = None,
    tile: Tile = None,
    query: Query = None,
    output: Output = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Search for items; they go to standard output, one a line, or to a file."""
    settings = config.load(config_file)
    wanted = asked(
        collection=collection, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if wanted is None:
        raise SearchError("search", "give --collection, --bbox, --start or another limit")
    catalog = Catalog(settings)
    matched = catalog.count(wanted)
    if count:
        print("unknown" if matched is None else matched)  # noqa: T201 - data goes to stdout
        return
    say_found(matched)
    written = write(itertools.islice(catalog.search(wanted), limit), output)
    if not written:
        raise typer.Exit(batches.NOTHING)


def asked(
    *,
    collection: list[str] | None = None,
    bbox: str | None = None,
    intersects: str | None = None,
    start: str | None = None,
    end: str | None = None,
    cloud_cover: float | None = None,
    tile: list[str] | None = None,
    query: str | None = None,
) -> Search | None:
    """Make a search of the options; None when none of them was given.

    Raises:
        SearchError: a value cannot be used.
    """
    conditions = dict(_json("--query", query)) if query else {}
    if cloud_cover is not None:
        conditions["eo:cloud_cover"] = {"lte": cloud_cover}
    if tile:
        conditions["grid:code"] = {"in": [tile_code(one) for one in tile]}
    made = Search(
        query=conditions or None,
        bbox=_numbers(bbox) if bbox else None,
        intersects=_json("--intersects", _text(intersects)) if intersects else None,
        collections=collection or None,
        start=start,
        end=end,
    )
    return None if made.is_everything else made


@dataclass(frozen=True, slots=True)
class Found:
    """Items that a search finds, after the user confirmed their number."""

    matched: int | None
    """How many; None when the portal does not say."""
    items: Iterator[Item]
    """Each once, one page in memory."""


def agreed(wanted: Search, settings: config.Settings, *, ask_above: int, yes: bool) -> Found:
    """Print the number of items that a search finds; above a number, wait for a confirmation.

    Raises:
        ConfigError: too many, and standard input is no terminal.
        typer.Abort: the user refused.
        SearchError, CatalogueUnavailableError: the search fails.
    """
    catalog = Catalog(settings)
    matched = catalog.count(wanted)
    say_found(matched)
    if not yes and matched is not None and matched > ask_above:
        if not sys.stdin.isatty():
            problem = f"the search finds {matched} items, more than {ask_above}"
            raise ConfigError("--ask-above", problem, "Narrow the search, or say --yes.")
        typer.confirm(f"Download {matched} items?", abort=True, err=True)
    return Found(matched, catalog.search(wanted))


def say_found(matched: int | None) -> None:
    """Print the number of items found."""
    number = "an unknown number of items" if matched is None else f"{matched} items"
    say(f"found {number}")


# --- output ------------------------------------------------------------------------------------


def write(items: Iterable[Item], output: Path | None) -> int:
    """Write items as they come; a file appears whole or not at all. Tells how many there were."""
    if output is None:
        return _write_lines(items, sys.stdout)
    part = output.with_name(f".{output.name}.part")
    form = _write_lines if output.suffix.lower() in LINES else _write_collection
    try:
        with part.open("w") as stream:
            written = form(items, stream)
        os.replace(part, output)  # noqa: PTH105 - as everywhere files are published
    except OSError as error:
        raise ConfigError("--output", str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    say(f"{written} items in {output}")
    return written


def _write_lines(items: Iterable[Item], stream: TextIO) -> int:
    written = 0
    for written, item in enumerate(items, start=1):  # noqa: B007 - the count is the answer
        stream.write(json.dumps(item) + "\n")
    return written


def _write_collection(items: Iterable[Item], stream: TextIO) -> int:
    stream.write('{"type": "FeatureCollection", "features": [')
    written = 0
    for written, item in enumerate(items, start=1):
        stream.write(("\n" if written == 1 else ",\n") + json.dumps(item))
    stream.write("\n]}\n")
    return written


# --- values ------------------------------------------------------------------------------------


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise SearchError("--bbox", f"{text!r} is not W,S,E,N") from error


def _text(value: str) -> str:
    """Return a JSON text, or the content of the file that it names."""
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text()
    except OSError as error:
        raise SearchError("--intersects", str(error)) from error


def _json(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SearchError(option, f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SearchError(option, "is not a JSON object")
    return value
