"""The commands ``worker`` and ``flower`` from folders that hold a `worker` of the user's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodes_tasks import enqueue
from geodes_tasks.settings.config import Config
from tests.integration.test_watch import variables
from tests.servers import Process, free_port, wait_until
from tests.standin import KiB, StandIn

COMMANDS = (
    [sys.executable, "-m", "geodes_tasks"],
    [str(Path(sys.executable).parent / "geodes-tasks")],
)
"""Both ways to the command line."""


@pytest.fixture(params=["file", "package"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a working folder in which ``import worker`` would raise."""
    own = tmp_path / ("worker.py" if request.param == "file" else "worker/__init__.py")
    own.parent.mkdir(exist_ok=True)
    own.write_text("raise SystemExit('the worker of this folder was imported')")
    return tmp_path


@pytest.fixture
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a process that ends with the test."""
    process = Process(tmp_path_factory.mktemp("log") / "log")
    yield process
    process.stop()


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "script"])
def test_a_worker_starts_beside_a_worker_of_the_user(
    standin: StandIn, settings: Config, folder: Path, started: Process, command: list[str]
) -> None:
    """The installed worker is loaded, and a file comes."""
    started.spawn(
        [*command, "worker", "--concurrency", "2", "--hostname", "own@%h", "--loglevel", "INFO"],
        env=os.environ | variables(settings),
        cwd=folder,
    )
    started.wait_for(" ready.", 60)

    batch = enqueue([standin.add_item(64 * KiB)], conf=settings)

    assert batch.wait(30).states["SUCCESS"] == 1, started.text


def test_flower_starts_beside_a_worker_of_the_user(
    settings: Config, folder: Path, started: Process
) -> None:
    """Flower has our columns, so it is our application that was loaded."""
    port = free_port()
    started.spawn(
        [*COMMANDS[0], "flower", f"--port={port}"],
        env=os.environ | variables(settings),
        cwd=folder,
    )
    wait_until(lambda: f":{port}" in started.text, 60, "Flower")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=20) as reply:
        assert reply.status == 200
    assert "was imported" not in started.text


def test_the_exporter_waits_for_redis(settings: Config, tmp_path: Path, started: Process) -> None:
    """Started before Redis it does not end: `ledger_up` is 0 meanwhile."""
    away = variables(settings) | {"GEODES_TASKS_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    port = free_port()
    started.spawn(
        [*COMMANDS[0], "metrics", "--port", str(port)], env=os.environ | away, cwd=tmp_path
    )
    started.wait_for("/metrics", 60)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        text = reply.read().decode()

    assert "geodes_tasks_ledger_up 0.0" in text
    assert "ledger_up is 0 until it answers" in started.text
    assert "Traceback" not in started.text


@pytest.mark.parametrize(
    "program", [["-m", "celery"], [str(Path(sys.executable).with_name("celery"))]]
)
@pytest.mark.parametrize("command", ["worker", "flower"])
def test_celery_names_the_setting_that_it_needs(
    tmp_path: Path, program: list[str], command: str
) -> None:
    """Started by Celery's own command, without an address or with a wrong setting: one line."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("GEODES_TASKS_")}
    env |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    words = [sys.executable, *program, "-A", "worker", command]

    def said(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=env | variables, cwd=tmp_path, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    missing, wrong = said(), said(GEODES_TASKS_QUOTA="much")

    assert missing.stderr.startswith("error: GEODES_TASKS_REDIS_URL: `celery -A worker` needs")
    assert "export GEODES_TASKS_REDIS_URL=redis://HOST:6379/0" in missing.stderr
    assert wrong.stderr.startswith("error: GEODES_TASKS_QUOTA: 'much' is no quota")
    assert (missing.returncode, wrong.returncode) == (2, 2)
    assert "Traceback" not in missing.stderr + wrong.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("worker", "--pool", "gevent"), "error: --pool: gevent loses downloads. Use threads"),
        (("worker", "-Peventlet"), "error: --pool: eventlet loses downloads. Use threads"),
        (("flower", "--port=PORT"), "error: [Errno 98] Address already in use. Correct --port"),
        (("metrics", "--port=PORT"), "error: --port: 127.0.0.1:PORT: Address already in use"),
        (("metrics", "--address=256.1.1.1"), "error: --address: 256.1.1.1:9808: "),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(
    settings: Config, words: tuple[str, ...], line: str
) -> None:
    """Of libraries too: no traceback, exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMANDS[0], *(word.replace("PORT", port) for word in words)],
            env=os.environ | variables(settings), capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.splitlines()[-1].startswith(line.replace("PORT", port))
