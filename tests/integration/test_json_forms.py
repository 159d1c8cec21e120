"""What commands print as JSON and what hooks receive is what docs/schema says, to the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.integration.test_cli import CommandLine, one_object, write_items
from tests.integration.test_steering_command import command
from tests.schemas import check_form
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


@pytest.fixture
def cli(standin: StandIn) -> CommandLine:
    """Give the command line."""
    return CommandLine(standin)


@pytest.mark.slow
def test_forms_of_one_machine(standin: StandIn, cli: CommandLine) -> None:
    """A run with a good item, one under a licence and one without files: every form of it."""
    good, gone, bare = (standin.add_item(32 * KiB) for _ in range(3))
    standin.fault(gone, "licence_423")
    source = write_items([good, gone, bare | {"assets": {}}])

    plan = one_object(cli("download", source, "-o", "out", "--dry-run", "--json").stdout)
    check_form("plan", plan)
    assert (len(plan["downloads"]), len(plan["refused"])) == (2, 1)

    ended = cli("download", source, "-o", "out", "--json")
    assert ended.returncode == 3
    check_form("status", one_object(ended.stdout))

    status = one_object(cli("status", "-o", "out", "--json").stdout)
    check_form("status", status)
    assert {one["class"] for one in status["failures"]} == {"LicenceError", "NoDataAssetError"}
    check_form("batches", json.loads(cli("batches", "-o", "out", "--json").stdout))

    lines = cli("report", status["batch"], "-o", "out", "--format", "jsonl").stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        check_form("record", json.loads(line))
    report = cli("report", status["batch"], "-o", "out", "--format", "json").stdout
    check_form("report", json.loads(report))

    next(Path("out").glob("*.zip")).write_bytes(b"spoilt")
    verified = cli("verify", "out", "--json")
    assert verified.returncode == 3
    check_form("verify", one_object(verified.stdout))


def test_an_empty_source_has_a_form_too(cli: CommandLine) -> None:
    """A plan of nothing is printed as a plan, and a run of nothing as a batch."""
    for name, words in (("plan", ["--dry-run"]), ("status", [])):
        said = cli("download", "-", "-o", "out", "--json", *words, stdin='{"features": []}')

        assert said.returncode == 4
        check_form(name, one_object(said.stdout))


def test_an_empty_source_has_the_form_of_enqueue(settings: Config) -> None:
    """That of the receipt or, with `--wait`, of the batch."""
    Path("none.json").write_text('{"features": []}')

    receipt, ended = (
        command(settings, "enqueue", "none.json", "--batch", "mine", "--json", *words)
        for words in ((), ("--wait",))
    )

    assert (receipt.returncode, ended.returncode) == (4, 4)
    check_form("receipt", one_object(receipt.stdout))
    check_form("status", one_object(ended.stdout))
    assert one_object(ended.stdout)["batch"] == "mine"


def test_forms_of_the_set_up(cli: CommandLine) -> None:
    """Settings and checks are lists of objects."""
    check_form("config", json.loads(cli("config", "show", "--json").stdout))
    check_form("doctor", json.loads(cli("doctor", "--json").stdout))


def test_forms_of_a_cluster(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """The receipt, a batch under way, and the facts of both hooks."""
    files, over = tmp_path / "files", tmp_path / "over"
    held, good = standin.add_item(32 * KiB), standin.add_item(32 * KiB)
    standin.fault(held, "licence_423")
    source = tmp_path / "items.json"
    source.write_text(json.dumps({"features": [held, good]}))
    # The hook of a batch is not called for batches of the time before it.
    worker(
        env={
            "GEODES_TASKS_ON_FILE": f"""sh -c 'line=$(cat); echo "$line" >> {files}'""",
            "GEODES_TASKS_ON_BATCH": f"""sh -c 'line=$(cat); echo "$line" >> {over}'""",
        }
    )

    receipt = one_object(
        command(settings, "enqueue", str(source), "--batch", "mine", "--json").stdout
    )
    check_form("receipt", receipt)
    assert (receipt["downloads"], receipt["new"]) == (2, 2)

    wait_until(over.exists, 30.0)

    check_form("on-file", one_object(files.read_text()))
    check_form("on-batch", one_object(over.read_text()))
    check_form("watch", one_object(command(settings, "watch", "mine", "--json").stdout))


def test_a_field_that_no_schema_names_is_noticed() -> None:
    """The check of these tests is strict: users' copies of a schema leave room for new fields."""
    finding = {"path": "a.zip", "finding": "missing", "size_bytes": 0, "detail": ""}

    check_form("verify", finding)
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        check_form("verify", finding | {"more": 1})
