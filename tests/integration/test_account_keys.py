"""A refused key stops the whole fleet, which keeps its queue; a forbidden file stops nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.transports.http.key_check import KNOWN_SECONDS
from tests.conftest import KEY
from tests.integration.fleet import fleet, refused
from tests.integration.test_cli import CommandLine
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from pathlib import Path

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

WAIT_S = 60.0
PLACES = 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["403", "loop"])
def test_a_replaced_key_lets_the_fleet_go_on(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path, how: str
) -> None:
    """Refused in the middle: what runs finds out, nothing more starts, no item fails for it."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o644)
    settings = settings.replace(api_key=None, api_key_file=key_file)
    standin.settings.change(bad_key=how, latency_s=0.05)
    standin.fault(None, "key_revoked_midway", downloads=10, answer=how)
    nodes = fleet(worker, settings)
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    cli.settings.pop("GEODES_API_KEY")

    batch = enqueue([standin.add_item(KiB) for _ in range(40)], batch="b", conf=settings)
    wait_until(lambda: batch.status().waiting.get("auth"), WAIT_S, "the key is refused")
    wait_until(lambda: not batch.status().states[State.STARTED], WAIT_S, "what ran has ended")
    wasted, before = len(refused(standin)), batch.status()
    told = cli("status", "b")
    standin.set_key("the-new-key-0815")
    standin.clear_faults()
    key_file.write_text("the-new-key-0815\n")
    resumed = cli("resume")
    after = batch.wait(WAIT_S)

    text = "".join(node.text for node in nodes)
    assert wasted <= PLACES
    assert before.states[State.FAILURE] == 0
    assert before.unfinished == 40 - before.states[State.SUCCESS]
    assert "PAUSED" in told.stdout
    assert "GEODES_API_KEY_FILE" in told.stdout + text
    assert f"ending in ...{KEY[-4:]}," in text
    assert KEY not in text + told.stdout
    assert f"chmod 600 {key_file}" in text
    assert resumed.stderr == "default: resumed\n"
    assert after.states[State.SUCCESS] == 40
    assert {one.attempts for one in batch.results()} == {1}


@pytest.mark.parametrize("how", ["401", "403", "login", "loop"])
@pytest.mark.parametrize("slots", [1, 4])
def test_a_forbidden_file_stops_no_other(
    standin: StandIn, settings: Config, worker: WorkerFactory, how: str, slots: int
) -> None:
    """The key is good for the others: that one fails with an error of its own, at its first try."""
    items = [standin.add_item(KiB) for _ in range(10)]
    standin.fault(items[0], "bad_key", answer=how)
    node = worker(concurrency=slots)

    batch = enqueue(items, batch="b", conf=settings)
    status = batch.wait(WAIT_S)

    (failed,) = [one for one in batch.results() if one.state is State.FAILURE]
    assert status.states[State.SUCCESS] == 9
    assert failed.item_id == items[0]["id"]
    assert failed.error is not None
    assert failed.error.type == "ForbiddenError"
    assert "no right to this file" in failed.error.message
    assert "retry" in failed.error.hint
    assert len(standin.downloads(items[0])) == 1
    assert KEY not in node.text + failed.error.message


def test_many_forbidden_files_ask_few_questions(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Eighty in a row fail by name; what the portal said of the key counts for some seconds."""
    forbidden = [standin.add_item(KiB) for _ in range(80)]
    for item in forbidden:
        standin.fault(item, "bad_key", answer="403")
    worker(concurrency=4)

    batch = enqueue([*forbidden, standin.add_item(KiB)], batch="b", conf=settings)
    began = time.monotonic()
    status = batch.wait(WAIT_S)
    seconds = time.monotonic() - began

    (account,) = ledger.account.states()
    asked = sum(one.route == "quota" for one in standin.requests)
    assert (status.states[State.FAILURE], status.states[State.SUCCESS]) == (80, 1)
    assert {one.error.type for one in batch.results() if one.error} == {"ForbiddenError"}
    assert account.paused is None
    # One of them is the worker's own, to show what is left.
    assert 1 <= asked <= 3 + seconds / KNOWN_SECONDS


def test_a_bad_key_pauses_the_account_once(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """All that run are refused at one moment: one pause, which names the key, and no failure."""
    standin.set_key("another-key")
    standin.settings.change(bad_key="403", latency_s=0.2)
    worker(concurrency=PLACES)

    batch = enqueue([standin.add_item(KiB) for _ in range(20)], batch="b", conf=settings)
    wait_until(lambda: batch.status().waiting.get("auth"), WAIT_S, "the key is refused")
    wait_until(lambda: not batch.status().states[State.STARTED], WAIT_S, "what ran has ended")

    (account,) = ledger.account.states()
    assert batch.status().unfinished == 20
    assert account.paused is not None
    assert f"ending in ...{KEY[-4:]}, was refused" in account.paused
    assert account.paused_until is None
    assert 1 <= len(standin.downloads()) <= PLACES


def test_without_the_question_a_file_given_since_tells(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """A portal that does not say the quota: others that began later came, so the key is good."""
    standin.settings.quota_status = 404
    slow = standin.add_item(KiB)
    standin.fault(slow, "bad_key", answer="403")
    standin.fault(slow, "slow_headers", seconds=2.0)
    others = [standin.add_item(KiB) for _ in range(6)]
    worker(concurrency=2)

    batch = enqueue([slow, *others], batch="b", conf=settings)
    status = batch.wait(WAIT_S)

    (account,) = ledger.account.states()
    assert (status.states[State.SUCCESS], status.states[State.FAILURE]) == (6, 1)
    assert account.paused is None
