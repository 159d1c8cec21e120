"""The private server of one-machine mode: slow to load, killed, or in the middle of old work."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client import private_server
from geodes_tasks.client.child_process import is_listening
from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.client.private_server import server_binary
from geodes_tasks.errors import PrivateProcessError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.control import Control
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.conftest import require_server
from tests.fault.test_long_queue import request
from tests.integration.test_cli import (
    CommandLine,
    file_of,
    still_running,
    write_items,
    wrong_files,
)
from tests.integration.test_one_machine import SLOW, STOP_S, await_transfers, reap
from tests.servers import wait_until
from tests.standin import KiB, MiB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standin import StandIn

KEYS = 6000
LOAD_S = 6.0
"""Seconds that a slow server takes to load so many keys; it answers about once a second then."""
LEFT = 1000
"""Downloads that an earlier run left unfinished."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a download folder, where there is a server for it to start."""
    require_server()
    return tmp_path / "out"


@pytest.fixture
def cli(standin: StandIn) -> Iterator[CommandLine]:
    """Give the command line against the stand-in."""
    cli = CommandLine(standin)
    yield cli
    cli.close()


def fill(folder: Path, keys: int) -> None:
    """Have the private server of a folder keep many keys; it is stopped then."""
    with OneMachine(config.load(), folder) as machine:
        client = Ledger.of(machine.settings).connection.client
        pipeline = client.pipeline(transaction=False)
        for number in range(keys):
            pipeline.set(f"key:{number}", number)
        pipeline.execute()
        client.close()


def install_server(folder: Path, script: str) -> str:
    """Install a program in place of the server; return the PATH that finds it first."""
    folder.mkdir()
    program = folder / private_server.SERVERS[0]
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def path_of_slow(folder: Path, keys: int, seconds: float) -> str:
    """Fill the ledger of a folder; return a PATH whose server takes so long to load it.

    While it loads, it answers after each 1,024 keys.
    """
    fill(folder, keys)
    real, delay_us = shlex.quote(server_binary()), int(seconds / keys * 1e6)
    return install_server(folder.parent / "bin", f'exec {real} "$@" --key-load-delay {delay_us}')


@pytest.fixture
def slow_path(folder: Path) -> str:
    """Return a PATH whose server takes some seconds to load the ledger of the folder."""
    return path_of_slow(folder, KEYS, LOAD_S)


# --- a server that loads its file ----------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_loads_is_waited_for_and_shown(
    folder: Path,
    slow_path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Loading takes several times the time in which a server has to answer, and is reported."""
    monkeypatch.setenv("PATH", slow_path)
    monkeypatch.setattr(private_server, "START_S", LOAD_S / 3)
    monkeypatch.setattr(private_server, "LOAD_LINE_S", LOAD_S / 10)
    began = time.monotonic()

    with OneMachine(config.load(), folder) as machine:
        seconds = time.monotonic() - began
        kept = Ledger.of(machine.settings).connection.client.exists("key:0", f"key:{KEYS - 1}")

    percents = [int(found) for found in re.findall(r"recorded: (\d+) %, \d+ s left", caplog.text)]
    assert seconds > 2 * private_server.START_S
    assert kept == 2
    assert len(set(percents)) > 1
    assert percents == sorted(percents)


@pytest.mark.slow
def test_download_shows_why_nothing_moves(
    cli: CommandLine, standin: StandIn, folder: Path, slow_path: str
) -> None:
    """While the server loads, standard error has its progress; then the files come."""
    items = [standin.add_item(64 * KiB)]
    write_items(items)

    done = cli("download", "items.json", "-o", str(folder), PATH=slow_path)

    assert done.returncode == 0, done.stderr
    assert "loading what earlier runs recorded: " in done.stderr
    assert " %, " in done.stderr
    assert wrong_files(standin, items, str(folder)) == []


@pytest.mark.slow
def test_a_server_that_ends_while_it_loads_is_noticed(
    folder: Path, slow_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle, it is not waited for, and the end of its log is quoted."""
    monkeypatch.setenv("PATH", slow_path)
    machine = OneMachine(config.load(), folder)
    ended: list[float] = []

    def end(*_: object) -> None:
        client = Ledger.of(machine.settings).connection.client
        if not ended:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
            ended.append(time.monotonic())

    monkeypatch.setattr(private_server.logger, "warning", end)
    with pytest.raises(PrivateProcessError, match=r"server\.log ends with: .") as caught, machine:
        pass

    assert time.monotonic() - ended[0] < private_server.START_S / 2
    assert caught.value.log == str(machine.server.log)


def test_a_server_that_does_not_start_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote before it ended is in the error, at once."""
    path = install_server(tmp_path / "bin", "echo 'cannot open the file: wrong owner'; exit 1")
    monkeypatch.setenv("PATH", path)
    began = time.monotonic()

    with (
        pytest.raises(PrivateProcessError, match="cannot open the file: wrong owner"),
        OneMachine(config.load(), folder),
    ):
        pass

    assert time.monotonic() - began < private_server.START_S / 2


@pytest.mark.slow
def test_the_loading_server_of_a_killed_run_is_stopped_first(
    cli: CommandLine, standin: StandIn, folder: Path, tmp_path: Path
) -> None:
    """Two servers never write to one file: the next run stops the old one, also while it loads."""
    items = [standin.add_item(64 * KiB)]
    write_items(items)
    machine, path = OneMachine(config.load(), folder), path_of_slow(folder, 20 * KEYS, 5 * LOAD_S)
    process = cli.begin("download", "items.json", "-o", str(folder), PATH=path)
    left = machine.server.socket.with_name(
        machine.server.socket.name.replace(str(os.getpid()), str(process.pid))
    )
    wait_until(lambda: is_listening(left), 20.0, "a server that loads")
    process.kill()
    reap(process)

    again = cli("download", "items.json", "-o", str(folder))

    assert again.returncode == 0, again.stderr
    assert not is_listening(left)
    wait_until(lambda: not still_running(tmp_path), 5.0, "the end of what the killed run left")
    assert wrong_files(standin, items, str(folder)) == []


# --- a server that ends in the middle of a run ---------------------------------------------------


def servers_in(folder: Path) -> list[int]:
    """Return the process ids of the private servers that runs in a test's folder have started."""
    return [pid for pid, line in still_running(folder).items() if "unixsocket" in line]


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run(
    cli: CommandLine, standin: StandIn, folder: Path, tmp_path: Path
) -> None:
    """The error names the private server, its end, folder and log; the same command continues."""
    items = [standin.add_item(2 * MiB) for _ in range(2)]
    write_items(items)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", str(folder))
    await_transfers(standin)
    (server,) = servers_in(tmp_path)

    os.kill(server, signal.SIGKILL)
    _, said = reap(process, 60.0)
    standin.settings.rate = None
    wait_until(lambda: not still_running(tmp_path), STOP_S, "the end of the worker")
    again = cli("download", "items.json", "-o", str(folder))

    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    state = str(OneMachine(config.load(), folder).state)
    assert process.returncode == 1
    assert f"the private Redis server in {state} was killed by signal 9" in line
    assert f"{state}/server.log ends with: " in line
    assert "Run the same command again" in line
    assert f"remove {state}" in line
    assert "GEODES_TASKS_REDIS_URL" not in said
    assert again.returncode == 0, again.stderr
    assert wrong_files(standin, items, str(folder)) == []


# --- what earlier runs left ----------------------------------------------------------------------


def ended_in(ledger: Ledger) -> int:
    """Return how many downloads in the whole ledger are cancelled."""
    return ledger.reading.totals().states[State.REVOKED]


def test_unfinished_downloads_end_while_the_new_run_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed while it ends old downloads costs nothing: the next one ends the others.

    What the new run enqueues again meanwhile is not ended.
    """
    # One by one, so that a kill finds it in the middle.
    one_by_one = partialmethod(Control.end_left_overs, 1)
    monkeypatch.setattr(Control, "end_left_overs", one_by_one)
    settings = config.load()
    requests = [request(number, "geodes") for number in range(LEFT)]
    with OneMachine(settings, folder) as machine:
        ledger = Ledger.of(machine.settings)
        for first in range(0, LEFT, 200):
            ledger.admission.admit(
                "old", "default", requests[first : first + 200], lambda _: None
            )()
    with OneMachine(settings, folder) as machine:
        ledger = Ledger.of(machine.settings)
        wait_until(lambda: ended_in(ledger) > LEFT // 50, 30.0, "some ended")
        (server,) = servers_in(folder.parent)
        os.kill(server, signal.SIGKILL)

    with OneMachine(settings, folder) as machine:
        ledger = Ledger.of(machine.settings)
        before = ended_in(ledger)
        again = [*requests[:50], *requests[-50:]]
        ledger.admission.admit("new", "default", again, lambda _: None)()
        left = ledger.connection.key("left_over")
        wait_until(lambda: not ledger.connection.client.exists(left), 60.0, "all visited")
        status, after = ledger.reading.status("new"), ended_in(ledger)
        released = len(ledger.dispatch.release())
        ledger.connection.client.close()

    assert before < after == LEFT - len(again)
    assert status.states[State.PENDING] == status.total == len(again)
    assert released > 0


@pytest.mark.slow
def test_a_published_file_of_an_earlier_run_stays(
    cli: CommandLine, standin: StandIn, folder: Path
) -> None:
    """Interrupted with one file done, the next run fetches the other one alone."""
    done, begun = standin.add_item(64 * KiB), standin.add_item(4 * MiB)
    cli("download", write_items([done]), "-o", str(folder))
    standin.settings.rate = SLOW
    process = cli.begin("download", write_items([done, begun]), "-o", str(folder))
    wait_until(lambda: bool(standin.downloads(begun)), 30.0, "the second file begins")
    process.send_signal(signal.SIGINT)
    reap(process)
    standin.settings.rate = None

    again = cli("download", "items.json", "-o", str(folder))

    assert again.returncode == 0, again.stderr
    assert "1 already here" in again.stderr
    assert len(standin.downloads(done)) == 1
    assert file_of(begun, str(folder)).stat().st_size == 4 * MiB
