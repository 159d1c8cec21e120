"""Run the examples in docstrings of public names, against the stand-in, without a Redis."""

from __future__ import annotations

import doctest
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import geodes_tasks
from geodes_tasks import Config, DownloadQueue, Geodes, Item, enqueue
from tests.conftest import require_server
from tests.standin import KiB, StandIn

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NAMES = [name for name in geodes_tasks.__all__ if name not in ("errors", "__version__")]
EXAMPLES = [
    example
    for name in NAMES
    for example in doctest.DocTestFinder().find(getattr(geodes_tasks, name), name)
    if example.examples
]
EXAMPLES += [
    example
    for example in doctest.DocTestFinder().find(Geodes.__mro__[1], "Geodes")
    if example.examples
]
"""With the searches, which are in the base class of Geodes."""


@pytest.fixture(scope="module")
def portal() -> Iterator[StandIn]:
    """Start a portal with three zip archives."""
    require_server()
    with StandIn("examples-key") as running:
        for number in range(3):
            running.add_item(members={f"{number}.tif": bytes([number]) * 20 * KiB})
        yield running


@pytest.fixture
def names(
    portal: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Return what an example may use, in a folder that has items.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEODES_API_KEY", "examples-key")
    monkeypatch.setenv("GEODES_TASKS_PORTAL_URL", portal.url)
    monkeypatch.setenv("GEODES_TASKS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("GEODES_TASKS_REDIS_URL", raising=False)
    collection = {"type": "FeatureCollection", "features": portal.items}
    Path("items.json").write_text(json.dumps(collection))
    with Geodes(Config(download_dir="downloads")) as geodes:
        items = [Item.from_dict(one) for one in portal.items]
        yield {
            "geodes": geodes,
            "items": items,
            "item": items[0],
            "queue": DownloadQueue("items.json", download_dir="downloads", quiet=True),
        }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_does_what_it_shows(example: doctest.DocTest, names: dict[str, Any]) -> None:
    """Each example prints what its docstring shows."""
    owner, _, method = example.name.partition(".")
    if owner in ("batch", "batches", "Batch"):
        names["batch"] = enqueue("items.json", download_dir="downloads", batch="april")
        if method != "pause":
            names["batch"].wait(quiet=True)
    if example.name in ("DownloadQueue.check_integrity", "DownloadQueue.to_dataframe", "Profile"):
        names["queue"].run()
    example.globs = names
    out: list[str] = []

    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=out.append)

    assert result.failed == 0, "".join(out)


def test_every_public_function_has_an_example() -> None:
    """The reference shows how to call each function; properties and pygeodes' helpers are plain."""
    shown = {example.name for example in EXAMPLES}
    functions = {"enqueue", "batch", "batches"} | {
        f"{owner}.{name}"
        for owner in ("Batch", "Geodes", "DownloadQueue")
        for name, member in inspect.getmembers(getattr(geodes_tasks, owner), inspect.isfunction)
        if not name.startswith("_")
    }
    plain = {"Batch.resume", "Batch.iter_results", "Geodes.set_conf", "Geodes.quicklook",
             "Geodes.download_item"}  # fmt: skip

    assert functions - shown == plain
    assert {"Config", "Item", "Profile"} <= shown
