"""A worker writes below its roots only, and `enqueue` says at once what no worker may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks import enqueue
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import WorkerFactory
from tests.servers import wait_until
from tests.standin import KiB, StandIn


def ready(settings: Config, worker: WorkerFactory) -> Ledger:
    """Start a worker, and wait until it has published its folders."""
    worker(settings=settings)
    ledger = Ledger.of(settings)
    wait_until(lambda: ledger.dispatch.published("folders"), 20, "the folders of the worker")
    return ledger


def test_without_roots_a_worker_writes_below_its_download_dir(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """The safe default: what a record names outside of it is refused by the worker itself."""
    outside, inside = tmp_path / "outside", Path(settings.download_dir) / "below"
    # Enqueued before any worker lives: the client cannot know.
    refused = enqueue([standin.add_item(KiB)], download_dir=outside, conf=settings)

    ready(settings, worker)
    taken = enqueue([standin.add_item(KiB)], download_dir=inside, conf=settings)

    assert taken.wait(30).states["SUCCESS"] == 1
    refused.wait(30)
    (record,) = refused.results()
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "OutsideRootsError"
    assert not outside.exists()


@pytest.mark.slow
def test_each_worker_takes_what_is_below_its_folders(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """Two workers with different folders fetch everything: a claim by the wrong one waits."""
    roots = (tmp_path / "a", tmp_path / "b")
    for name, root in zip("ab", roots, strict=True):
        worker(name, settings=settings.replace(download_roots=(root,)))
    ledger = Ledger.of(settings)
    wait_until(lambda: len(ledger.dispatch.published("folders")) == 2, 20, "both workers")

    batches = [
        enqueue([standin.add_item(KiB) for _ in range(6)], download_dir=root, conf=settings)
        for root in roots
    ]

    assert [batch.wait(120).states["SUCCESS"] for batch in batches] == [6, 6]
    assert sum(len(one.history) > 1 for batch in batches for one in batch.results()) > 0


def test_enqueue_refuses_what_no_worker_may_write(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """The error names the folder, the workers' folders and the setting; nothing is enqueued."""
    roots = (tmp_path / "a", tmp_path / "b")
    ledger = ready(settings.replace(download_roots=roots), worker)
    item = standin.add_item(KiB)

    with pytest.raises(ConfigError, match=r"no worker may write into .*/c: they write") as caught:
        enqueue([item], download_dir=tmp_path / "c", conf=settings)

    text = str(caught.value)
    assert "GEODES_TASKS_DOWNLOAD_ROOTS" in text
    assert str(roots[0]) in text
    assert str(roots[1]) in text
    assert ledger.reading.batches() == []
    assert enqueue([item], download_dir=roots[1] / "x", conf=settings).wait(30).unfinished == 0


def test_the_command_ends_with_2(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """On the command line it is an error of usage, in one block without a traceback."""
    ready(settings, worker)
    standin.add_item(KiB)
    items = tmp_path / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": standin.items}))
    command = [sys.executable, "-m", "geodes_tasks", "enqueue", str(items), "-o", "/nowhere"]

    done = subprocess.run(
        command, env=os.environ | config.environment(settings), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2, done.stderr
    assert "no worker may write into /nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_reached_by_a_link_is_taken(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """One of the two spellings of a folder is enough for the client."""
    ready(settings, worker)
    link = tmp_path / "link"
    Path(settings.download_dir).mkdir(parents=True, exist_ok=True)
    link.symlink_to(settings.download_dir)

    batch = enqueue([standin.add_item(KiB)], download_dir=link, conf=settings)

    assert batch.wait(30).states["SUCCESS"] == 1
