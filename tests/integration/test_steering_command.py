"""``retry``, ``cancel`` and ``forget`` beside real workers; each is safe to say twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import config, enqueue
from geodes_tasks.states import State
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.config import Settings
    from geodes_tasks.ledger import Ledger
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

Said = subprocess.CompletedProcess[str]


def command(settings: Settings, *words: str) -> Said:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *words], capture_output=True, text=True,
        env=os.environ | config.environment(settings), timeout=60, check=False,
    )  # fmt: skip


def records(ledger: Ledger) -> int:
    """Count the records that Redis holds."""
    return len(ledger.client.keys(ledger.key("download", "*")))


def test_retry_by_item_and_by_class(
    standin: StandIn, settings: Settings, worker: WorkerFactory
) -> None:
    """Only what is named begins anew: an item, a file name, a class of errors."""
    items = [standin.add_item(KiB) for _ in range(4)]
    for item in items[:3]:
        standin.fault(item, "gone_404")
    standin.fault(items[3], "licence_423")
    worker()
    batch = enqueue(items, settings=settings, batch="mine")
    batch.wait(30)
    names = [Path(record.path).name for record in batch.results()]
    for item in items:
        standin.clear_faults(item)

    by_item = command(settings, "retry", "mine", items[0]["id"], names[1])
    wait_until(lambda: batch.status().states[State.SUCCESS] == 2, 20.0)
    by_class = command(settings, "retry", "mine", "--class", "LicenceError")
    wait_until(lambda: batch.status().states[State.SUCCESS] == 3, 20.0)
    again = command(settings, "retry", "mine", items[0]["id"])
    rest = command(settings, "retry", "mine", "--failed")
    ended = batch.wait(20)

    assert by_item.stderr == "2 downloads begin anew\n"
    assert by_class.stderr == "1 downloads begin anew\n"
    assert again.stderr == "0 downloads begin anew\n"
    assert rest.stderr == "1 downloads begin anew\n"
    assert ended.states[State.SUCCESS] == 4


def test_cancel_spares_what_another_batch_asks_for(
    standin: StandIn, settings: Settings, ledger: Ledger
) -> None:
    """Two people asked for one file; one changes their mind."""
    items = [standin.add_item(KiB) for _ in range(2)]
    other = enqueue(items[:1], settings=settings, batch="other")
    enqueue(items, settings=settings, batch="mine")

    said = command(settings, "cancel", "mine").stderr

    assert said == "1 downloads are cancelled, 1 go on as another batch asks for them\n"
    assert [record.state for record in other.results()] == [State.PENDING]


def test_cancel_some_of_a_batch(standin: StandIn, settings: Settings, ledger: Ledger) -> None:
    """What is named is cancelled, once; the rest stays queued."""
    items = [standin.add_item(KiB) for _ in range(3)]
    batch = enqueue(items, settings=settings, batch="mine")

    said = [command(settings, "cancel", "mine", items[1]["id"]).stderr for _ in range(2)]

    assert said == ["1 downloads are cancelled\n", "0 downloads are cancelled\n"]
    assert [record.state for record in batch.results()] == [
        State.PENDING,
        State.REVOKED,
        State.PENDING,
    ]


@pytest.mark.parametrize("word", ["retry", "cancel"])
def test_a_name_that_is_not_there(standin: StandIn, settings: Settings, word: str) -> None:
    """A slip of the keyboard changes nothing and is named."""
    item = standin.add_item(KiB)
    batch = enqueue(item, settings=settings, batch="mine")

    said = command(settings, word, "mine", item["id"], "nope.zip")

    assert said.returncode == 1
    assert said.stderr.startswith("error: batch 'mine' has no download of 'nope.zip'. Give the id")
    assert batch.status().states[State.PENDING] == 1


def test_forget_a_finished_batch(
    standin: StandIn, settings: Settings, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Records go, files stay; said again it changes nothing; asked for again, all is there."""
    items = [standin.add_item(64 * KiB) for _ in range(5)]
    worker()
    batch = enqueue(items, settings=settings, batch="mine")
    batch.wait(30)
    paths = [Path(record.path) for record in batch.results()]

    first, second = (command(settings, "forget", "mine") for _ in range(2))
    between = records(ledger)
    fetched = len(standin.downloads())
    again = enqueue(items, settings=settings, batch="again").wait(30)

    assert (first.returncode, first.stderr) == (0, "mine: forgotten with 5 records\n")
    assert (second.returncode, second.stderr) == (
        0,
        "mine: not in the ledger, or forgotten before\n",
    )
    assert between == 0
    assert all(path.is_file() for path in paths)
    assert again.outcomes["ALREADY_PRESENT"] == 5
    assert len(standin.downloads()) == fetched


def test_forget_an_unfinished_batch(
    standin: StandIn, settings: Settings, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Unfinished it is kept; by force what runs is stopped, and a worker removes what is left."""
    standin.settings.rate = 50 * KiB
    slow, shared = standin.add_item(4096 * KiB), standin.add_item(4096 * KiB)
    batch = enqueue([slow, shared], settings=settings, batch="mine")
    other = enqueue(shared, settings=settings, batch="other")
    worker()
    wait_until(lambda: batch.status().states[State.STARTED] == 2, 20.0)

    kept = command(settings, "forget", "mine")
    forced = command(settings, "forget", "mine", "--force")
    wait_until(lambda: records(ledger) == 1, 20.0)

    assert kept.returncode == 1
    assert "batch 'mine' is kept: 2 downloads are unfinished" in kept.stderr
    assert forced.returncode == 0
    assert "mine: forgotten with" in forced.stderr
    assert other.status().states[State.STARTED] == 1
    assert [path.name for path in Path(settings.download_dir).rglob("*.part")] != []


def test_forget_by_age(standin: StandIn, settings: Settings, ledger: Ledger) -> None:
    """``--older-than`` takes the old ones, keeps the young and the unfinished, and says so."""
    for name in ("old", "busy", "young"):
        batch = enqueue(standin.add_item(KiB), settings=settings, batch=name)
        if name != "busy":
            ledger.cancel(ledger.downloads(batch.id))
    month = 31 * 86400.0
    for name in ("old", "busy"):
        ledger.client.zincrby(ledger.key("batches"), -month, name)

    said = command(settings, "forget", "--older-than", "30d")

    assert said.returncode == 1
    assert "old: forgotten with 1 records\n" in said.stderr
    assert "batch 'busy' is kept: 1 downloads are unfinished" in said.stderr
    assert set(ledger.batches()) == {"busy", "young"}


@pytest.mark.parametrize(
    "words", [(), ("mine", "--older-than", "1d"), ("--older-than", "soon")], ids=" ".join
)
def test_forget_wants_to_know_what(settings: Settings, words: tuple[str, ...]) -> None:
    """Nothing is forgotten by default, nor where the words can be read in two ways."""
    said = command(settings, "forget", *words)

    assert said.returncode == 2
    assert said.stderr.startswith("error: ")
