"""``report`` after real downloads: what other programs read, and what people read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
import pytest

from geodes_tasks import enqueue
from geodes_tasks.client.planning import Selection, plan
from geodes_tasks.ledger import Claim, Ledger
from geodes_tasks.monitoring.wording import WAIT_WORDS
from tests.integration.test_cli import write_items
from tests.integration.test_watch import variables
from tests.servers import wait_until
from tests.standin import KiB, digest
from tests.unit.ledger.test_ledger import BATCH, result_of
from tests.unit.monitoring.reports.test_stac_collection import validated

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import Item, StandIn

# Fault of the stand-in -> the class of error by which a file ends, or waits alone.
FILE_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "status_n_times": ({"status": 503}, "ServerError"),
    "204": ({}, "UnexpectedAnswerError"),
    "offline_410": ({}, "OfflineError"),
    "gone_404": ({}, "NotFoundError"),
    "licence_423": ({}, "LicenceError"),
    "bad_key": ({"answer": "403"}, "ForbiddenError"),
    "redirect_loop": ({}, "ForbiddenError"),
    "redirect_other_host": ({"location": "http://10.1.2.3/x"}, "HrefRefusedError"),
    "truncate": ({}, "TruncatedBodyError"),
    "reset": ({}, "TransferError"),
    "corrupt": ({}, "ChecksumMismatchError"),
    "catalogue_mismatch": ({}, "CatalogueMismatchError"),
    "stall": ({}, "StalledError"),
}
# The same for faults by which the whole account waits.
ACCOUNT_FAULTS = {
    "quota403": "QuotaError",
    "429": "ThrottledError",
    "bad_key": "AuthError",
    "redirect_loop": "AuthError",
}


def command(settings: Config, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *words],
        env=os.environ | variables(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def stac_of(said: subprocess.CompletedProcess[str], tmp_path: Path) -> list[pystac.Item]:
    """Read a report as the programs of others do, from a file."""
    collection = pystac.ItemCollection.from_dict(json.loads(said.stdout))
    file = tmp_path / "here.json"
    collection.save_object(str(file))
    assert len(pystac.ItemCollection.from_file(str(file))) == len(collection)
    return validated(json.loads(said.stdout))


def test_stac_of_real_downloads(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """With the items' file the report is valid STAC whose hrefs are the proven files."""
    items = [standin.add_item(64 * KiB) for _ in range(3)]
    source = write_items(items)
    worker()
    enqueue(items, conf=settings, batch="mine").wait(20)

    said = command(settings, "report", "mine", "--format", "stac", "--items", source)

    assert said.returncode == 0, said.stderr
    found = {item.id: next(iter(item.assets.values())) for item in stac_of(said, tmp_path)}
    assert set(found) == {item["id"] for item in items}
    for item in items:
        asset = found[item["id"]]
        assert Path(asset.href).stat().st_size == asset.extra_fields["file:size"]
        assert asset.extra_fields["file:checksum"] == "d50110" + digest(standin.body(item))


@pytest.mark.slow
def test_stac_without_the_items_says_what_it_lacks(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Where neither ledger nor file knows place and time, the item is left out and named."""
    item = standin.add_item(64 * KiB)
    worker()
    batch = enqueue(item, conf=settings, batch="mine")
    batch.wait(20)
    forget_footprints(settings)

    said = command(settings, "report", "mine", "--format", "stac")

    assert json.loads(said.stdout)["features"] == []
    assert (
        f"1 item left out, the first is {item['id']}: the ledger has no place and time of them"
        in said.stderr
    )


def forget_footprints(settings: Config) -> None:
    """Take away what admission kept of the items."""
    ledger = Ledger.of(settings)
    for name in ledger.reading.downloads("mine"):
        ledger.connection.client.hdel(ledger.connection.key("download", name), "footprint")
    ledger.connection.client.close()


@pytest.mark.slow
def test_stac_from_the_ledger_alone(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """The ledger itself knows place and time of each item: the report needs no other file."""
    items = [standin.add_item(64 * KiB) for _ in range(3)]
    worker()
    enqueue(items, conf=settings, batch="mine").wait(20)

    said = command(settings, "report", "mine", "--format", "stac")

    assert [item.id for item in stac_of(said, tmp_path)] == [item["id"] for item in items]


def test_the_ledger_stays_small(standin: StandIn, ledger: Ledger) -> None:
    """All that the ledger keeps of a finished download, place and time too, is some 3 KiB."""

    def finish(items: list[Any]) -> int:
        for planned in plan(items, Selection(Path("/shared/downloads"))):
            ledger.admission.admit(BATCH, "default", planned.requests, lambda _: None)()
        worker, claims = "worker@node17.cluster.example", 0
        for identifier in ledger.reading.downloads(BATCH):
            claim = ledger.leases.claim(identifier, worker)
            if isinstance(claim, Claim):
                claims += 1
                ledger.leases.finish(claim, result_of(claim))
        assert claims == len(items)
        return int(ledger.connection.client.info("memory")["used_memory"])

    first, second = ([standin.add_item(64 * KiB) for _ in range(300)] for _ in range(2))
    # The first downloads also grow the memory of Lua, once and by chance: 0.2 to 1 MB, measured.
    before = finish(first)
    used = finish(second) - before

    # Allocators differ; measured 2.3 to 3.0 KiB with jemalloc.
    assert used / len(second) < 3.6 * KiB


@pytest.mark.slow
def test_summary_names_every_failure_of_a_file(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Whatever goes wrong with files, the summary has its class, one example and the way out."""
    items = [standin.add_item(256 * KiB) for _ in FILE_FAULTS]
    for item, (fault, (options, _)) in zip(items, FILE_FAULTS.items(), strict=True):
        standin.fault(item, fault, **options)
    hasty = {"max_attempts": 2, "stall_seconds": 1.0, "offline_poll_seconds": 5.0}
    worker(settings=settings.replace(**hasty), concurrency=4)
    batch = enqueue(items, conf=settings, batch="mine")
    wait_until(lambda: batch.status().unfinished == 1 == len(batch.status().waiting), 40.0)

    page = command(settings, "report", "mine", "--format", "markdown").stdout

    kinds = [kind for _, kind in FILE_FAULTS.values()]
    for item, kind in zip(items, kinds, strict=True):
        if kind == "OfflineError":
            assert "### 1 x on tape" in page
            continue
        count = kinds.count(kind)
        group = page.split(f"### {count} x {kind}\n", 1)[1].split("###", 1)[0]
        assert count > 1 or f"- For example: {item['id']}\n" in group
        assert "- What to do: " in group
        assert f"`geodes-tasks retry mine --class {kind}`" in group


@pytest.mark.parametrize("fault", ACCOUNT_FAULTS)
def test_summary_names_what_holds_the_account(
    standin: StandIn, settings: Config, worker: WorkerFactory, fault: str
) -> None:
    """When the account waits, the summary says for what, and what to do."""
    item: Item = standin.add_item(64 * KiB)
    # For every file: a key that is refused for one alone is none that is refused.
    standin.fault(None, fault, **({"seconds": 100} if fault == "429" else {}))
    worker()
    batch = enqueue(item, conf=settings, batch="mine")
    wait_until(lambda: batch.status().waiting, 20.0)
    (record,) = batch.results()

    page = command(settings, "report", "mine", "--format", "markdown").stdout

    assert record.error is not None
    assert record.error.type == ACCOUNT_FAULTS[fault]
    assert f"### 1 x {WAIT_WORDS[record.reason or '']}\n" in page
    assert item["id"] in page
    assert "- What to do: " in page
