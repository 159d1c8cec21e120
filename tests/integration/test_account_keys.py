"""A refused key: the whole fleet stops at once, keeps its queue, and goes on with the new key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks import config, enqueue
from geodes_tasks.states import State
from tests.conftest import KEY
from tests.integration.fleet import fleet, refused
from tests.integration.test_cli import CommandLine
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from pathlib import Path

    from geodes_tasks.config import Settings
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

WAIT_S = 60.0
PLACES = 4


@pytest.mark.parametrize("how", ["403", "loop"])
def test_a_replaced_key_lets_the_fleet_go_on(
    standin: StandIn, settings: Settings, worker: WorkerFactory, tmp_path: Path, how: str
) -> None:
    """Refused in the middle: what runs finds out, nothing more starts, no item fails for it."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o644)
    settings = settings.model_copy(update={"api_key": None, "api_key_file": key_file})
    standin.settings.change(bad_key=how, latency_s=0.05)
    standin.fault(None, "key_revoked_midway", downloads=10, answer=how)
    nodes = fleet(worker, settings)
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    cli.settings.pop("GEODES_API_KEY")

    batch = enqueue([standin.add_item(KiB) for _ in range(40)], batch="b", settings=settings)
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
    assert resumed.stderr == "default: goes on\n"
    assert after.states[State.SUCCESS] == 40
    assert {one.attempts for one in batch.results()} == {1}
