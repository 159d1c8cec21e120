"""Search against a portal with every trap of the real one: nothing lost, nothing twice."""

from __future__ import annotations

import csv
import itertools
import json
import os
import pty
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from geodes_tasks.cli import search as cli_search
from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.errors import (
    CatalogueUnavailableError,
    ConfigError,
    SearchError,
    TooManyItemsError,
)
from geodes_tasks.model.states import State
from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.geodes import Geodes
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.pygeodes.tables import Table
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.query import Search
from tests.standin import StandIn

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config

KEY = "standin-key-0123456789"
S2, S1 = "PEPS_S2_L1C", "PEPS_S1_L1"


@pytest.fixture(autouse=True)
def own_sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the private servers of this test apart from those of others."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))


@pytest.fixture
def portal() -> Iterator[StandIn]:
    """Start a portal with 100 small items of two collections."""
    with StandIn(KEY) as standin:
        fill(standin, 60, S2)
        fill(standin, 40, S1)
        yield standin


def fill(standin: StandIn, count: int, collection: str, **options: Any) -> None:
    """Add items."""
    for number in range(count):
        day = f"2025-{number % 12 + 1:02d}-15T10:00:00.000Z"
        standin.add_item(
            size=100,
            collection=collection,
            start_datetime=day,
            cloud_cover=float(number),
            **options,
        )


def settings_for(standin: StandIn, **more: Any) -> Config:
    """Give settings for a portal, with short waits."""
    return config.load(
        **{
            "portal_url": standin.url,
            "api_key": KEY,
            "backoff_seconds": 0.05,
            "connect_seconds": 2,
            "first_byte_seconds": 5,
            "quota": "off",
            "s3_endpoint_url": "http://127.0.0.1:1",
            **more,
        }
    )


def found(standin: StandIn, **search: Any) -> list[str]:
    """Give the ids of what a search finds."""
    return [item["id"] for item in Catalog(settings_for(standin)).search(Search(**search))]


def searches(standin: StandIn) -> list[int]:
    """Give the statuses of the searches so far."""
    return [one.status or 0 for one in standin.requests if one.route == "search"]


# --- traps -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trap",
    [
        {},
        {"page_limit": 7},
        {"counts": "none"},
        {"counts": "none", "page_limit": 30},
        {"page_limit": 50, "page_limit_error": True},
        {"counts": "numbers"},
        {"counts": "numbers", "page_limit": 30},
        {"counts": "both"},
        {"matched_grows": True},
        {"failing_page": 1},
        {"failing_page": 2},
        {"search_rate": 40, "page_limit": 30},
        {"page_overlap": 10, "page_limit": 30},
    ],
    ids=str,
)
def test_everything_is_found_once(portal: StandIn, trap: dict[str, Any]) -> None:
    """However the portal cuts, counts and fails its pages, each item comes exactly once."""
    portal.settings.change(**trap)

    ids = found(portal, collections=[S2, S1])

    assert sorted(ids) == sorted(item["id"] for item in portal.items)


def test_a_page_that_fails_is_asked_for_alone(portal: StandIn) -> None:
    """One failed page costs one request more, not the search from its beginning."""
    portal.settings.change(failing_page=2, page_limit=30)

    found(portal, start="2020")

    assert searches(portal) == [200, 500, 200, 200, 200]


def test_the_order_is_the_same_each_time(portal: StandIn) -> None:
    """Two searches give one order, page limits and all."""
    portal.settings.change(page_limit=13)

    assert found(portal, start="2020") == found(portal, start="2020")


def test_a_point_finds_what_it_lies_in(portal: StandIn) -> None:
    """A point, which the portal ignores, finds the items around it and no others."""
    far = portal.add_item(size=100, bbox=(10.0, 10.0, 11.0, 11.0))

    ids = found(portal, intersects={"type": "Point", "coordinates": [10.5, 10.5]})

    assert ids == [far["id"]]


def test_a_window_is_about_acquisition(portal: StandIn) -> None:
    """Start and end limit when the picture was taken, not when it was published."""
    ids = found(portal, collections=S2, start="2025-03", end="2025-03-31")

    months = {
        item["properties"]["start_datetime"][:7] for item in portal.items if item["id"] in ids
    }
    assert (len(ids), months) == (5, {"2025-03"})


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"query": {"mood": {"eq": S2}}}, "Unknown property mood"),
        ({"query": {"platform": {"like": "S2%"}}}, "Unknown operator like"),
        ({"collections": ["NO_SUCH_ONE"]}, "Unknown collection NO_SUCH_ONE"),
    ],
)
def test_the_portals_refusal_is_quoted(
    portal: StandIn, search: dict[str, Any], problem: str
) -> None:
    """What the portal does not understand is said in its own words, after one request."""
    with pytest.raises(SearchError, match=problem):
        found(portal, **search)

    assert searches(portal) == [400]


def test_former_names_find_what_they_found(portal: StandIn, caplog: Any) -> None:
    """Properties renamed in March 2025 are searched under their new names, with a warning."""
    query = {"dataType": {"eq": S2}, "spaceborne:cloudCover": {"lte": 9}}

    ids = found(portal, query=query, sort_by=["-temporal:startDate"])

    assert len(ids) == 10
    assert searches(portal) == [200]
    assert "now calls dataType dataset" in caplog.text


def results(standin: StandIn, **search: Any) -> tuple[list[str], int]:
    """Return the ids of what a search finds, and how many items are missing."""
    found = Catalog(settings_for(standin)).search(Search(**search))
    return [item["id"] for item in found], found.missing


@pytest.mark.parametrize("counts", ["none", "context", "numbers"])
def test_a_search_whose_pages_repeat_ends(portal: StandIn, counts: str, caplog: Any) -> None:
    """A portal that ignores the page number is not asked for ever: the second page ends it."""
    portal.settings.change(page_ignored=True, counts=counts)

    ids, missing = results(portal, start="2020")

    assert (len(ids), len(searches(portal))) == (80, 2)
    assert missing == (0 if counts == "none" else 20)
    assert "brought no new item" in caplog.text


def test_items_that_do_not_come_are_counted(portal: StandIn, caplog: Any) -> None:
    """Items that are counted and come on no page are missing, and a warning says how many."""
    portal.settings.change(items_withheld=40)

    ids, missing = results(portal, start="2020")

    assert (len(ids), missing) == (100 - 40, 40)
    assert "counts 100 items and delivered 60 different ones: 40 are missing" in caplog.text


@pytest.mark.parametrize(
    "search",
    [
        {"start": "2020"},
        {"start": "2020", "end": "2026", "sort_by": ["-start_datetime"]},
        {"collections": [S2, S1], "sort_by": ["-eo:cloud_cover"]},
        {"query": {"start_datetime": {"gte": "2025-01-15T00:00:00Z"}}},
    ],
    ids=str,
)
def test_the_window_of_results_is_passed(portal: StandIn, search: dict[str, Any]) -> None:
    """More items than the portal pages through: the search continues after the last one."""
    portal.settings.change(page_limit=7, search_window=28)

    ids, missing = results(portal, **search)

    assert sorted(ids) == sorted(item["id"] for item in portal.items)
    assert len(ids) == len(set(ids))
    assert missing == 0


def test_more_items_of_one_moment_than_the_window(
    portal: StandIn, tmp_path: Path, caplog: Any
) -> None:
    """Where no time parts the items, what came is kept and the gap is counted."""
    for _ in range(30):
        portal.add_item(size=100, collection="SWH_SPOT4_L1", start_datetime="1998-01-01T00:00:00Z")
    portal.settings.change(page_limit=7, search_window=21)

    ids, missing = results(portal, collections="SWH_SPOT4_L1")

    assert (len(set(ids)), missing) == (21, 9)
    assert "Result window is too large" in caplog.text
    done = command(portal, tmp_path, "search", "-c", "SWH_SPOT4_L1", "-o", "i.jsonl")
    assert done.returncode == 3
    assert len((tmp_path / "i.jsonl").read_text().splitlines()) == 21


@pytest.mark.parametrize("words", [["-c", f"{S2},{S1}"], ["-c", S2, "-c", S1]])
def test_several_collections_in_one_word(run: Any, words: list[str]) -> None:
    """As pygeodes takes them, and each as an option of its own."""
    assert run(*words, "--count").stdout.splitlines() == ["100"]


@pytest.mark.parametrize("words", [["-c", ""], ["-c", f"{S2},"]])
def test_an_empty_collection_is_not_everything(run: Any, words: list[str]) -> None:
    """A variable that is empty in a script is refused."""
    assert isinstance(run(*words, "--count").exception, SearchError)


@pytest.mark.parametrize("search", [{"collections": []}, {"ids": []}])
def test_an_empty_list_is_not_everything(portal: StandIn, search: dict[str, Any]) -> None:
    """A list that a program computed and that is empty is an error, not 37 million items."""
    with pytest.raises(SearchError, match="is an empty list"):
        found(portal, **search)

    assert searches(portal) == []


def test_items_by_id_and_by_name(portal: StandIn) -> None:
    """URNs and product names in one search; each item once."""
    first, second, *_ = portal.items
    name = second["properties"]["identifier"]

    ids = found(portal, ids=[first["id"], name, second["id"]])

    assert sorted(ids) == sorted([first["id"], second["id"]])


def test_a_portal_that_is_away_is_named() -> None:
    """When nobody answers, the address and the number of attempts are said."""
    catalog = Catalog(config.load(portal_url="http://127.0.0.1:1", backoff_seconds=0.01))

    with pytest.raises(CatalogueUnavailableError, match=r"127.0.0.1:1/.*refused.*6 times"):
        catalog.count(Search(start="2025"))


def test_no_key_is_sent(portal: StandIn) -> None:
    """Search needs no key, so none leaves the machine."""
    found(portal, start="2025")

    assert all(KEY not in str(request.headers) for request in portal.requests)


@pytest.mark.parametrize(
    "where",
    [
        "POLYGON ((10 10, 11 10, 11 11, 10 11, 10 10))",
        "srid=4326; multipolygon z (((10 10 0, 11 10 0, 11 11 0, 10 10 0)))",
        "POINT(10.5 10.5)",
        "LINESTRING (10.1 1.05e1, 10.9 10.5)",
        "MULTIPOINT ((10.5 10.5), (10.6 10.6))",
        "MULTIPOINT (10.5 10.5, 10.6 10.6)",
    ],
)
def test_well_known_text(portal: StandIn, where: str) -> None:
    """A place in WKT, as PostGIS and QGIS write it, finds what its GeoJSON finds."""
    far = portal.add_item(size=100, bbox=(10.0, 10.0, 11.0, 11.0))

    assert found(portal, intersects=where) == [far["id"]]


def test_a_search_holds_one_page(portal: StandIn) -> None:
    """Walking through a search holds pages, not items: memory does not grow with what is found."""
    fill(portal, 900, S2)
    catalog = Catalog(settings_for(portal))
    tracemalloc.start()

    def peak(items: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in itertools.islice(catalog.search(Search(start="2020")), items):
            pass
        return tracemalloc.get_traced_memory()[1] - before

    peak(80)  # what is loaded once
    # The stand-in shares this process, so a page is counted several times over.
    few, many = peak(160), min(peak(1000) for _ in range(3))
    tracemalloc.stop()
    assert many < few * 1.5


# --- Geodes ------------------------------------------------------------------------------------


def test_search_items_gives_items_and_a_table(portal: StandIn) -> None:
    """As in pygeodes: a list of items, and a table with the columns that were asked about."""
    geodes = Geodes(settings_for(portal))

    items, table = geodes.search_items(query={"eo:cloud_cover": {"lte": 9}}, get_all=True)

    assert len(items) == len(table) == 20
    assert all(isinstance(item, Item) for item in items)
    assert {"id", "collection", "eo:cloud_cover", "item"} <= set(table.columns)


def test_without_geopandas_there_is_a_plain_table(
    portal: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where geopandas is not installed the second value is a table all the same."""
    monkeypatch.setitem(sys.modules, "geopandas", None)
    geodes = Geodes(settings_for(portal))

    items, table = geodes.search_items(bbox=[1, 43, 2, 44], collections=S1)

    assert isinstance(table, Table)
    assert table["item"] == items
    assert "<table>" in table._repr_html_()


def test_one_page_is_the_default(portal: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Without ``get_all`` one page comes, and how many there are is said."""
    items = Geodes(settings_for(portal)).search_items(start="2025", return_df=False)

    assert len(items) == 80
    assert "80 of 100 items" in capfd.readouterr().err


def test_too_many_items_are_not_fetched(portal: StandIn) -> None:
    """Above ``nb_max_items`` the number is said and no page is fetched."""
    conf = Config(portal_url=portal.url, nb_max_items=50)
    geodes = Geodes(conf)

    with pytest.raises(TooManyItemsError, match="finds 100 items, the limit is 50"):
        geodes.search_items(start="2025", get_all=True)

    assert len(searches(portal)) == 1


@pytest.mark.parametrize("query", [None, {}])
def test_a_search_without_any_limit_is_refused(portal: StandIn, query: Any) -> None:
    """Nobody wants all 37 million items by mistake: no query, or one that a program left empty."""
    geodes = Geodes(settings_for(portal))

    with pytest.raises(SearchError, match="give a query"):
        geodes.search_items(query, get_all=True)

    assert searches(portal) == []
    assert len(geodes.search_items({}, collections=S1, return_df=False)) == 40


def test_collections_are_found_by_words(portal: StandIn) -> None:
    """All words must be there, in whatever case and field."""
    geodes = Geodes(settings_for(portal))

    collections, table = geodes.search_collections(full_text_search="theia snow")

    assert [one.id for one in collections] == ["THEIA_SNOW_SENTINEL2_L2B"]
    assert len(table) == 1


def test_availability_is_told_by_asset(portal: StandIn) -> None:
    """The archive is told from other files by its checksum, whatever their names."""
    (item, *_) = portal.items
    geodes = Geodes(settings_for(portal))

    online = geodes.check_item_availability(item)
    portal.fault(item, "offline_410")
    on_tape = geodes.check_item_availability(item)

    assert (online["data"], on_tape["data"]) == ("available", "not available")


# --- command line ------------------------------------------------------------------------------


@pytest.fixture
def run(portal: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what runs the command ``search`` against the portal."""
    monkeypatch.setenv("GEODES_TASKS_PORTAL_URL", portal.url)
    app = typer.Typer()
    app.command()(cli_search.search)
    return lambda *words: CliRunner().invoke(app, words)


@pytest.mark.parametrize("output", [(), ("-o", "-")], ids=["piped", "dash"])
def test_search_writes_one_collection(run: Any, portal: StandIn, output: tuple[str, ...]) -> None:
    """One ItemCollection in a pipe, the count on stderr: ``download -`` reads it."""
    done = run("--collection", S1, "--cloud-cover", "4", *output)

    found = json.loads(done.stdout)
    assert found["type"] == "FeatureCollection"
    assert {item["collection"] for item in found["features"]} == {S1}
    assert (len(found["features"]), done.exit_code) == (5, 0)
    assert "found 5 items" in done.stderr


def test_search_writes_a_row_an_item(run: Any, portal: StandIn, tmp_path: Path) -> None:
    """A table of what was found, for a spreadsheet: sizes in bytes, and no cell is a formula."""
    portal.add_item(size=100, collection=S1, cloud_cover=-1.0, properties={"platform": "=1+1"})
    path = tmp_path / "found.CSV"

    run("--collection", S1, "-o", str(path))

    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 41
    last = next(row for row in rows if row["platform"].startswith("'"))
    assert (last["platform"], last["eo:cloud_cover"]) == ("'=1+1", "-1.0")
    assert (last["size_bytes"], last["title"]) == ("100", f"{last['identifier']}.zip")


def test_search_by_id(run: Any, portal: StandIn, tmp_path: Path) -> None:
    """``--id`` takes ids and product names; a place may be WKT, and a query be in a file."""
    first, second, *_ = portal.items

    done = run("--id", first["id"], "--id", second["properties"]["identifier"], "--count")
    placed = run("--intersects", "POLYGON ((1 43, 2 43, 2 44, 1 43))", "--count")

    (tmp_path / "query.json").write_text('{"eo:cloud_cover": {"lte": 4}}')
    asked = run("-q", str(tmp_path / "query.json"), "--count")

    assert (done.stdout, placed.stdout, asked.stdout) == ("2\n", "100\n", "10\n")


def test_collections_are_listed(portal: StandIn, tmp_path: Path) -> None:
    """Every collection, or those of some words, for people and for programs; none is 4."""
    people = command(portal, tmp_path, "collections", "SENTINEL2 theia")
    programs = command(portal, tmp_path, "collections", S2, "--json")
    nothing = command(portal, tmp_path, "collections", "no such words")

    assert people.stdout.splitlines()[1].split() == ["0", "THEIA_REFLECTANCE_SENTINEL2_L2A"]
    assert [one["id"] for one in json.loads(programs.stdout)] == [S2]
    assert nothing.returncode == 4


def test_a_terminal_shows_the_first_items(portal: StandIn, tmp_path: Path) -> None:
    """Twenty rows and the portal's count, in one request of twenty; names are there whole."""
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "geodes_tasks", "search", "-c", S2]
    with os.fdopen(master, "rb", buffering=0) as screen:
        subprocess.run(
            words, env=environment(portal, tmp_path), cwd=tmp_path, stdout=slave, stderr=slave,
            check=True,
        )  # fmt: skip
        os.close(slave)
        done = screen.read(65536).decode()

    names = {item["properties"]["identifier"] for item in portal.items}
    assert sum(any(name in line for name in names) for line in done.splitlines()) == 20
    assert "20 of 60 items" in done
    assert searches(portal) == [200]


def test_a_search_that_misses_items_warns(portal: StandIn, tmp_path: Path) -> None:
    """``search`` writes what came and warns; ``download`` has it and ends with 3."""
    portal.settings.change(items_withheld=10)

    searched = command(portal, tmp_path, "search", "--start", "2020", "-o", "i.jsonl")
    done = command(portal, tmp_path, "download", "--start", "2020", "-o", "files", "-j", "8")

    assert searched.returncode == 0
    assert "10 are missing" in searched.stderr
    assert len((tmp_path / "i.jsonl").read_text().splitlines()) == 90
    assert (done.returncode, len(list((tmp_path / "files").glob("*.zip")))) == (3, 90)
    assert "10 are missing" in done.stderr


def test_download_by_name(portal: StandIn, tmp_path: Path) -> None:
    """Ids and product names are downloaded; an unknown one is refused: 3, and 4 when alone."""
    first, second, third, *_ = portal.items
    named = [first["id"], second["properties"]["identifier"]]
    (tmp_path / "i.json").write_text(json.dumps(third))

    both = command(portal, tmp_path, "download", *named, "NO_SUCH", "i.json", "-o", "files")
    alone = command(portal, tmp_path, "download", "NO_SUCH", "-o", "files")
    plan = command(portal, tmp_path, "download", "NO_SUCH", "--dry-run", "--json")
    file = command(portal, tmp_path, "download", "gone.json", "-o", "files")

    assert (both.returncode, len(list((tmp_path / "files").glob("*.zip")))) == (3, 3)
    assert "NO_SUCH: " in both.stderr
    assert "geodes-tasks search" in both.stderr
    assert (alone.returncode, plan.returncode, file.returncode) == (4, 4, 2)
    assert json.loads(plan.stdout)["downloads"] == []


@pytest.mark.parametrize("name", ["items.json", "items.jsonl", "items.geojson"])
def test_search_writes_a_file(run: Any, tmp_path: Path, name: str) -> None:
    """Both forms of file are what the downloader reads, and appear whole."""
    path = tmp_path / name

    done = run("--collection", S2, "--tile", "31TCJ", "--start", "2025", "-o", str(path))

    items = DownloadQueue(str(path), tmp_path / "files")._planned()
    assert (done.exit_code, sum(len(one.requests) for one in items)) == (0, 60)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--bbox", "10,10,11,11"), 4),
        (("--bbox", "1,2"), 1),
        ((), 1),
        (("--collection", S2, "--count"), 0),
        (("--intersects", "nowhere.json"), 1),
        (("--query", "{"), 1),
    ],
)
def test_search_ends_with_a_code(run: Any, words: tuple[str, ...], code: int) -> None:
    """Nothing found is 4; what makes no sense is an error that the frame turns into 2."""
    done = run(*words)

    assert done.exit_code == code
    assert code != 1 or isinstance(done.exception, SearchError)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("--intersects", "POLYGON EMPTY", "GeoJSON, WKT"), ("--query", "[]", "a JSON object")],
)
def test_what_is_no_value_is_named_with_what_is_one(
    run: Any, option: str, value: str, kind: str
) -> None:
    """``[]`` is JSON all the same, and a geometry may be WKT."""
    done = run(option, value)

    assert f"{value!r} is neither {kind} nor a file that can be read" in str(done.exception)


def test_many_items_need_a_yes(portal: StandIn) -> None:
    """More than a settable number is not downloaded unasked where nobody can be asked."""
    settings = settings_for(portal)

    with pytest.raises(ConfigError, match="finds 100 items, more than 99"):
        cli_search.confirmed(Search(start="2025"), settings, ask_above=99, yes=False)

    results = cli_search.confirmed(Search(start="2025"), settings, ask_above=99, yes=True)
    assert (len(list(results)), results.missing) == (100, 0)


def command(standin: StandIn, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the whole program as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *words],
        env=environment(standin, home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_download_searches(portal: StandIn, tmp_path: Path) -> None:
    """From a query to files in one command; the number found is said before."""
    window = ("--start", "2025-01", "--end", "2025-12", "--bbox", "1,43,2,44")

    done = command(
        portal, tmp_path,
        "download", "-o", "files", "--collection", S1, "--cloud-cover", "4", *window,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("found 5 items")
    assert len(list((tmp_path / "files").glob("*.zip"))) == 5


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--collection", S2, "--ask-above", "59"), "finds 60 items, more than 59"),
        (("--collection", S2, "items.json"), "one of the two"),
        ((), "one of the two"),
    ],
)
def test_download_asks_before_many(
    portal: StandIn, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    """Where nobody can be asked, too many items are bad usage, and nothing is downloaded."""
    done = command(portal, tmp_path, "download", *words)

    assert done.returncode == 2
    assert problem in done.stderr
    assert portal.downloads() == []


def test_search_and_download_in_a_pipe(portal: StandIn, tmp_path: Path) -> None:
    """What ``search`` writes is what ``download`` reads."""
    found_items = command(portal, tmp_path, "search", "-c", S2, "--tile", "31TCJ", "-o", "i.jsonl")

    done = command(portal, tmp_path, "download", "i.jsonl", "-o", "files", "--dry-run", "--json")

    assert found_items.returncode == 0, found_items.stderr
    assert len(json.loads(done.stdout)["downloads"]) == 60
    nothing = command(portal, tmp_path, "search", "--bbox", "1,2")
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (2, False)


# --- what other libraries find -----------------------------------------------------------------


EODAG = """
import sys
from eodag import EODataAccessGateway
from geodes_tasks.pygeodes.download_queue import DownloadQueue
url, key, folder = sys.argv[1:]
dag = EODataAccessGateway()
dag.update_providers_config(f'''
geodes:
  search:
    api_endpoint: {url}/api/stac/search
    discover_collections:
      fetch_url: {url}/api/stac/collections
''')
window = {"start": "2025-01-01", "end": "2026-01-01"}
found = dag.search(provider="geodes", collection="S2_MSI_L1C", raise_errors=True, **window)
assert len(found) == 20, found
queue = DownloadQueue(found, folder)
queue.run()
assert queue.check_integrity() == []
for one in queue.results:
    print(one.item_id, one.path)
"""

PYGEODES = """
import sys
from pygeodes import Config, Geodes
from geodes_tasks.pygeodes.download_queue import DownloadQueue
url, key, folder = sys.argv[1:]
conf = Config(api_key=key, download_dir=folder, use_async_requests=False)
geodes = Geodes(conf=conf, base_url=url)
query = {"dataset": {"eq": "PEPS_S2_L1C"}, "eo:cloud_cover": {"lte": 9}}
items, frame = geodes.search_items(query=query, quiet=True, get_all=True)
queue = DownloadQueue(items, folder)
queue.run()
assert queue.check_integrity() == []
queue = DownloadQueue(frame, folder)
queue.run()
for one in queue.results:
    print(one.item_id, one.path)
"""


def environment(standin: StandIn, home: Path) -> dict[str, str]:
    """Give a script what it needs to find the portal, and a home of its own."""
    settings = settings_for(standin, state_dir=home / "state")
    named = config.environment(settings)
    del named["GEODES_TASKS_REDIS_URL"]
    return named | {"HOME": str(home), "EODAG_CFG_DIR": str(home), "PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("library", "script", "count"),
    [("eodag", EODAG, 20), ("pygeodes", PYGEODES, 10)],
    ids=["eodag", "pygeodes"],
)
def test_items_of_other_libraries_are_downloaded(
    portal: StandIn, tmp_path: Path, library: str, script: str, count: int
) -> None:
    """What eodag and pygeodes really find is downloaded under the portal's own names."""
    pytest.importorskip(library)
    folder = tmp_path / "files"

    done = subprocess.run(
        [sys.executable, "-c", script, portal.url, KEY, str(folder)],
        env=environment(portal, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("URN:")]
    titles = {item["id"]: f"{item['properties']['identifier']}.zip" for item in portal.items}
    assert len(rows) == count
    assert all(Path(path).name == titles[item] for item, path in rows)
    assert len(portal.downloads()) == count


def test_eodag_items_are_enqueued(settings: Config) -> None:
    """``enqueue`` takes what eodag found: the archive, under its own name."""
    digest = "9e71434d40c22a2cdf6b29f4550fa322"
    link = f"{settings.portal_url}/api/download/URN:X:V1/files/{digest}"
    properties = {"title": "S2A_X", "uid": "URN:X:V1", "eodag:download_link": link}
    assets = {"zip": {"href": link, "title": "zip", "roles": ["auxiliary"]}}
    item = {"type": "Feature", "id": "S2A_X", "properties": properties, "assets": assets}

    (record,) = enqueue(item, conf=settings).results()

    assert (record.item_id, Path(record.path).name) == ("URN:X:V1", "S2A_X.zip")
    assert record.state is State.PENDING


def test_a_collection_of_another_library_is_taken(portal: StandIn, settings: Config) -> None:
    """A pystac ItemCollection, which pystac_client gives too, is a list of items."""
    import pystac

    items = Geodes(settings_for(portal)).search_items(collections=S1, return_df=False)
    queue = DownloadQueue(pystac.ItemCollection(items), conf=settings)

    planned = [request for one in queue._planned() for request in one.requests]

    assert len(planned) == 40
    assert State.PENDING not in {record.state for record in queue.results}
