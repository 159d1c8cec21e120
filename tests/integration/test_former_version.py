"""Ledgers that version 0.1.0 wrote: its wheel is built from its commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.former import former_version
from tests.integration.test_cli import CommandLine, file_of, files_in, write_items, wrong_files
from tests.servers import ServerError, wait_until
from tests.standin import RangeBehaviour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

MiB = 1 << 20
WAIT_S = 60.0


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the folder of the former version, for ``PYTHONPATH``."""
    return former_version(tmp_path_factory.mktemp("former"))


@pytest.fixture
def cli(standin: StandIn) -> Iterator[CommandLine]:
    """Give the command line against the stand-in."""
    cli = CommandLine(standin)
    yield cli
    cli.close()


@pytest.mark.slow
def test_a_private_ledger_of_the_former_version_is_moved_aside(
    cli: CommandLine, standin: StandIn, former: str, tmp_path: Path
) -> None:
    """One file done and one interrupted by 0.1.0: hashed once and continued, in one line."""
    done, begun = standin.add_item(MiB), standin.add_item(4 * MiB)
    standin.settings.range = RangeBehaviour.GOOD
    standin.settings.rate = 2 * MiB
    first = cli("download", write_items([done]), "-o", "out", PYTHONPATH=former)
    process = cli.begin(
        "download", write_items([done, begun]), "-o", "out",
        PYTHONPATH=former, GEODES_TASKS_GRACE_SECONDS="0",
    )  # fmt: skip
    wait_until(lambda: parts_size() > MiB, WAIT_S, "a part of the second file is there")
    process.terminate()
    process.communicate(timeout=WAIT_S)
    standin.settings.rate = None

    again = cli("download", "items.json", "-o", "out")
    once_more = cli("download", "items.json", "-o", "out")

    assert first.returncode == 0, first.stderr
    assert again.returncode == once_more.returncode == 0, again.stderr
    assert again.stderr.count("schema 1, this version reads 2") == 1
    assert "schema 1" not in once_more.stderr
    assert len(list(tmp_path.glob("state/*/schema-1-*/appendonly*"))) == 1
    assert wrong_files(standin, [done, begun]) == []
    assert files_in("out") == {file_of(one).name for one in (done, begun)}
    assert len(standin.downloads(done)) == 1
    assert standin.downloads(begun)[-1].bytes_sent < 4 * MiB


def parts_size() -> int:
    """Return the bytes in the largest part file."""
    found = [path.stat().st_size for path in Path("out").rglob(".geodes-tasks/*.part")]
    return max(found, default=0)


@pytest.mark.slow
def test_a_cluster_with_unfinished_downloads_of_the_former_version_is_refused(
    standin: StandIn, settings: Config, ledger: Ledger, worker: WorkerFactory, former: str
) -> None:
    """The client and the worker say what to do; forgotten with 0.1.0, the ledger is taken over."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    source = write_items([standin.add_item(MiB)])
    asked = cli("enqueue", source, "--batch", "old", PYTHONPATH=former)

    refused = cli("enqueue", source, "--batch", "new")
    with pytest.raises(ServerError, match=r"geodes-tasks 0\.1\.0"):
        worker("refused")
    schema = ledger.connection.schema()
    forgotten = cli("cancel", "old", PYTHONPATH=former)
    forgotten = cli("forget", "old", PYTHONPATH=former)
    worker("two")
    taken = cli("enqueue", source, "--batch", "new")
    wait_until(
        lambda: ledger.reading.status("new").states[State.SUCCESS] == 1,
        WAIT_S,
        "the new batch is done",
    )

    assert asked.returncode == taken.returncode == forgotten.returncode == 0, forgotten.stderr
    assert refused.returncode not in {0, 2}
    assert "schema 1" in refused.stderr
    assert "Finish or forget its batches" in refused.stderr
    assert (schema, ledger.connection.schema()) == ("1", "2")


@pytest.mark.slow
def test_the_former_version_leaves_the_new_ledger_alone(
    standin: StandIn, settings: Config, ledger: Ledger, former: str
) -> None:
    """Going back without a copy of the old ledger is refused by 0.1.0 too."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    ledger.connection.ping()

    asked = cli("enqueue", write_items([standin.add_item(MiB)]), PYTHONPATH=former)

    assert asked.returncode not in {0, 2}
    assert "its records have schema 2, this version reads 1" in asked.stderr
