"""Enqueue from Python against real workers: what a script, a notebook or a service calls."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pystac
import pytest

from geodes_tasks import Batch, batch, batches, enqueue
from geodes_tasks.errors import (
    ConfigError,
    LedgerUnavailableError,
    UnknownBatchError,
    UnknownDownloadError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings.secret import Secret
from tests.integration.test_cli import file_of, write_items, wrong_files
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

WAIT_S = 30.0
IMPORT_S = 0.5

IMPORTING = """
import sys, time
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
begun = time.process_time()
import geodes_tasks
seconds = time.process_time() - begun
from geodes_tasks import Batch, Config, enqueue
import json
import os
print(json.dumps({"seconds": seconds, "opened": opened}))
"""


@pytest.mark.slow
def test_importing_opens_nothing_and_is_quick() -> None:
    """``import geodes_tasks`` takes under half a second, and no socket is opened by any of it."""
    said = subprocess.run(
        [sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=True
    )

    found = json.loads(said.stdout)
    assert found["opened"] == []
    assert found["seconds"] < IMPORT_S


def test_items_of_every_kind(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """Dicts, pystac Items, a file's name and collections of them are all items."""
    items = [standin.add_item(32 * KiB) for _ in range(4)]
    name = write_items(items[3:], str(tmp_path / "items.json"))
    worker()

    batch = enqueue([items[0], pystac_item(items[1]), [items[2]], name], conf=settings)
    status = batch.wait(WAIT_S)

    assert status.outcomes == {"DOWNLOADED": 4, "RESUMED": 0, "ALREADY_PRESENT": 0}
    assert wrong_files(standin, items, str(settings.download_dir)) == []


def pystac_item(item: dict[str, object]) -> pystac.Item:
    """Read an item with pystac, which takes the final version of the standard only."""
    return pystac.Item.from_dict(item | {"stac_version": "1.0.0", "stac_extensions": []})


def test_results_tell_the_whole_story(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Each download has its record, in the order of the items; what failed has a named error."""
    good, bad = standin.add_item(32 * KiB), standin.add_item(data=False)
    worker()

    batch = enqueue([good, bad], batch="mine", conf=settings)
    batch.wait(WAIT_S)

    failed, done = sorted(batch.results(), key=lambda record: record.state)
    assert batch.id == "mine"
    assert (done.state, done.outcome, done.verified) == (State.SUCCESS, Outcome.DOWNLOADED, True)
    assert (done.item_id, done.collection) == (good["id"], good["collection"])
    assert done.path == str(file_of(good, str(settings.download_dir)))
    assert (done.size_bytes, done.bytes_transferred, done.attempts) == (32 * KiB, 32 * KiB, 1)
    assert done.checksum == f"md5:{standin.body(good).md5}"
    assert (done.source, done.error) == ("geodes", None)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.started_at <= done.finished_at
    assert failed.error is not None
    assert (failed.state, failed.error.type) == (State.FAILURE, "NoDataAssetError")


def test_a_running_event_loop_is_no_obstacle(standin: StandIn, settings: Config) -> None:
    """A notebook has an event loop of its own; enqueueing in it works as anywhere else."""
    item = standin.add_item(KiB)

    async def cell() -> Batch:
        return enqueue(item, conf=settings)

    assert asyncio.run(cell()).status().states["PENDING"] == 1


def test_settings_come_from_the_environment(
    standin: StandIn, settings: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without arguments the queue and the folder are what the environment names."""
    monkeypatch.setenv("GEODES_TASKS_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_DIR", "here")
    item = standin.add_item(KiB)

    (record,) = enqueue(item).results()

    assert record.path == str(tmp_path / file_of(item, "here"))


def test_waiting_has_an_end(standin: StandIn, settings: Config) -> None:
    """Nobody works: waiting ends at its timeout, says how much is left, and cancels nothing."""
    batch = enqueue(standin.add_item(KiB), conf=settings)

    with pytest.raises(TimeoutError, match=r"1 of 1 download unfinished after 0\.2 s"):
        batch.wait(timeout=0.2)

    assert batch.status().unfinished == 1


def test_no_redis_is_one_clear_error(standin: StandIn, settings: Config) -> None:
    """When Redis does not answer, the error says where it was sought."""
    nowhere = settings.replace(redis_url=Secret("redis://:pw@127.0.0.1:1/0"))
    item = standin.add_item(KiB)

    with pytest.raises(
        LedgerUnavailableError, match=r"no answer from Redis at redis://:\*\*\*@127.0.0.1:1/0"
    ):
        enqueue(item, conf=nowhere)


def test_a_layout_that_cannot_be_used(standin: StandIn, settings: Config) -> None:
    """A layout that no item could fill is refused before anything is queued."""
    item = standin.add_item(KiB)

    with pytest.raises(ConfigError, match=r"layout: .* must name a path inside"):
        enqueue(item, layout="../{title}", batch="never", conf=settings)

    assert Ledger.of(settings).reading.batches() == []


def test_a_layout_field_that_an_item_lacks(standin: StandIn, settings: Config) -> None:
    """A field of no item is an error before anything is queued, that of some fails the others."""
    plain, coloured = standin.add_item(KiB), standin.add_item(KiB)
    coloured["properties"]["colour"] = "green"

    with pytest.raises(ConfigError, match=r"layout: unknown field \{colour\}"):
        enqueue(plain, layout="{colour}/{title}", batch="never", conf=settings)
    batches = Ledger.of(settings).reading.batches()
    both = enqueue([coloured, plain], layout="{colour}/{title}", conf=settings).results()
    failed, done = sorted(both, key=lambda record: record.state)

    assert batches == []
    assert failed.error is not None
    assert (done.state, failed.state) == (State.PENDING, State.FAILURE)
    assert "unknown field {colour}" in failed.error.message


def test_an_unknown_batch(ledger: Ledger) -> None:
    """A batch that nobody asked for is an error, not an empty success."""
    batch = Batch("nobody-asked", ledger)

    with pytest.raises(UnknownBatchError, match="'nobody-asked' is not in the ledger"):
        batch.status()


def test_a_batch_is_opened_again_in_another_process(standin: StandIn, settings: Config) -> None:
    """``batch(name)`` and ``batches()`` find a batch that another process enqueued."""
    first = enqueue([standin.add_item(KiB)], batch="first", conf=settings)
    enqueue([standin.add_item(KiB) for _ in range(2)], batch="second", conf=settings)
    code = (
        "from geodes_tasks import batch, batches\n"
        "print(*(one.id for one in batches()), batch('second').status().total)"
    )
    url = str(settings.redis_url)

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"GEODES_TASKS_REDIS_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["second", "first", "2"]
    assert batch("first", conf=settings).status() == first.status()


def test_a_misspelt_batch_is_not_opened(standin: StandIn, settings: Config) -> None:
    """A wrong name is an error at once that names the nearest; without a Redis so is any name."""
    enqueue([standin.add_item(KiB)], batch="april", conf=settings)
    nowhere = settings.replace(redis_url=Secret("redis://127.0.0.1:1/0"))

    with pytest.raises(UnknownBatchError, match="aprill"):
        batch("aprill", conf=settings)
    with pytest.raises(LedgerUnavailableError, match="no answer"):
        batches(conf=nowhere)


def test_a_batch_is_steered_by_its_handle(standin: StandIn, settings: Config) -> None:
    """Cancel one item, retry it, pause and resume: each tells its effect, twice is once."""
    items = [standin.add_item(KiB) for _ in range(2)]
    mine = enqueue(items, batch="mine", conf=settings)
    first = str(items[0]["id"])

    cancelled = [str(mine.cancel(items=[first])) for _ in range(2)]
    revoked = mine.status().states[State.REVOKED]
    begun = [mine.retry(items=[first]) for _ in range(2)]
    paused = [mine.pause(), mine.pause()]
    pauses = set(Ledger.of(settings).control.pauses())
    resumed = [mine.resume(), mine.resume()]

    assert cancelled == ["1 download cancelled", "0 downloads cancelled"]
    assert (revoked, begun[0]) == (1, 1)
    assert mine.status().states[State.PENDING] == 2
    assert (paused, resumed) == ([True, False], [True, False])
    assert pauses == {("batch", "mine")}
    assert set(Ledger.of(settings).control.pauses()) == set()


def test_a_batch_retries_one_class_of_errors(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Only failures of the named class start again; an unknown item changes nothing."""
    item = standin.add_item(KiB)
    standin.fault(item, "gone_404")
    worker()
    mine = enqueue(item, conf=settings)
    mine.wait(WAIT_S)
    standin.clear_faults(item)

    with pytest.raises(UnknownDownloadError, match="nowhere"):
        mine.retry(items=["nowhere"])
    with pytest.raises(ConfigError, match="not both"):
        mine.retry(classes=["NotFoundError"], items=[str(item["id"])])
    with pytest.raises(TypeError, match="classes is a list"):
        mine.retry(classes="NotFoundError")
    with pytest.raises(ConfigError, match="no error has the class 'NotFoundErr'") as caught:
        mine.retry(classes=["NotFoundErr"])
    others = mine.retry(classes=["LicenceError"])
    begun = mine.retry(classes=["NotFoundError"])

    assert caught.value.hint == "Try: NotFoundError."
    assert (others, begun) == (0, 1)
    assert mine.wait(WAIT_S).states[State.SUCCESS] == 1
