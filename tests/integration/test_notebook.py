"""The notebook of the documentation runs from top to bottom, and what it shows is worth a look."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks import notebook
from geodes_tasks.ledger import Running
from geodes_tasks.results import BatchStatus
from geodes_tasks.states import State
from tests.standin import StandIn, read

NOTEBOOK = Path(__file__).parents[2] / "docs" / "downloading.ipynb"
KEY = "notebook-key-0123456789"
LIBRARIES = ("ResourceWarning", "DeprecationWarning", "PendingDeprecationWarning", "RuntimeWarning")
# Those of the notebook's own libraries and their event loop; none of them is ours to mend.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in LIBRARIES]


@pytest.fixture
def portal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Start a portal with what the notebook looks for, and let the environment name it."""
    with StandIn(KEY, range="good") as standin:
        for number in range(4):
            members = {f"P/IMG_B{band}.tif": bytes([band]) * 200_000 for band in (3, 4)}
            standin.add_item(members=members, cloud_cover=5.0 * number)
        standin.add_item(cloud_cover=90.0)
        monkeypatch.setenv("GEODES_API_KEY", KEY)
        monkeypatch.setenv("GEODES_TASKS_PORTAL_URL", standin.url)
        monkeypatch.setenv("GEODES_TASKS_S3_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("GEODES_TASKS_QUOTA", "off")
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        yield standin


@pytest.fixture
def executed(
    portal: StandIn, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:  # fmt: skip
    """Give what runs a notebook in an empty folder."""
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    folder = tmp_path / "work"
    folder.mkdir()

    def execute(content: Any) -> Any:
        resources = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(content, timeout=90, resources=resources)
        asyncio.run(client.async_execute())
        return content

    return execute


def outputs(content: Any) -> str:
    """Give everything that the cells show, as one text."""
    shown = [one for cell in content.cells for one in cell.get("outputs", ())]
    return "\n".join(json.dumps(one.get("data") or one.get("text") or one) for one in shown)


def test_the_notebook_runs(portal: StandIn, executed: Any, tmp_path: Path) -> None:
    """Top to bottom without an error: searched, downloaded, checked, with progress to look at."""
    nbformat = pytest.importorskip("nbformat")

    content = executed(nbformat.read(NOTEBOOK, as_version=4))

    shown = outputs(content)
    assert "Found 4 items" in shown
    assert "4 of 4 done (3 DOWNLOADED, 1 ALREADY_PRESENT)" in shown
    assert "4 of 4 files are as they should be" in shown
    assert "background:#2a9d4a" in shown
    assert "stderr" not in {one.get("name") for c in content.cells for one in c.get("outputs", ())}
    folder = tmp_path / "work"
    assert {path.name for path in folder.iterdir()} == {"downloads"}
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.zip")}
    wanted = {hashlib.sha256(read(portal.body(item))).digest() for item in portal.items[:4]}
    assert digests == wanted


def test_the_notebook_in_the_documentation_shows_its_outputs() -> None:
    """Whoever opens it without running it sees what the cells show, and no machine's paths."""
    text = NOTEBOOK.read_text()

    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(cell["outputs"]) for cell in cells) >= len(cells) - 3
    assert not any(word in text for word in ("/tm" + "p", "127.0.0.1", "traceback"))


def test_an_interrupted_cell_goes_on(portal: StandIn, executed: Any, tmp_path: Path) -> None:
    """Interrupt (the square) leaves a queue whose ``run()`` in the next cell ends the work."""
    nbformat = pytest.importorskip("nbformat")
    portal.settings.change(rate=100_000.0)
    interrupt = """
import os, signal, threading
from geodes_tasks.downloadqueue import DownloadQueue
from geodes_tasks.geodes import Geodes
items = Geodes().search_items(collections="PEPS_S2_L1C", query={"eo:cloud_cover": {"lte": 20}},
                              get_all=True, return_df=False)
queue = DownloadQueue(items, "files")
threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    queue.run()
except KeyboardInterrupt:
    print("INTERRUPTED")
"""
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in (interrupt, "queue.run().states")]
    )

    content = executed(made)

    shown = outputs(content)
    assert "INTERRUPTED" in shown
    assert "are left; run() goes on" in shown
    assert "'SUCCESS': 4" in shown
    assert len(list((tmp_path / "work" / "files").glob("*.zip"))) == 4


def test_progress_is_html() -> None:
    """A bar for all and one for each running file; names that look like markup are harmless."""
    status = BatchStatus(
        batch="b",
        total=3,
        states=dict.fromkeys(map(str, State), 0) | {"SUCCESS": 1, "STARTED": 2},
        outcomes={},
        bytes_total=3000,
        bytes_done=1500,
    )
    running = [Running("id", "item", "<script>.zip", 1000, 250, "w", "geodes")]

    html = notebook.page(status, running, 100.0)

    assert "width:50%" in html
    assert "width:25%" in html
    assert "1 of 3 done, 2 running" in html
    assert "15 s left" in html
    assert "<script>" not in html


def test_outside_a_notebook_nothing_is_assumed() -> None:
    """In a plain process words go to stderr, even where IPython is installed."""
    pytest.importorskip("IPython")

    assert not notebook.in_notebook()
    assert notebook.console().stderr
