"""``watch`` beside real workers: in a real terminal of 80 columns, in a pipe, and as JSON."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.client.steering import Steering
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.quota import Quota
from geodes_tasks.settings.secret import Secret
from tests.servers import RedisServer, wait_until
from tests.standin import KiB
from tests.terminal import Terminal
from tests.tools import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

COMMAND = [sys.executable, "-m", "geodes_tasks"]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Give a terminal of 80 columns and 24 lines."""
    need("tmux", "tmux")
    with Terminal() as opened:
        yield opened


def watched(settings: Config, *options: str, text: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``watch`` in a pipe, to its end."""
    return subprocess.run(
        [*COMMAND, "watch", *options], env=os.environ | variables(settings),
        capture_output=True, text=text, timeout=60, check=False,
    )  # fmt: skip


def variables(settings: Config) -> dict[str, str]:
    """Give the environment of a command with these settings."""
    return config.environment(settings)


def test_everything_is_on_the_screen(
    standin: StandIn, settings: Config, worker: WorkerFactory, terminal: Terminal
) -> None:
    """Batches, running files with speed, waits with their end, errors with hints, the account."""
    tape, gone, slow = (standin.add_item(size * KiB) for size in (64, 64, 4096))
    standin.fault(tape, "offline_410")
    standin.fault(gone, "gone_404")
    standin.settings.rate = 200 * KiB
    limited = settings.replace(quota=Quota(50, 3600.0), offline_poll_seconds=300.0, max_attempts=1)
    worker(settings=limited)
    enqueue([tape, gone, slow], conf=limited, batch="pyrenees")

    terminal.run([*COMMAND, "watch"], variables(limited))
    terminal.wait_for("NotFoundError", "on tape", "1 worker alive")
    screen = terminal.wait_for("kB/s", "% of 4.2 MB")

    assert re.search(r"^pyrenees .* of 4\.3 MB", screen, re.MULTILINE)
    assert "0 of 3 done, 1 running, 1 failed, 1 on tape" in screen
    assert re.search(r"^1 on tape asked again at [\d:]{5,8} \S+ \(in \d", screen, re.MULTILINE)
    assert "1 NotFoundError: no such file (HTTP 404)" in screen
    assert "Search for the item again" in screen
    assert "geodes-tasks retry pyrenees --class NotFoundError" in screen
    assert re.search(r"^default quota 50/hour: 4\d left, 1 of 4 at once", screen, re.MULTILINE)
    assert "p pause" in screen
    assert max(map(len, screen.splitlines())) <= 80


def test_keys_pause_what_is_shown_and_resume_it(
    standin: StandIn, settings: Config, ledger: Ledger, terminal: Terminal
) -> None:
    """``p`` alone pauses nothing; ``p`` and ``y`` pause the batch that is shown, and no account."""
    enqueue(standin.add_item(64 * KiB), conf=settings, batch="mine")
    enqueue(standin.add_item(64 * KiB), conf=settings, batch="other", account="lab")
    terminal.run([*COMMAND, "watch", "mine"], variables(settings))
    terminal.wait_for("p pause")

    terminal.type("p")
    terminal.wait_for("(1 download)? y confirms")
    terminal.type("n")
    terminal.wait_for("nothing changed")
    spared = ledger.control.pauses()
    terminal.type("p")
    terminal.wait_for("y confirms")
    terminal.type("y")
    held = terminal.wait_for("PAUSED: batch mine", "resume --batch mine")
    paused = ledger.control.pauses()
    terminal.type("r")
    terminal.wait_for("mine: resumed")

    assert spared == {}
    assert "mine: paused" in held
    assert paused == {("batch", "mine"): "by hand"}
    assert ledger.control.pauses() == {}
    assert [one.paused for one in ledger.account.states()] == [None, None]


def test_paused_batch_starts_nothing(
    standin: StandIn, settings: Config, worker: WorkerFactory, terminal: Terminal
) -> None:
    """A worker leaves a paused batch alone, and takes the work up when it is resumed."""
    batch = enqueue(standin.add_item(64 * KiB), conf=settings)
    terminal.run([*COMMAND, "watch"], variables(settings))
    terminal.wait_for("p pause")
    terminal.type("p")
    terminal.wait_for("y confirms")
    terminal.type("y")
    terminal.wait_for("PAUSED")
    worker()

    before = (len(standin.downloads()), batch.status().states[State.PENDING])
    terminal.type("r")
    ended = batch.wait(20)

    assert before == (0, 1)
    assert ended.states[State.SUCCESS] == 1


def test_key_retries_what_failed(
    standin: StandIn, settings: Config, worker: WorkerFactory, terminal: Terminal
) -> None:
    """``t`` asks again for what failed, and for nothing else."""
    gone, tape = standin.add_item(64 * KiB), standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    standin.fault(tape, "offline_410")
    worker(settings=settings.replace(offline_poll_seconds=300.0, max_attempts=1))
    batch = enqueue([gone, tape], conf=settings)
    terminal.run([*COMMAND, "watch"], variables(settings))
    terminal.wait_for("1 failed", "1 on tape")
    standin.clear_faults(gone)

    terminal.type("t")
    terminal.wait_for("1 failed download queued again")

    wait_until(lambda: batch.status().states[State.SUCCESS] == 1, 20.0)
    assert batch.status().waiting == {"offline": 1}


def test_cancel_is_asked_for_twice(
    standin: StandIn, settings: Config, ledger: Ledger, terminal: Terminal
) -> None:
    """``c`` alone cancels nothing, nor does another key after it; ``c`` and ``y`` do."""
    batch = enqueue([standin.add_item(KiB) for _ in range(3)], conf=settings, batch="mine")
    terminal.run([*COMMAND, "watch"], variables(settings))
    terminal.wait_for("c cancel")

    terminal.type("c")
    terminal.wait_for("(3 downloads)? y confirms")
    terminal.type("n")
    terminal.wait_for("nothing changed")
    spared = batch.status().states[State.PENDING]
    terminal.type("c")
    terminal.wait_for("y confirms")
    terminal.type("y")
    screen = terminal.wait_for("mine: 0 of 3 done, 3 cancelled")

    assert spared == 3
    assert batch.status().states[State.REVOKED] == 3
    assert "Traceback" not in screen


def test_q_leaves_everything_running(
    standin: StandIn, settings: Config, terminal: Terminal
) -> None:
    """``q`` ends the view and nothing else; the terminal echoes again."""
    batch = enqueue(standin.add_item(KiB), conf=settings)
    shell = ["sh", "-c", f"{shlex.join(COMMAND)} watch; stty -a | grep -o ' echo '; cat"]
    terminal.run(shell, variables(settings))
    terminal.wait_for("q quit")

    terminal.type("q")
    screen = terminal.wait_for("0 of 1 done, 1 queued", "echo")

    assert "Traceback" not in screen
    assert batch.status().states[State.PENDING] == 1


def test_keys_choose_what_is_drawn(
    standin: StandIn, settings: Config, worker: WorkerFactory, terminal: Terminal
) -> None:
    """``e`` shows what needs a person, ``f`` the files, each again all; ``?`` explains the keys."""
    gone, slow = standin.add_item(64 * KiB), standin.add_item(4096 * KiB)
    standin.fault(gone, "gone_404")
    standin.settings.rate = 40 * KiB
    worker(settings=settings.replace(max_attempts=1))
    enqueue([gone, slow], conf=settings, batch="mine")
    terminal.run([*COMMAND, "watch"], variables(settings))
    terminal.wait_for("NEEDS YOU", "FILES", "ACCOUNTS")

    def drawn(*there: str, without: str) -> bool:
        screen = terminal.screen()
        return all(word in screen for word in there) and without not in screen

    terminal.type("e")
    wait_until(lambda: drawn("BATCHES", "NEEDS YOU", without="FILES"), 10.0, "the errors alone")
    terminal.type("f")
    wait_until(lambda: drawn("BATCHES", "FILES", without="NEEDS YOU"), 10.0, "the files alone")
    terminal.type("f")
    terminal.wait_for("NEEDS YOU", "FILES", "ACCOUNTS")
    terminal.type("?")

    terminal.wait_for("y confirms p and c")


def test_the_view_survives_a_restart_of_redis_and_a_forgotten_batch(
    standin: StandIn, settings: Config, terminal: Terminal, tmp_path: Path
) -> None:
    """It says that Redis does not answer, draws again when it does, and leaves out what is gone.

    Keys that steer end it neither then nor later.
    """
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        own = settings.replace(redis_url=Secret(server.url))
        enqueue(standin.add_item(KiB), conf=own, batch="stays")
        enqueue(standin.add_item(KiB), conf=own, batch="forgotten")
        terminal.run([*COMMAND, "watch"], variables(own))
        terminal.wait_for("stays", "forgotten", "q quit")

        server.kill()
        stopped = terminal.wait_for("Redis does not answer", "stays")
        terminal.type("t")
        time.sleep(2.0)
        server.start()
        terminal.wait_for("stays", "forgotten", "q quit")
        Steering(own).forget("forgotten", unfinished=True)
        wait_until(lambda: "forgotten" not in terminal.screen(), 10.0, "the end of a batch")

        assert "Traceback" not in stopped
        terminal.wait_for("stays", "q quit")
        terminal.type("r")
        terminal.wait_for("no batch was paused", "stays")


def test_the_history_of_one_file(standin: StandIn, settings: Config, worker: WorkerFactory) -> None:
    """``status BATCH ITEM`` lists each failed attempt with its time, worker, source and error."""
    ill = standin.add_item(64 * KiB)
    standin.fault(ill, "status_n_times", status=503, times=2)
    worker()
    enqueue(ill, conf=settings, batch="mine").wait(30)

    shown = subprocess.run(
        [*COMMAND, "status", "mine", ill["id"]], env=os.environ | variables(settings),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    attempts = re.findall(r"^\d\d \w+ [\d:]{8} \S+ +one@\S+ +geodes +.*503", shown.stdout, re.M)
    assert shown.returncode == 0
    assert "done, downloaded" in shown.stdout
    assert "FAILED ATTEMPTS" in shown.stdout
    assert len(attempts) == 2


def test_lines_on_a_dumb_terminal(standin: StandIn, settings: Config, terminal: Terminal) -> None:
    """Where no picture can be redrawn there are lines; it used to be nothing."""
    enqueue(standin.add_item(KiB), conf=settings, batch="mine")

    terminal.run([*COMMAND, "watch"], variables(settings) | {"TERM": "dumb"})

    terminal.wait_for("mine: 0 of 1 done, 1 queued")


def test_lines_in_a_pipe(standin: StandIn, settings: Config, worker: WorkerFactory) -> None:
    """Without a terminal there are plain lines on standard error, and the exit code tells."""
    good, gone = standin.add_item(64 * KiB), standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    enqueue([good, gone], conf=settings, batch="mine")
    worker(settings=settings.replace(max_attempts=1))

    said = watched(settings, "mine")

    assert said.returncode == 3
    assert said.stdout == ""
    assert "\x1b" not in said.stderr
    assert "mine: 1 of 2 done (1 downloaded), 1 failed" in said.stderr
    assert re.match(r"\d\d:\d\d:\d\d \S+ mine: \d of 2 done", said.stderr)
    assert "1 NotFoundError: " in said.stderr
    assert "geodes-tasks retry mine --class NotFoundError" in said.stderr


def test_one_look_as_json(standin: StandIn, settings: Config, worker: WorkerFactory) -> None:
    """``--json`` gives one look for programs: batches, running, waiting, accounts, workers."""
    standin.settings.rate = 100 * KiB
    batch = enqueue(standin.add_item(2048 * KiB), conf=settings, batch="mine")
    worker()
    wait_until(lambda: batch.status().bytes_done > 0, 20.0)

    said = watched(settings, "--json")

    look = json.loads(said.stdout)
    assert (said.returncode, said.stderr) == (0, "")
    assert look["batches"][0]["batch"] == "mine"
    assert look["batches"][0]["bytes_per_second"] > 10_000
    assert look["running"][0]["bytes_per_second"] > 10_000
    assert look["batches"][0]["accounts"][0]["running"] == 1
    assert look["batches"][0]["workers"] == {"alive": 1, "silent": []}


def test_status_is_the_same_picture(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """``status`` shows once what ``watch`` shows, in a pipe plain and within 80 columns."""
    tape, gone, slow = (standin.add_item(size * KiB) for size in (64, 64, 4096))
    standin.fault(tape, "offline_410")
    standin.fault(gone, "gone_404")
    standin.settings.rate = 100 * KiB
    batch = enqueue([tape, gone, slow], conf=settings, batch="pyrenees")
    worker(settings=settings.replace(offline_poll_seconds=300.0, max_attempts=1))
    wait_until(lambda: batch.status().bytes_done > 0 and batch.status().waiting, 20.0)
    wait_until(lambda: batch.status().states[State.FAILURE] == 1, 20.0)

    said = subprocess.run(
        [*COMMAND, "status"], env=os.environ | variables(settings), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert (said.returncode, said.stderr) == (0, f"batch {batch.id}, the newest\n")
    assert "0 of 3 done, 1 running, 1 failed, 1 on tape" in said.stdout
    assert re.search(r"\d % of 4\.2 MB +\d+\.\d kB/s .*one@\S+ geodes", said.stdout)
    assert "1 on tape asked again at " in said.stdout
    assert "1 NotFoundError: no such file (HTTP 404)" in said.stdout
    assert "Search for the item again" in said.stdout
    assert re.search(r"^default quota off, 1 of 4 at once", said.stdout, re.MULTILINE)
    assert "\x1b" not in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80


def test_nothing_to_watch(settings: Config) -> None:
    """In an empty ledger one line says so, with the code for nothing."""
    said = watched(settings)

    assert (said.returncode, said.stdout) == (4, "")
    assert said.stderr == "no batch in the ledger yet\n"
