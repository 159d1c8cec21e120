"""What people say about accounts, batches and sources, and what the fleet does then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.fault.test_long_queue import request
from tests.integration.test_cli import CommandLine, write_items
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from pathlib import Path

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

WAIT_S = 40.0


@pytest.fixture
def cli(standin: StandIn, settings: Config) -> CommandLine:
    """Give the command line, with the settings that the workers have."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    return cli


# --- pause and resume ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what", ["default", "geodes", "mine"])
def test_what_is_held_starts_nothing(
    cli: CommandLine, standin: StandIn, settings: Config, worker: WorkerFactory, what: str
) -> None:
    """An account, a source or a batch by its name: held before it starts, it ends after resume.

    What another batch has too starts for that one.
    """
    held = [standin.add_item(KiB) for _ in range(3)]
    other = standin.add_item(KiB)
    cli("enqueue", write_items(held[:1]), "--batch", "first")
    batch = enqueue(held, batch="mine", conf=settings)
    paused = cli("pause", what)
    twice = cli("pause", what)
    worker()
    if what == "mine":
        # Others go on, so that it is seen that the worker works.
        assert enqueue(other, batch="other", conf=settings).wait(WAIT_S).states["SUCCESS"] == 1
    status = cli("status", "mine")
    before = [len(standin.downloads(item)) for item in held]

    resumed = cli("resume", what)
    batch.wait(WAIT_S)

    assert (paused.stderr, twice.stderr) == (f"{what}: paused\n", f"{what}: was paused already\n")
    assert before == ([1, 0, 0] if what == "mine" else [0, 0, 0])
    assert "by hand" in status.stdout
    assert resumed.stderr == f"{what}: resumed\n"
    assert [len(standin.downloads(item)) for item in held] == [1, 1, 1]


def test_one_thing_at_a_time_is_held(cli: CommandLine) -> None:
    """Two names in one command are a usage error."""
    said = cli("pause", "one", "--batch", "two")

    assert said.returncode == 2
    assert "name one account, one batch or one source" in said.stderr


# --- fair ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_urgent_items_overtake_a_long_queue(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Ten urgent items are done long before the two hundred that were asked for first."""
    standin.settings.change(latency_s=0.05)
    usual = enqueue([standin.add_item(KiB) for _ in range(200)], batch="usual", conf=settings)
    worker(concurrency=2)
    wait_until(lambda: usual.status().states[State.SUCCESS] >= 5, WAIT_S, "the long queue runs")
    items = [standin.add_item(KiB) for _ in range(10)]

    urgent = enqueue(items, batch="urgent", priority=5, conf=settings)
    done = urgent.wait(WAIT_S)
    left = usual.status().unfinished

    assert done.states[State.SUCCESS] == 10
    assert left > 80
    assert usual.wait(WAIT_S).states[State.SUCCESS] == 200


# --- accounts side by side -----------------------------------------------------------------------


@pytest.mark.slow
def test_accounts_side_by_side(
    cli: CommandLine,
    standin: StandIn,
    settings: Config,
    worker: WorkerFactory,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    """Each batch goes with the key of its account; one refused key holds up its account alone."""
    key_file = tmp_path / "field.key"
    key_file.write_text("key-of-the-field-5678\n")
    key_file.chmod(0o600)
    standin.set_key("standin-key-0123456789", "key-of-the-lab-1234")
    node = worker(
        env={
            "GEODES_API_KEY_LAB": "key-of-the-lab-1234",
            "GEODES_API_KEY_FIELD_FILE": str(key_file),
        }
    )
    ours, labs, fields = (standin.add_item(KiB) for _ in range(3))

    for item, account in ((ours, None), (labs, "lab"), (fields, "field")):
        options = ("--account", account) if account else ()
        cli("enqueue", write_items([item]), "--batch", account or "ours", *options)
    wait_until(
        lambda: ledger.reading.status("field").waiting == {"auth": 1}, WAIT_S, "a refused key"
    )
    wait_until(lambda: not ledger.reading.status("lab").unfinished, WAIT_S, "the lab's file")
    wait_until(lambda: not ledger.reading.status("ours").unfinished, WAIT_S, "our file")
    refused = cli("status", "field")
    key_file.write_text("another-key-of-the-field\n")
    standin.set_key("another-key-of-the-field")
    cli("resume", "field")
    wait_until(lambda: not ledger.reading.status("field").unfinished, WAIT_S, "the field's file")

    keys = {item["id"]: [one.key for one in standin.downloads(item)] for item in (ours, labs)}
    assert keys == {
        ours["id"]: ["standin-key-0123456789"],
        labs["id"]: ["key-of-the-lab-1234"],
    }
    assert "PAUSED" in refused.stdout
    assert "GEODES_API_KEY_FIELD_FILE" in node.text
    assert "...5678," in node.text
    assert "key-of-the-field-5678" not in node.text
    assert ledger.reading.status("field").states[State.SUCCESS] == 1


def test_spellings_of_one_account_share_its_quota(
    cli: CommandLine, standin: StandIn, worker: WorkerFactory, ledger: Ledger
) -> None:
    """However its name is written, an account has one window, one limit and one pause."""
    standin.set_key("key-of-the-team-1234")
    key = {"GEODES_API_KEY_TEAM_A": "key-of-the-team-1234"}
    worker(env=key | {"GEODES_TASKS_QUOTA": "2/hour"})

    for number, name in enumerate(("team-a", "team_a", "TEAM.A")):
        items = write_items([standin.add_item(KiB) for _ in range(2)])
        cli("enqueue", items, "--batch", f"b{number}", "--account", name)
    wait_until(lambda: len(standin.downloads()) == 2, WAIT_S, "the files of the quota")
    limited, paused = cli("limit", "Team-A", "2"), cli("pause", "--account", "TEAM_A")
    again = cli("pause", "--account", "team.a")

    assert ledger.dispatch.accounts() == ["team-a"]
    assert (limited.returncode, paused.stderr) == (0, "TEAM_A: paused\n")
    assert again.stderr == "team.a: was paused already\n"
    assert len(standin.downloads()) == 2


def test_accounts_of_an_older_ledger_are_steered_with_the_new_one(
    cli: CommandLine, settings: Config, ledger: Ledger
) -> None:
    """A ledger with several spellings of one account keeps its records; one pause covers all."""
    for number, name in enumerate(("Team-A", "team_a", "other")):
        ledger.admission.admit(f"b{number}", name, [request(number, "geodes")], lambda _: None)()

    paused = cli("pause", "--account", "team-a")

    assert paused.stderr == "team-a: paused\n"
    accounts = {one.name: one.paused for one in ledger.account.states()}
    assert accounts == {"Team-A": "by hand", "team_a": "by hand", "other": None}


def test_an_account_without_a_key_says_which_variable_to_set(
    cli: CommandLine, standin: StandIn, worker: WorkerFactory, ledger: Ledger
) -> None:
    """No other account's key is used for it."""
    worker()

    cli("enqueue", write_items([standin.add_item(KiB)]), "--batch", "b", "--account", "lab")
    wait_until(lambda: ledger.reading.status("b").waiting == {"auth": 1}, WAIT_S, "a missing key")

    (record,) = ledger.reading.records("b")
    assert record.error is not None
    assert "GEODES_API_KEY_LAB is not set" in record.error.message
    assert standin.downloads() == []


def test_a_name_that_cannot_have_a_key_is_refused(cli: CommandLine, standin: StandIn) -> None:
    """GEODES_API_KEY_FILE names a file, so no account is called file."""
    said = cli("enqueue", write_items([standin.add_item(KiB)]), "--account", "file")

    assert said.returncode == 2
    assert "Choose another name" in said.stderr


def test_doctor_looks_at_every_key(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """Each account's key is tested without a download; a file that others may read is named."""
    loose = tmp_path / "lab.key"
    loose.write_text("wrong-key-of-the-lab")
    loose.chmod(0o644)

    said = cli("doctor", "--json", GEODES_API_KEY_LAB_FILE=str(loose))

    found = {one["name"]: one for one in json.loads(said.stdout)}
    assert found["key"]["level"] == "ok"
    assert found["key of account lab"]["level"] == "problem"
    assert "...-lab" in found["key of account lab"]["text"]
    assert "chmod 600" in found["key file"]["mend"]
    assert standin.downloads() == []
    assert "wrong-key-of-the-lab" not in said.stdout + said.stderr


# --- tape that somebody does not want to wait for ------------------------------------------------


def test_max_wait_ends_the_wait_for_tape(
    cli: CommandLine, standin: StandIn, worker: WorkerFactory
) -> None:
    """Exit code 6 as soon as only files on tape were left for so long; the batch goes on."""
    items = [standin.add_item(KiB) for _ in range(3)]
    standin.fault(items[0], "offline_410")
    worker()

    said = cli("enqueue", write_items(items), "--batch", "b", "--wait", "--max-wait", "1s")
    status = cli("status", "b")

    assert said.returncode == 6, said.stderr
    assert "2 of 3 done" in said.stderr
    assert "on tape" in status.stdout


def test_on_one_machine_max_wait_waits(cli: CommandLine, standin: StandIn) -> None:
    """``download`` ends at once when only the tape is left, and waits when it is told to."""
    item = standin.add_item(KiB)
    standin.fault(item, "offline_410", polls=2)
    source = write_items([item])

    said = cli("download", source, "-o", "out", "--max-wait", "30", "--no-progress")

    assert said.returncode == 0, said.stderr
    assert len(standin.downloads(item)) == 2
