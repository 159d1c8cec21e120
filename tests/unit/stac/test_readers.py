"""Items are found in every form people keep them in; what is no item is said in its place."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import threading
import tracemalloc
import warnings
from collections import UserList
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodes_tasks.client.item_like import check_items
from geodes_tasks.errors import ItemError, NoItemsError, SourceError
from geodes_tasks.stac import readers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def item(name: str = "A") -> dict[str, Any]:
    """Build a small item that pystac accepts too."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0-beta.2",
        "stac_extensions": [],
        "id": name,
        "collection": "PEPS_S2_L1C",
        "bbox": [0, 0, 1, 1],
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
        "properties": {"identifier": name, "datetime": "2025-04-03T09:00:26Z", "platform": "S2A"},
        "links": [{"rel": "root", "href": "https://unreachable.invalid/api/stac"}],
        "assets": {"a.zip": {"href": "https://h/a.zip", "title": "a.zip", "roles": ["data"]}},
    }


def collection(*items: Any) -> dict[str, Any]:
    """Build an ItemCollection."""
    return {"type": "FeatureCollection", "features": list(items)}


def lines(*values: Any) -> bytes:
    """Write one value a line."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def told(found: Iterable[Any]) -> list[str]:
    """Give the id of each item and the text of each error."""
    return [str(one) if isinstance(one, ItemError) else one["id"] for one in found]


def read(tmp_path: Path, content: bytes) -> list[str]:
    """Read a file of this content."""
    path = tmp_path / "items.json"
    path.write_bytes(content)
    return [text.replace(str(path), "items.json") for text in told(readers.read(str(path)))]


A, B = item("A"), item("B")
ONE_A_LINE = lines(A, B)


@pytest.mark.parametrize(
    "content",
    [
        ONE_A_LINE,
        ONE_A_LINE.rstrip(b"\n"),
        b"\xef\xbb\xbf" + ONE_A_LINE,
        b"\n\r\n" + ONE_A_LINE.replace(b"\n", b"\r\n\n"),
        b"\x1e" + ONE_A_LINE.replace(b"\n", b"\n\x1e").rstrip(b"\x1e"),
        lines([A, B]),
        lines(collection(A, B)),
        lines(collection(A), [B]),
        lines([[A], [[B]]]),
        json.dumps([A, B], indent=2).encode(),
        b"\n\n" + json.dumps(collection(A, B), indent=4).encode() + b"\n\n",
        b"\xef\xbb\xbf" + json.dumps(collection(A, B), indent=4).encode(),
        json.dumps(collection(A, B), indent=4).encode("utf-16"),
        json.dumps([A, B]).encode("utf-16"),
        ONE_A_LINE.decode().encode("utf-16"),
        codecs.BOM_UTF16_BE
        + b"\n\r\n\n".decode().encode("utf-16-be")
        + ONE_A_LINE.decode().encode("utf-16-be"),
        ONE_A_LINE.replace(b"\n", b"\r\n").decode().encode("utf-32"),
        b"[" + json.dumps(A).encode() + b",\n" + json.dumps(B).encode() + b"]",
    ],
)
def test_forms(tmp_path: Path, content: bytes) -> None:
    """Items a line, lists and collections, compact or not, whatever the mark and line ends."""
    assert read(tmp_path, content) == ["A", "B"]


@pytest.mark.parametrize("indent", [None, 2])
def test_single_item(tmp_path: Path, indent: int | None) -> None:
    """A lone item is a source."""
    assert read(tmp_path, json.dumps(A, indent=indent).encode()) == ["A"]


def test_a_device_is_no_source() -> None:
    """A file without end is refused before it fills the memory; /dev/null is an empty one."""
    with pytest.raises(SourceError, match="/dev/zero: is a device, not a file"):
        list(readers.read("/dev/zero"))
    with pytest.raises(NoItemsError, match="is empty"):
        list(readers.read("/dev/null"))


def test_item_of_other_letters(tmp_path: Path) -> None:
    """UTF-8 text is read as it is."""
    assert read(tmp_path, json.dumps(item("été 衛星"), ensure_ascii=False).encode()) == ["été 衛星"]


def test_bad_lines_do_not_stop_the_good_ones(tmp_path: Path) -> None:
    """Each bad line is named with what is wrong, and the others are read."""
    content = lines(A) + b'{"type": "Feature", "id\n\n' + lines(7, {"a": 1}) + b"\xff\n" + lines(B)

    assert read(tmp_path, content) == [
        "A",
        "line 2 of items.json: is not JSON: Unterminated string starting at column 21",
        "line 4 of items.json: is a number, not a STAC item",
        "line 5 of items.json: is JSON but no STAC item; its keys: a",
        "line 6 of items.json: is not text in UTF-8",
        "B",
    ]


def test_bad_first_line_among_good_ones(tmp_path: Path) -> None:
    """A broken first line does not hide the rest."""
    found = read(tmp_path, b'\n{"id": \n' + lines(A, B))

    assert found[0].startswith("line 2 of items.json: is not JSON")
    assert found[1:] == ["A", "B"]


def test_last_line_cut_off(tmp_path: Path) -> None:
    """A writer that was interrupted costs its last item only."""
    found = read(tmp_path, ONE_A_LINE[:-30])

    assert found[0] == "A"
    assert found[1].startswith("line 2 of items.json: is not JSON")


def test_bad_elements_do_not_stop_the_good_ones(tmp_path: Path) -> None:
    """An element that is no item is named by its number."""
    assert read(tmp_path, lines(collection(A, None, "/etc/passwd", B))) == [
        "A",
        "element 2 of items.json: is null, not a STAC item",
        "element 3 of items.json: is a string, not a STAC item",
        "B",
    ]


def test_lists_too_deep(tmp_path: Path) -> None:
    """Lists within lists end somewhere, with an error and not with a traceback."""
    (found,) = read(tmp_path, b"[" * 50 + b"]" * 50)

    assert found.endswith("is nested too deeply")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"item_id,href\nA,https://h/a.zip\n", "is not JSON: Expecting value at line 1, column 1"),
        (b"<html>\n", "is not JSON"),
        (b"PK\x03\x04\xff\xfe\x00", "is not text in UTF-8"),
        (b"\xff\xfe{", "is not text in UTF-16"),
        (json.dumps([A, B], indent=1).encode()[:-1], "is not JSON"),
        (json.dumps(collection(A, B), indent=1).encode()[:-9], "is not JSON"),
        (b"[\n" + ONE_A_LINE, "is not JSON"),
        (
            b'{"type": "FeatureCollection", "features": [\n'
            + ONE_A_LINE.replace(b"\n", b",\n", 1).replace(b"{", b"{", 1)
            + lines(A).rstrip(b"\n")
            + b",\n",
            "is not JSON",
        ),
        (b"[" * 100_000, "is nested too deeply"),
        (b"9" * 5000, "digits"),
        (b"3", "is a number, not a STAC item"),
        (b'"items.json"', "is a string, not a STAC item"),
        (b"null", "is null, not a STAC item"),
        (b"{}", "no STAC item; its keys: none"),
        (b'{"message": "Unauthorized", "time": 1}', "its keys: message, time"),
        (b'{"type": "Collection", "id": "C", "assets": {}}', "is a STAC Collection, not an Item"),
    ],
)
def test_source_that_is_something_else(tmp_path: Path, content: bytes, problem: str) -> None:
    """A source that is no JSON, or JSON of something else, is refused in one line with a hint."""
    path = tmp_path / "items.json"
    path.write_bytes(content)

    with pytest.raises(SourceError, match=problem) as caught:
        list(readers.read(str(path)))

    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert "pygeodes search" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b" \n\n", b"\xef\xbb\xbf", b"[]", b"[[], []]", b'{"features": []}']
)
def test_no_items(tmp_path: Path, content: bytes) -> None:
    """A source that holds nothing is told apart: there is nothing to download."""
    path = tmp_path / "items.json"
    path.write_bytes(content)

    with pytest.raises(NoItemsError, match=r"is empty|holds no items"):
        list(readers.read(str(path)))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("missing.json", "no such file"),
        ("", "is a directory"),
        (".", "is a directory"),
        ("a\0b", "is no file name"),
        ("x" * 300, "file name too long"),
    ],
)
def test_unreadable_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    """A path that cannot be opened is a SourceError with the system's reason."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SourceError, match=problem):
        list(readers.read(source))


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` reads standard input and leaves it open."""
    stdin = io.TextIOWrapper(io.BytesIO(ONE_A_LINE))
    monkeypatch.setattr(sys, "stdin", stdin)

    assert told(readers.read("-")) == ["A", "B"]
    assert not stdin.buffer.closed


def test_stdin_that_is_bad_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors call standard input by its name."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"oops")))
    with pytest.raises(SourceError, match="stdin: is not JSON"):
        list(readers.read("-"))

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="stdin: there is no standard input"):
        list(readers.read("-"))


@pytest.mark.parametrize("content", [ONE_A_LINE, json.dumps([A, B], indent=1).encode()])
def test_pipe(tmp_path: Path, content: bytes) -> None:
    """A pipe, which cannot be read twice, is a source too."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(content,))
    writer.start()

    found = told(readers.read(str(fifo)))
    writer.join()

    assert found == ["A", "B"]


def test_one_item_a_line_is_read_with_flat_memory(tmp_path: Path) -> None:
    """Twenty thousand items, almost 10 MB, are passed on within 2 MB of memory."""
    path = tmp_path / "many.ndjson"
    with path.open("wb") as stream:
        for number in range(20_000):
            stream.write(lines(item(f"item {number}")))

    tracemalloc.start()
    count = sum(1 for _ in readers.read(str(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 20_000
    assert path.stat().st_size > 9_000_000
    assert peak < 2_000_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary()
    | st.lists(
        st.sampled_from([*ONE_A_LINE.splitlines(), b"[", b"]", b",", b"{}", b"\n", b"x"])
    ).map(b"\n".join)
)
def test_any_bytes_give_items_or_errors(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, reading it gives items, ItemErrors or a SourceError."""
    path = tmp_path / "any"
    path.write_bytes(content)
    try:
        found = list(readers.read(str(path)))
    except SourceError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
    else:
        assert found
        assert all(isinstance(one, dict | ItemError) for one in found)


# --- pygeodes, pystac, eodag and plain Python --------------------------------------------------


@pytest.fixture(scope="module")
def pygeodes() -> Any:
    """Give what is used of pygeodes; its import warns of its own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stac = pytest.importorskip("pygeodes.utils.stac")
        formatting = pytest.importorskip("pygeodes.utils.formatting")
    return SimpleNamespace(
        item=stac.Item.from_dict,
        frame=formatting.format_items,
        export=formatting.export_dataframe,
    )


@pytest.mark.filterwarnings("ignore")
def test_what_pygeodes_search_writes(tmp_path: Path, pygeodes: Any) -> None:
    """The file of ``pygeodes search -o``, written by pygeodes itself, gives the whole items."""
    frame = pygeodes.frame([pygeodes.item(item(name)) for name in "AB"], {"identifier"})
    path = tmp_path / "search.json"
    pygeodes.export(frame, str(path))

    found: list[Any] = list(readers.read(str(path)))

    assert told(found) == ["A", "B"]
    assert found[0]["assets"]["a.zip"]["href"] == "https://h/a.zip"
    assert found[0]["collection"] == "PEPS_S2_L1C"


def test_exported_item_as_text(tmp_path: Path) -> None:
    """A frame that went through another format holds the item as JSON text."""
    good = {"type": "Feature", "id": "0", "properties": {"item": json.dumps(A)}}
    broken = {"type": "Feature", "id": "1", "properties": {"item": "{"}}

    assert read(tmp_path, lines(collection(good, broken))) == ["A", "1"]


@pytest.mark.filterwarnings("ignore")
def test_pygeodes_objects(pygeodes: Any) -> None:
    """Items, lists, data frames and columns of pygeodes are items."""
    items = [pygeodes.item(item(name)) for name in "AB"]
    frame = pygeodes.frame(items, {"identifier"})

    rows = [row for _, row in frame.iterrows()]
    named, records = list(frame.itertuples()), frame.to_dict("records")
    columns = frame["item"], frame["item"].values
    for objects in (items, iter(items), frame, *columns, rows, named, records):
        assert told(readers.items_of(objects)) == ["A", "B"]
    for one in (items[0], rows[0], named[0], records[0]):
        check_items(one)
        assert told(readers.items_of(one)) == ["A"]


def test_tables_of_other_programs() -> None:
    """The items of a table are JSON text after a geographic file, or its rows are items."""
    pandas = pytest.importorskip("pandas")
    texts = pandas.DataFrame({"id": ["a", "b"], "item": [json.dumps(A), json.dumps(B)]})

    assert told(readers.items_of(texts)) == ["A", "B"]
    assert told(readers.items_of(json.dumps(A))) == ["A"]
    assert told(readers.items_of(pandas.DataFrame([A, B]))) == ["A", "B"]
    assert told(readers.items_of(pandas.DataFrame({"name": ["a"]}))) == [
        "element 1 of the given object: is JSON but no STAC item; its keys: name"
    ]


def test_pystac_objects() -> None:
    """The Item and ItemCollection of pystac are items, and no link of theirs is fetched."""
    pystac = pytest.importorskip("pystac")
    one = pystac.Item.from_dict(item("A") | {"stac_version": "1.0.0"})

    assert told(readers.items_of(one)) == ["A"]
    assert told(readers.items_of(pystac.ItemCollection([one, one]))) == ["A", "A"]


def test_eodag_objects() -> None:
    """Products of eodag describe themselves with ``as_dict``, in a list-like result."""

    class Product:
        def as_dict(self) -> dict[str, Any]:
            return item("A")

    assert told(readers.items_of(UserList([Product(), Product()]))) == ["A", "A"]


def test_plain_objects(tmp_path: Path) -> None:
    """Dicts, collections, tuples, generators, nested lists and paths may be mixed."""
    path = tmp_path / "items.json"
    path.write_bytes(lines(B))

    found = readers.items_of((A, [collection(B, A)], (x for x in [A, [[B]]]), path, str(path)))

    assert told(found) == ["A", "B", "A", "A", "B", "B", "B"]


def test_items_are_passed_on_one_by_one() -> None:
    """A generator of items is not run ahead of its reader."""

    def endless() -> Any:
        while True:
            yield A

    found = readers.items_of(endless())

    assert told([next(found), next(found)]) == ["A", "A"]


def test_objects_that_are_no_items() -> None:
    """What is no item is named by its place, and the rest goes on."""

    class Broken:
        def to_dict(self) -> dict[str, Any]:
            raise KeyError("geometry")

    ring: list[Any] = []
    ring.append(ring)

    found = told(readers.items_of([A, None, 3, b"bytes", Broken(), {"type": "Catalog"}, ring, B]))

    assert found[0] == "A"
    assert found[1] == "element 2 of the given object: is null, not a STAC item"
    assert found[2] == "element 3 of the given object: is a number, not a STAC item"
    assert found[3] == "element 4 of the given object: is a bytes, not a STAC item"
    assert "cannot be described as JSON: KeyError: 'geometry'" in found[4]
    assert "is a STAC Catalog" in found[5]
    assert "nested too deeply" in found[6]
    assert found[7] == "B"


def test_missing_path_among_objects() -> None:
    """A path that cannot be read stops at once: it is the caller's mistake."""
    with pytest.raises(SourceError, match="no such file"):
        list(readers.items_of(["/nonexistent/items.json"]))
