"""Items as a stranger writes them: every file goes inside the folder, or its item is named."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geodes_tasks.client import enqueue_admission, planning
from geodes_tasks.client.planning import Planned, Selection
from geodes_tasks.errors import ConfigError, GeodesTasksError, SourceError
from geodes_tasks.model.footprint import footprint
from geodes_tasks.monitoring.reports.stac_collection import stac_lines
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import eodag, readers
from tests.unit.monitoring.reports.test_reports import GOOD
from tests.unit.stac.test_assets import ASSETS, HREFS, ITEMS, JSON, data_asset, item
from tests.unit.transfer.test_destination import NAMES

FOLDER = Path("/data/downloads")
LAYOUTS = ["{title}", "{collection}/{item}/{title}", "{item_id}-{key}", "{year}/{checksum}/{title}"]


def changed(of: dict[str, Any], member: str, value: Any) -> dict[str, Any]:
    """Give a right item with one member, of itself or of its properties, made wrong."""
    if member in of["properties"]:
        return of | {"properties": of["properties"] | {member: value}}
    return of | {member: value}


ALMOST_RIGHT = st.builds(
    changed,
    st.builds(
        lambda title, href: item({"a.zip": data_asset(title, href=href)}),
        NAMES,
        HREFS | st.just("https://geodes-portal.cnes.fr/api/download/x/files/1"),
    ),
    st.sampled_from(["id", "collection", "assets", "geometry", "bbox", "identifier", "datetime"]),
    JSON | NAMES,
)
THROUGH_EODAG = st.builds(
    lambda properties, assets: {"type": "Feature", "properties": properties, "assets": assets},
    st.fixed_dictionaries(
        {},
        optional={
            eodag.LINK: JSON,
            "downloadLink": JSON | HREFS,
            "productType": JSON | NAMES,
            "tileIdentifier": JSON,
            "eodag:provider": JSON,
            "uid": JSON,
            "geodes:endpoint_url": JSON | HREFS,
            "geodes:identifier": JSON | NAMES,
            "grid:code": JSON,
            "title": NAMES,
        },
    ),
    st.dictionaries(NAMES, ASSETS | JSON, max_size=3) | JSON,
)
HOSTILE = ALMOST_RIGHT | THROUGH_EODAG | ITEMS | JSON


def planned(content: str, layout: str) -> list[Planned]:
    """Read a file and plan what is in it, as every command does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.json"
        path.write_text(content)
        return list(planning.plan(readers.read(str(path)), Selection(FOLDER, layout=layout)))


@given(st.lists(HOSTILE, min_size=1, max_size=3), st.booleans(), st.sampled_from(LAYOUTS))
def test_a_file_from_a_stranger_stays_inside_the_folder(
    items: list[Any], one_a_line: bool, layout: str
) -> None:
    """From the bytes of a file to paths: inside the folder, or refused in one printable line."""
    content = "\n".join(map(json.dumps, items)) if one_a_line else json.dumps(items)
    try:
        found = planned(content, layout)
    except SourceError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
        return

    for request in (request for one in found for request in one.requests):
        assert os.path.normpath(request.path) == request.path
        assert request.path.startswith(f"{FOLDER}/")
        assert ".geodes-tasks" not in Path(request.path).parts
        assert json.loads(json.dumps(request.asset.to_dict())) == request.asset.to_dict()
    for refusal in (refusal for one in found for refusal in one.refusals):
        assert str(refusal.error).isprintable()
        assert refusal.error.hint


@given(st.lists(HOSTILE, max_size=4), st.integers(0, 3), st.binary(max_size=20))
def test_a_bad_line_harms_no_other(items: list[Any], at: int, noise: bytes) -> None:
    """Whatever one line holds, the good lines around it give their downloads."""
    # What begins as a list is one document, and is refused as a whole when it is none.
    assume(not noise.lstrip(b" \t\r\x1e").startswith(b"["))
    good = [json.dumps(item({"a.zip": data_asset()}, identifier=f"good {n}")) for n in range(6)]
    bad = [json.dumps(one) for one in items] + [noise.replace(b"\n", b"").decode("latin-1")]
    content = "\n".join([*good[:at], *bad, *good[at:]])

    found = planned(content, "{item}")

    kept = {Path(request.path).name for one in found for request in one.requests}
    assert {f"good {n}" for n in range(6)} <= kept


@pytest.mark.parametrize(
    "broken",
    [
        {"assets": {"a": "no object"}},
        {"assets": {"a": None, "b": []}},
        {"properties": {eodag.LINK: "x", "geodes:endpoint_url": "https://["}},
    ],
)
def test_what_eodag_would_never_write(broken: dict[str, Any]) -> None:
    """Broken assets and addresses within an item of eodag's form are an item's own trouble."""
    thing = {"type": "Feature", "properties": {eodag.LINK: "x"}, "assets": {"z": {"href": "x"}}}

    restored = eodag.restored(thing | broken)

    with pytest.raises(GeodesTasksError, match=r"asset|href"):
        stac_assets.assets(restored)


# --- how long it takes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "description",
    ["\n" * 200_000, "checksum " + " " * 200_000, "file size" + " \t" * 100_000, "\r" * 200_000],
)
def test_a_long_description_takes_no_time(description: str) -> None:
    """A description of blank lines is read in a moment: it held up a whole batch for minutes."""
    begun = time.process_time()

    (asset,) = stac_assets.assets(item({"a.zip": data_asset(description=description)}))

    assert asset.size_bytes is None
    assert time.process_time() - begun < 2


# --- place and time ----------------------------------------------------------------------------

PLACES = st.recursive(
    st.integers() | st.floats() | st.none() | st.text(max_size=3) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {
            "properties": st.fixed_dictionaries(
                {"datetime": st.just("2025-04-02T17:57:41Z")}, optional={"eo:cloud_cover": JSON}
            )
        },
        optional={
            "geometry": JSON
            | st.fixed_dictionaries(
                {"type": st.sampled_from(["Point", "Polygon"])}, optional={"coordinates": PLACES}
            ),
            "bbox": st.lists(st.floats() | st.integers(), max_size=6) | JSON,
            "links": st.lists(JSON | st.fixed_dictionaries({"rel": st.just("self"), "href": JSON})),
        },
    )
)
def test_any_place_can_be_reported(thing: dict[str, Any]) -> None:
    """Whatever stands for a place, the report is JSON that every program reads: no NaN in it."""
    kept = footprint(thing)

    written = "".join(stac_lines([GOOD], lambda _: kept))
    assert json.loads(written, parse_constant=lambda word: pytest.fail(word))["features"]


def deep(levels: int) -> Any:
    """Nest a point in lists."""
    point: Any = [1.0, 2.0]
    for _ in range(levels):
        point = [point]
    return point


@pytest.mark.parametrize(
    "coordinates", [[10**400, 1], [float("inf"), 1], [float("nan"), 1], deep(900), "12", None]
)
def test_no_place(coordinates: Any) -> None:
    """Coordinates that cannot be any are no place, and no error."""
    geometry = {"type": "Point", "coordinates": coordinates}

    kept = footprint({"properties": {"datetime": "2025-01-01T00:00:00Z"}, "geometry": geometry})

    assert kept == '{"properties":{"datetime":"2025-01-01T00:00:00Z"}}'


# --- names of batches --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["april", "2025-04-01T10:00", "été [b]", "a/b", "x" * 128])
def test_a_batch_may_be_called_so(name: str) -> None:
    """Times, other scripts and brackets make names."""
    enqueue_admission.check_batch_name(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is no name"), (" ", "is no name"), ("a\nb", "is no name"), ("\x1b[2J", "is no name"),
        ("--all", "is an option"),
        ("x" * 129, "1 to 128"), ("a:downloads", "parts of a batch"), ("a:ready:b", "parts of"),
    ],
)  # fmt: skip
def test_a_batch_may_not_be_called_so(name: str, problem: str) -> None:
    """Names that nobody could type, or that are keys of other batches, are refused in words."""
    with pytest.raises(ConfigError, match=problem) as caught:
        enqueue_admission.check_batch_name(name)

    assert str(caught.value).isprintable()
