"""The ledger of a folder, read and steered while a run is under way and after it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

import geodes_tasks
from geodes_tasks import errors
from geodes_tasks.cli.command_table import INTERRUPTED
from geodes_tasks.client.ledgers import ledger_of
from geodes_tasks.client.local_server import OneMachine, known_folders
from geodes_tasks.client.private_server import PrivateServer
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import KEY, require_server
from tests.fault.test_long_queue import request
from tests.integration.test_cli import CommandLine, write_items
from tests.integration.test_one_machine import SLOW, reap
from tests.integration.test_private_server import servers_in
from tests.servers import wait_until
from tests.standin import KiB, MiB

if TYPE_CHECKING:
    from tests.standin import StandIn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a download folder whose ledger has a batch of two downloads."""
    require_server()
    folder = tmp_path / "out"
    with OneMachine(config.load(), folder) as machine:
        requests = [request(number, "geodes") for number in range(2)]
        ledger = Ledger.of(machine.settings)
        ledger.admission.admit("monday", "default", requests, lambda _: None)()
    return folder


@pytest.fixture
def cli(standin: StandIn) -> CommandLine:
    """Give the command line against the stand-in."""
    return CommandLine(standin)


def test_two_commands_share_one_server(folder: Path) -> None:
    """The one that started it may end first; the last one stops it."""
    first, second = ExitStack(), ExitStack()
    one = first.enter_context(ledger_of(config.load(), folder))
    other = second.enter_context(ledger_of(config.load(), folder))
    assert one is not None
    assert other is not None
    servers = servers_in(folder.parent)

    first.close()
    batches = other.reading.batches()
    second.close()

    assert len(servers) == 1
    assert batches == ["monday"]
    assert servers_in(folder.parent) == []


def test_a_run_shares_the_server_of_a_command(folder: Path) -> None:
    """A run that begins while a command reads the ledger does not wait for its end."""
    with ledger_of(config.load(), folder) as ledger:
        assert ledger is not None
        with OneMachine(config.load(), folder) as machine:
            servers = servers_in(folder.parent)
            run = Ledger.of(machine.settings)
            run.admission.admit("tuesday", "default", [request(0, "geodes")], lambda _: None)()

            seen = ledger.reading.status("tuesday").total

        assert (seen, len(servers)) == (1, 1)
        assert ledger.reading.batches() == ["tuesday", "monday"]
    assert servers_in(folder.parent) == []


def test_a_wait_takes_over_when_the_run_that_it_relied_on_ends(
    standin: StandIn, tmp_path: Path
) -> None:
    """Threads that wait for batches of one folder share a run, and the last one works alone."""
    standin.settings.change(rate=200 * KiB)
    conf = config.load(api_key=KEY, portal_url=standin.url, s3_endpoint_url="http://127.0.0.1:1",
                       quota="off", max_concurrent=1)  # fmt: skip
    folder = tmp_path / "out"
    items = [standin.add_item(100 * KiB) for _ in range(6)]
    batches = [geodes_tasks.enqueue(items[n : n + 2], download_dir=folder, conf=conf)
               for n in (0, 2, 4)]  # fmt: skip

    with ThreadPoolExecutor() as pool:
        statuses = list(pool.map(lambda batch: batch.wait(60, quiet=True), batches * 2))

    assert all(status.ok for status in statuses)
    assert servers_in(tmp_path) == []


def test_an_interrupted_wait_cancels_no_other_batch(standin: StandIn, tmp_path: Path) -> None:
    """Each batch of a folder is downloaded by its own wait, whatever ended the others early."""
    standin.settings.change(rate=200 * KiB)
    conf = config.load(api_key=KEY, portal_url=standin.url, s3_endpoint_url="http://127.0.0.1:1",
                       quota="off", max_concurrent=1)  # fmt: skip
    items = [standin.add_item(100 * KiB) for _ in range(4)]
    first, second = (geodes_tasks.enqueue(items[n : n + 2], download_dir=tmp_path / "out",
                                          conf=conf) for n in (0, 2))  # fmt: skip

    with pytest.raises(TimeoutError):
        first.wait(0.3, quiet=True)

    assert [one.wait(60, quiet=True).outcomes["DOWNLOADED"] for one in (first, second)] == [2, 2]


def test_a_fork_during_a_run_keeps_no_lock(folder: Path) -> None:
    """A pool of processes that is made meanwhile does not keep the folder busy for ever."""
    with OneMachine(config.load(), folder):
        # Exec would close the files: only fork hands them on (fork(2)).
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)

    try:
        with OneMachine(config.load(), folder) as machine:
            batches = Ledger.of(machine.settings).reading.batches()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert batches == ["monday"]


def test_the_folders_of_all_runs_are_known(folder: Path, tmp_path: Path) -> None:
    """The newest run comes first."""
    with OneMachine(config.load(), tmp_path / "later") as machine:
        is_under_way = machine.is_under_way

    assert is_under_way
    assert not machine.is_under_way
    assert known_folders(config.load()) == [tmp_path / "later", folder]


def test_a_damaged_ledger_hides_no_other(folder: Path, tmp_path: Path) -> None:
    """Neither a name that was cut short, nor a ledger that no server reads."""
    state = config.load().state_dir
    for number, name in enumerate(["", "out", str(tmp_path / "elsewhere")]):
        mark = state / f"{number:016}" / "folder"
        mark.parent.mkdir()
        mark.write_text(name)
    unreadable = OneMachine(config.load(), tmp_path / "unreadable")
    unreadable.make_state()
    (unreadable.state / "users").mkdir()

    names = [one.id for one in geodes_tasks.batches()]

    assert known_folders(config.load()) == [unreadable.folder, folder]
    assert names == ["monday"]
    assert geodes_tasks.batch("monday").status().total == 2


def test_a_full_state_folder_keeps_the_name_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot begin is one error of a setting, and the ledger is found as before."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(ConfigError, match=r"STATE_DIR: .*No space left"):
        geodes_tasks.enqueue([], download_dir=folder)

    assert known_folders(config.load()) == [folder]


def test_a_state_folder_that_cannot_be_used_is_one_error(tmp_path: Path) -> None:
    """Also from Python, before anything is queued."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"STATE_DIR: .*Not a directory"):
        geodes_tasks.enqueue([], download_dir=tmp_path, conf=Config(state_dir=tmp_path / "file/s"))


def test_a_folder_whose_name_is_no_text_is_refused(cli: CommandLine) -> None:
    """The ledger keeps UTF-8: one line, before a state folder is made."""
    said = cli("download", write_items([]), "-o", "\udcffout")

    assert said.returncode == 2
    assert said.stderr.startswith("error: --output-dir: ")
    assert "is no text in UTF-8. Rename" in said.stderr
    assert not config.load().state_dir.exists()


def test_a_command_begins_while_the_last_one_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of the server and that of its process, the next one starts its own."""
    leave, read = PrivateServer._leave, list[list[str]]()

    def left(self: PrivateServer, users: IO[str]) -> None:
        leave(self, users)
        monkeypatch.setattr(PrivateServer, "_leave", leave)
        with ledger_of(config.load(), folder) as ledger:
            assert ledger is not None
            read.append(ledger.reading.batches())

    monkeypatch.setattr(PrivateServer, "_leave", left)
    with ledger_of(config.load(), folder):
        pass

    assert read == [["monday"]]


def test_the_ledger_of_a_folder_can_be_emptied(folder: Path) -> None:
    """With its last batch go all records, and the stats of files that earlier batches had."""
    machine = OneMachine(config.load(), folder)
    with machine.opened() as ledger:
        assert ledger is not None
        steering = Steering(machine.settings)
        for batch in ledger.reading.batches():
            steering.forget(batch, unfinished=True)
        left = ledger.connection.client.keys(ledger.connection.key("download", "*"))

        assert (left, ledger.reading.batches()) == ([], [])


def test_a_run_under_way_is_read_and_steered(
    cli: CommandLine, standin: StandIn, folder: Path
) -> None:
    """Its batch, its records and its downloads, through its own server, which stays up."""
    items = [standin.add_item(4 * MiB) for _ in range(2)]
    standin.settings.rate = SLOW
    process = cli.begin("download", write_items(items), "-o", str(folder))
    wait_until(lambda: bool(standin.downloads(items[0])), 30.0, "a transfer")
    with ledger_of(config.load(), folder) as ledger:
        assert ledger is not None
        newest = ledger.reading.batches()[0]
        total = ledger.reading.status(newest).total
        ledger.control.withdraw(newest, list(ledger.reading.downloads(newest)))
    reap(process, 60.0)
    assert process.returncode == INTERRUPTED

    with ledger_of(config.load(), folder) as ledger:
        assert ledger is not None
        states = ledger.reading.status(newest).states
    assert total == len(items)
    assert states[State.REVOKED] == len(items)


@pytest.mark.slow
def test_a_run_whose_batch_is_forgotten_ends(
    cli: CommandLine, standin: StandIn, folder: Path
) -> None:
    """As a run that is cancelled, with one line."""
    items = [standin.add_item(4 * MiB) for _ in range(2)]
    standin.settings.rate = SLOW
    process = cli.begin("download", write_items(items), "-o", str(folder), "--no-progress")
    wait_until(lambda: bool(standin.downloads(items[0])), 30.0, "a transfer")

    forgotten = cli("forget", "--all", "--force", "--yes", "-o", str(folder))
    _, stderr = reap(process, 60.0)

    assert forgotten.returncode == 0, forgotten.stderr
    assert process.returncode == INTERRUPTED
    assert "was forgotten meanwhile; files stay" in stderr
    assert "error: " not in stderr


@pytest.mark.slow
def test_commands_work_on_the_ledger_of_a_folder(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """After the run, each reads or steers it; what is steered takes effect at the next run."""
    require_server()
    good, bad = standin.add_item(KiB, quicklook=False), standin.add_item(KiB, quicklook=False)
    standin.fault(bad, "licence_423")
    cli("download", write_items([good, bad]), "-o", "out")
    batch = json.loads(cli("batches", "-o", "out", "--json").stdout)[0]["batch"]
    steering = {
        ("pause", "--batch", batch), ("resume", "--batch", batch), ("retry", batch),
        ("cancel", batch),
    }  # fmt: skip
    reading = [
        ("status", batch), ("report", batch, "-f", "markdown"), ("watch", batch, "--once"),
        ("metrics", "--once"),
    ]  # fmt: skip

    read = {words[0]: cli(*words, "-o", "out") for words in reading}
    steered = {words[0]: cli(*words, "-o", "out") for words in sorted(steering, reverse=True)}
    verified = cli("verify", "out")
    unnamed = cli("cancel", "-o", "out", GEODES_TASKS_REDIS_URL="redis://127.0.0.1:1")
    unknown = cli("status", "other", "-o", "out", GEODES_TASKS_REDIS_URL="redis://127.0.0.1:1")
    no_class = cli("retry", batch, "--class", "X", "-o", "out")
    twice = cli("watch", batch, batch, "--once", "-o", "out")
    forgotten = cli("forget", "--all", "-o", "out")
    empty = cli("retry", "--all", "-o", "out"), cli("cancel", "--all", "-o", "out")

    assert {name: said.stderr for name, said in read.items() if said.returncode} == {}
    assert {name: said.stderr for name, said in steered.items() if said.returncode} == {}
    assert {
        name for name, said in steered.items() if "takes effect at the next" not in said.stderr
    } == set()
    # Without the folder, the commands would steer the cluster.
    place = f"-o {tmp_path / 'out'}"
    assert f"`geodes-tasks cancel {place} {batch}`" in unnamed.stderr
    assert f"`geodes-tasks retry {place} {batch} --class LicenceError`" in read["report"].stdout
    assert f"`geodes-tasks batches {place}` lists the batches" in unknown.stderr
    named = no_class.stderr.strip().rpartition("Try: ")[2].rstrip(".").split(", ")
    assert {errors.is_class(one) for one in named} == {True}
    assert twice.stdout.count(batch) == 1
    assert [said.stderr for said in empty] == [
        "no batch has a failed download\n",
        "no batch is unfinished\n",
    ]
    assert (verified.returncode, forgotten.returncode) == (0, 0), forgotten.stderr
    assert json.loads(cli("batches", "-o", "out", "--json").stdout or "[]") == []
    assert servers_in(tmp_path) == []


@pytest.mark.slow
def test_the_server_of_a_killed_command_ends(folder: Path) -> None:
    """Killed without a worker, as while the server loads its file, it leaves no server behind."""
    script = (
        "import sys, time; from pathlib import Path;"
        "from geodes_tasks.client.ledgers import ledger_of;"
        "from geodes_tasks.settings import config;"
        "opened = ledger_of(config.load(), Path(sys.argv[1])); opened.__enter__();"
        "print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        (server,) = servers_in(folder.parent)
        process.send_signal(signal.SIGKILL)

    wait_until(lambda: servers_in(folder.parent) == [], 60.0, f"server {server} ends")
    with ledger_of(config.load(), folder) as ledger:
        assert ledger is not None
        assert ledger.reading.batches() == ["monday"]
