"""Hooks of a real worker: told of each file and each batch, and harmless when they are wrong."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from geodes_tasks import enqueue
from tests.conftest import require_server
from tests.integration.test_cli import CommandLine, write_items
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


def test_worker_tells_files_and_batches(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """Each proven file is told with its facts, and the batch once when it is over."""
    files, over = tmp_path / "files", tmp_path / "over"
    worker(
        env={
            # One write a line: hooks of several files run at once.
            "GEODES_TASKS_ON_FILE": f"""sh -c 'line=$(cat); echo "$line" >> {files}'""",
            "GEODES_TASKS_ON_BATCH": f"sh -c 'echo {{batch}} {{done}} >> {over}'",
        }
    )

    items = [standin.add_item(64 * KiB) for _ in range(3)]
    enqueue(items, conf=settings, batch="mine").wait(20)
    wait_until(over.exists, 10.0)

    told = [json.loads(line) for line in files.read_text().splitlines()]
    assert {one["item"] for one in told} == {item["id"] for item in items}
    assert over.read_text() == "mine 3\n"


def test_hook_that_fails_harms_nothing(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """A hook that does not exist costs no download and no attempt."""
    worker(env={"GEODES_TASKS_ON_FILE": "/no/such/command {path}"})
    batch = enqueue([standin.add_item(64 * KiB) for _ in range(3)], conf=settings)

    status = batch.wait(20)

    assert status.outcomes["DOWNLOADED"] == 3
    assert [record.attempts for record in batch.results()] == [1, 1, 1]


def test_one_machine_ends_after_its_hooks(standin: StandIn, tmp_path: Path) -> None:
    """A run waits for slow hooks of its last files, and reports its batch before it ends."""
    require_server()
    items = write_items([standin.add_item(64 * KiB) for _ in range(6)])
    files, over = tmp_path / "files", tmp_path / "over"
    hooks = {
        "GEODES_TASKS_ON_FILE": f"sh -c 'sleep 0.5; echo {{title}} >> {files}'",
        "GEODES_TASKS_ON_BATCH": f"sh -c 'echo {{total}} {{done}} >> {over}'",
    }
    download = partial(CommandLine(standin), "download", items, "-o", "out", **hooks)

    assert download().returncode == 0
    assert len(set(files.read_text().splitlines())) == 6
    assert over.read_text() == "6 6\n"

    # All files are present: no worker starts.
    assert download().returncode == 0
    assert len(files.read_text().splitlines()) == 6
    assert over.read_text() == "6 6\n6 6\n"
