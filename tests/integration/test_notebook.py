"""The notebook of the documentation runs from top to bottom, and what it shows is worth a look."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.client.batch import Batch
from geodes_tasks.errors import MissingPackageError, TransferError
from geodes_tasks.ledger import Claim, Ledger, Request, Running
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import State
from geodes_tasks.monitoring import html as htmlview
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.settings import config
from tests.conftest import asset_of
from tests.integration.test_user_page import PAGE
from tests.servers import WorkerProcess
from tests.standin import StandIn, read
from tests.unit.ledger.test_ledger import BATCH, ENTRY, ask, request_of

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
    assert "4 of 4 done (3 downloaded, 1 already here)" in shown
    assert "4 of 4 files correct" in shown
    assert "color: #22883f" in shown
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


@pytest.mark.slow
def test_an_interrupted_cell_goes_on(portal: StandIn, executed: Any, tmp_path: Path) -> None:
    """Interrupt (the square) leaves a queue whose ``run()`` in the next cell ends the work."""
    nbformat = pytest.importorskip("nbformat")
    portal.settings.change(rate=100_000.0)
    interrupt = """
import os, signal, threading
from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.geodes import Geodes
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
    assert "left; run() continues" in shown
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

    html = htmlview.picture(Snapshot(0.0, [status], running=running))

    assert "<meter value='0.500'>" in html
    assert "<meter value='0.250'>" in html
    assert "1 of 3 done, 2 running" in html
    assert "<script>" not in html


def test_outside_a_notebook_nothing_is_assumed() -> None:
    """In a plain process words go to stderr, even where IPython is installed."""
    pytest.importorskip("IPython")

    assert not htmlview.in_notebook()
    assert htmlview.console().stderr


def test_a_batch_in_a_cell(
    portal: StandIn, executed: Any, redis_url: str, worker_of_the_notebook: WorkerProcess
) -> None:
    """While one waits the output moves; a batch as the last word of a cell is a table of all."""
    nbformat = pytest.importorskip("nbformat")
    portal.settings.change(rate=150_000.0)
    gone = portal.items[0]
    portal.fault(gone, "gone_404")
    cells = (
        f"""
from geodes_tasks import Geodes, enqueue
items = Geodes().search_items(collections="PEPS_S2_L1C", query={{"eo:cloud_cover": {{"lte": 20}}}},
                              get_all=True, return_df=False)
batch = enqueue(items, batch="<i>mine", download_dir={str(worker_of_the_notebook.folder)!r})
batch""",
        "batch.wait(60).states",
        "batch",
        "frame = batch.to_dataframe(); print(frame.dtypes); frame[['state', 'error_type']].values",
    )
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])

    executed(made)

    begun, waited, ended, frame = map(outputs_of, made.cells)
    assert "<td>&lt;i&gt;mine</td>" in html_of(made.cells[0])
    assert "<i>mine" not in html_of(made.cells[0]) + html_of(made.cells[2])
    assert "Batch(" in begun
    assert "3 of 4 done (3 downloaded), 1 failed" in waited
    assert "'SUCCESS': 3" in waited
    assert "NotFoundError: no such file" in ended
    assert "Search for the item again" in ended
    again = (
        "geodes_tasks.batch(&#x27;&lt;i&gt;mine&#x27;).retry(classes=[&#x27;NotFoundError&#x27;])"
    )
    assert again in ended
    assert ended.count("<td>DOWNLOADED</td>") == 3
    assert "datetime64[" in frame
    assert "Int64" in frame
    assert frame.count("'SUCCESS'") == 3
    assert "'NotFoundError'" in frame


def test_a_queue_in_a_cell(portal: StandIn, executed: Any) -> None:
    """A queue says how its last run ended, with a row a file; before it has run it says so."""
    nbformat = pytest.importorskip("nbformat")
    cells = (
        """
from geodes_tasks import DownloadQueue, Geodes
items = Geodes().search_items(collections="PEPS_S2_L1C", query={"eo:cloud_cover": {"lte": 20}},
                              get_all=True, return_df=False)
queue = DownloadQueue(items, "files")
queue""",
        "queue.run(); queue",
        "len(queue.to_dataframe()), queue.to_dataframe().size_bytes.sum()",
    )
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])

    before, after, frame = (outputs_of(cell) for cell in executed(made).cells)

    assert "not run yet" in before
    assert after.count("<td>DOWNLOADED</td>") == 4
    assert "4 of 4 done (4 downloaded)" in after
    total = sum(len(read(portal.body(item))) for item in portal.items[:4])
    assert f"(4, np.int64({total}))" in frame


@pytest.fixture
def worker_of_the_notebook(
    portal: StandIn, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerProcess]:
    """Start a worker on a Redis that the notebook's environment names."""
    monkeypatch.setenv("GEODES_TASKS_REDIS_URL", redis_url)
    monkeypatch.setenv("GEODES_TASKS_OFFLINE_POLL_SECONDS", "1")
    worker = WorkerProcess(config.load(), tmp_path / "shared")
    yield worker.start()
    worker.stop()


def outputs_of(cell: Any) -> str:
    """Give everything that one cell shows, as one text."""
    shown = cell.get("outputs", ())
    return "\n".join(str(one.get("data") or one.get("text") or one) for one in shown)


def html_of(cell: Any) -> str:
    """Give the HTML that one cell shows."""
    return "".join(one.get("data", {}).get("text/html", "") for one in cell.get("outputs", ()))


def test_names_are_harmless(fake_ledger: Ledger) -> None:
    """Whatever items and errors say, in the table of a batch it is text."""
    evil = "<script>alert(1)</script>"
    asset = asset_of(b"x", item_id=evil, key=evil, title=evil)
    request = Request(asset, f"/data/{evil}.zip")
    fake_ledger.admission.admit("b", "acc", [request], lambda _: None)()
    fake_ledger.dispatch.release()
    claim = fake_ledger.leases.claim(request.download_id, "w")
    assert isinstance(claim, Claim)
    fake_ledger.leases.fail(claim, TransferError("https://h/a", evil), ENTRY)

    html = Batch("b", fake_ledger)._repr_html_()

    assert "<td>failed</td>" in html
    assert html.count("&lt;script&gt;") >= 3
    assert "<script" not in html


def test_a_batch_that_is_gone(fake_ledger: Ledger) -> None:
    """A cell that shows a forgotten batch shows a sentence, no traceback."""
    assert "is not in the ledger" in Batch("<gone>", fake_ledger)._repr_html_()
    assert "<gone>" not in Batch("<gone>", fake_ledger)._repr_html_()


def test_many_downloads_are_cut_off(fake_ledger: Ledger) -> None:
    """Of a large batch the first rows are shown, and how many more there are."""
    ask(fake_ledger, *(request_of(f"n{number}") for number in range(120)))

    html = Batch(BATCH, fake_ledger)._repr_html_()

    assert html.count("<td>queued</td>") == htmlview.RECORD_ROWS
    assert "and 70 more" in html


def test_without_pandas_it_says_so(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data frame without pandas: one sentence says what to install."""
    ask(fake_ledger, request_of())
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingPackageError, match="needs pandas, which is not installed") as told:
        Batch(BATCH, fake_ledger).to_dataframe()

    assert told.value.hint == "Install it: pip install 'geodes-tasks[notebook]'"


def test_the_page_of_pygeodes_in_cells(portal: StandIn, executed: Any, tmp_path: Path) -> None:
    """Each snippet of the page in a cell of its own, with only the package's name replaced."""
    nbformat = pytest.importorskip("nbformat.v4")
    (tmp_path / "work" / "pygeodes-config.json").write_text(
        json.dumps({"api_key": KEY, "download_dir": "down"})
    )
    cells = [nbformat.new_code_cell(text) for text in PAGE.strip().split("\n\n")]

    content = executed(nbformat.new_notebook(cells=cells))

    assert [one for one in content.cells if "error" in str(one.outputs)] == []
    assert len(list((tmp_path / "work" / "queued").glob("*.zip"))) == 5
    assert (tmp_path / "work" / "my_item.zip").is_file()
    assert "5 of 5 done" in outputs(content)
