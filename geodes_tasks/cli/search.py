"""The commands ``search`` and ``collections``, and the options by which ``download`` searches."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from geodes_tasks.cli.options import AsJson, ConfigFile
from geodes_tasks.cli.output import write_data, write_line
from geodes_tasks.client import exit_codes
from geodes_tasks.errors import ConfigError, SearchError, SourceError
from geodes_tasks.model.formatting import human_bytes, plural, printable
from geodes_tasks.settings import config
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import readers, writers
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.item_properties import NEW_NAMES, mapping_of, property_of, text_of
from geodes_tasks.stac.paging import PAGE_ITEMS, Item, Results
from geodes_tasks.stac.query import Search, conditions, tile_code
from geodes_tasks.stac.readers import Found

ASK_ABOVE = 1000
"""Number of items above which a search is confirmed at the terminal."""
SHOWN_ITEMS = 20
"""Number of items that a search at a terminal requests and shows, without --limit."""
Collections = Annotated[
    list[str] | None, typer.Option("--collection", "-c", help="Collection; may be given again.")
]
Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Item id (URN) or product name.")
]  # fmt: skip
Bbox = Annotated[
    str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Box in degrees.")
]  # fmt: skip
Intersects = Annotated[
    str | None,
    typer.Option("--intersects", metavar="GEOJSON|WKT", help="Geometry, or a file with it."),
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
    typer.Option(
        "--query", "-q", metavar="JSON|FILE", help='{"platform": {"eq": "S2A"}}, for all the rest.'
    ),
]
AskAbove = Annotated[int, typer.Option("--ask-above", min=0, help="Ask first above so many items.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE|-",
        help="Write there, by suffix: .json, .geojson, .jsonl (an item a line), .csv (a row).",
    ),
]  # fmt: skip


def search(
    collection: Collections = None,
    ids: Ids = None,
    bbox: Bbox = None,
    intersects: Intersects = None,
    start: Start = None,
    end: End = None,
    cloud_cover: CloudCover = None,
    tile: Tile = None,
    query: Query = None,
    output: Output = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Only print how many there are.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Search for items: a table at a terminal, one ItemCollection in a pipe, or a file.

    What it writes is a SOURCE for `download` and `enqueue`.

    Examples: geodes-tasks search -c PEPS_S2_L1C --tile T31TCJ --start 2025-04 -o items.json;
    geodes-tasks search --id S2A_MSIL1C_X -o - | geodes-tasks download -. Exit codes: 0 found, 2
    usage, 3 cut off by the portal, 4 nothing found.
    """
    settings = config.load(config_file)
    wanted = search_of(
        collection=collection, ids=ids, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if wanted is None:
        raise SearchError("search", "give --collection, --bbox, --start or another limit")
    catalog = Catalog(settings)
    if count:
        matched = catalog.count(wanted)
        write_data("unknown" if matched is None else matched)
        return
    if output is None and sys.stdout.isatty():
        written = _show(catalog, wanted, limit or SHOWN_ITEMS)
    else:
        say_found(catalog.count(wanted))
        results = catalog.search(wanted)
        written = _write(itertools.islice(results, limit), output)
        if results.is_cut:
            raise typer.Exit(exit_codes.SOME_FAILED)
    if not written:
        raise typer.Exit(exit_codes.NOTHING)


def collections(
    text: Annotated[str | None, typer.Argument(help="Words that a collection must have.")] = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """List the collections of the portal; with words, those that have them all.

    Example: geodes-tasks collections 'sentinel2 theia'
    """
    found = Catalog(config.load(config_file)).collections(words=text)
    if as_json:
        write_data(found)
    else:
        rows = []
        for one in sorted(found, key=lambda one: text_of(one.get("id"))):
            items = text_of(mapping_of(one.get("summaries")).get("total_items"))
            name, title = text_of(one.get("id")), text_of(one.get("title"))
            rows.append((items, name, "" if title == name else title))
        _print_table(("items", "collection", "title"), rows)
        write_line(plural(len(found), "collection"))
    if not found:
        raise typer.Exit(exit_codes.NOTHING)


def search_of(
    *,
    collection: list[str] | None = None,
    ids: list[str] | None = None,
    bbox: str | None = None,
    intersects: str | None = None,
    start: str | None = None,
    end: str | None = None,
    cloud_cover: float | None = None,
    tile: list[str] | None = None,
    query: str | None = None,
) -> Search | None:
    """Return the search that the options describe; None when none of them was given.

    Raises:
        SearchError: a value cannot be used.
    """
    wanted = _json("--query", _text("--query", query)) if query else {}
    where: Any = _text("--intersects", intersects) if intersects else None
    if where and where.lstrip().startswith("{"):
        where = _json("--intersects", where)
    if cloud_cover is not None:
        _add(wanted, "--cloud-cover", "eo:cloud_cover", "lte", cloud_cover)
    if tile:
        _add(wanted, "--tile", "grid:code", "in", [tile_code(one) for one in tile])
    found = Search(
        query=wanted or None,
        bbox=_numbers(bbox) if bbox else None,
        intersects=where,
        # pygeodes takes several in one word: -c PEPS_S1_L1,PEPS_S2_L1C.
        collections=[name for one in collection or () for name in one.split(",")] or None,
        start=start,
        end=end,
        ids=ids or None,
    )
    return None if found.is_everything else found


def is_name(source: str) -> bool:
    """Return whether a SOURCE is an item id or a product name, not a file."""
    is_file = source == readers.STDIN or source.lower().endswith((".json", ".jsonl", ".geojson"))
    return not is_file and not os.path.lexists(source)


def items_of(sources: Sequence[str], settings: config.Config) -> Iterator[Found]:
    """Yield the items of files, ids and product names; a file that cannot be read is an error.

    Raises:
        SearchError, CatalogueUnavailableError: the portal cannot be searched for the names.
        SourceError: one of them is an address.
    """
    names = [source for source in sources if is_name(source)]
    if address := next((source for source in sources if "://" in source), None):
        raise SourceError(address, "is an address, and a SOURCE is a file or the name of an item")
    if names:
        yield from Catalog(settings).named(names)
    for source in sources:
        if not is_name(source):
            yield from readers.read(source)


def confirmed(wanted: Search, settings: config.Config, *, ask_above: int, yes: bool) -> Results:
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
            problem = f"the search finds {plural(matched, 'item')}, more than {ask_above}"
            raise ConfigError("--ask-above", problem, "Narrow the search, or say --yes.")
        typer.confirm(f"Download {plural(matched, 'item')}?", abort=True, err=True)
    return catalog.search(wanted)


def say_found(matched: int | None) -> None:
    """Print the number of items found."""
    number = "an unknown number of items" if matched is None else plural(matched, "item")
    write_line(f"found {number}")


# --- output ------------------------------------------------------------------------------------


def _show(catalog: Catalog, wanted: Search, most: int) -> int:
    """Print the first items of a search as a table, and how many there are."""
    if most <= PAGE_ITEMS:
        found, matched = catalog.page(wanted, size=most)
    else:
        found, matched = list(itertools.islice(catalog.search(wanted), most)), catalog.count(wanted)
    found = found[:most]
    rows = []
    for item in found:
        day, cloud = (text_of(property_of(item, n)) for n in ("start_datetime", "eo:cloud_cover"))
        size = human_bytes(data.size_bytes) if (data := writers.data_of(item)) else ""
        where, name = text_of(item.get("collection")), stac_assets.item_name(item)
        rows.append((day[:16].replace("T", " "), cloud[:5], size, where, name))
    _print_table(("acquired", "cloud %", "size", "collection", "item"), rows)
    whole = plural(len(found) if matched is None else matched, "item")
    shown = "" if matched is None else f"{len(found)} of "
    write_line(f"{shown}{whole}; -o FILE writes all of them, --count only counts")
    return len(found)


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows; the last column is whole at any width of the terminal, to be copied."""
    lines = [columns, *([printable(cell, 300) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        write_data("  ".join(cells).rstrip())


def _write(items: Iterable[Item], output: Path | None) -> int:
    """Write items to a file, or to standard output; return how many."""
    if output is None or str(output) == "-":
        return writers.write_collection(items, sys.stdout)
    try:
        written = writers.write(items, output)
    except OSError as error:
        raise ConfigError("--output", str(error)) from error
    write_line(f"{plural(written, 'item')} in {output}")
    return written


# --- values ------------------------------------------------------------------------------------


def _add(query: dict[str, Any], option: str, name: str, operator: str, value: object) -> None:
    """Add the condition of an option to those of ``--query``.

    Raises:
        SearchError: the query has this condition too.
    """
    known = {one for one in query if NEW_NAMES.get(one, one) == name}
    given = {op: want for one in known for op, want in conditions(name, query[one]).items()}
    if operator in given:
        problem = f"has {operator!r} of {name}, and so has {option}: leave one of them out"
        raise SearchError("--query", problem)
    query[name] = given | {operator: value}


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise SearchError("--bbox", f"{text!r} is not W,S,E,N") from error


def _text(option: str, value: str) -> str:
    """Return JSON or WKT as it is given, or the content of the file that is named."""
    if value.lstrip().startswith("{") or "(" in value:
        return value
    try:
        return Path(value).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        kind = "GeoJSON, WKT" if option == "--intersects" else "a JSON object"
        problem = f"{value!r} is neither {kind} nor a file that can be read"
        raise SearchError(option, problem) from error


def _json(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SearchError(option, f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SearchError(option, "is not a JSON object")
    return value
