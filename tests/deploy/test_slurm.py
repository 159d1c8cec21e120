"""The Slurm templates, run by stand-ins for sbatch, srun and scontrol: the rest is real.

What the stand-ins do is what Slurm promises: the batch script runs with its variables, srun starts
a task on each node and passes signals on, ``--signal=B:TERM@120`` reaches the script alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.conftest import KEY, require_server
from tests.servers import Process, RedisServer, wait_until
from tests.standin import KiB, StandIn
from tests.standin.spec import Item, ServedFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "deploy" / "slurm"
NODES = 2
PATIENCE_S = 120
"""A job starts a dozen interpreters, which takes its time on a busy machine."""
pytestmark = pytest.mark.timeout(400)

SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
words, command = sys.argv[1:], []
while words and words[0].startswith("--"):
    if words[0].startswith("--chdir="):
        os.chdir(words[0].partition("=")[2])
    words.pop(0)
tasks = [
    subprocess.Popen(words, env=os.environ | {{"SLURM_PROCID": str(number)}})
    for number in range(int(os.environ["SLURM_NNODES"]))
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
[ "$1 $2" = "show hostnames" ] && printf '127.0.0.1\\nother-node\\n'
"""


class Job(Process):
    """A batch script as Slurm would run it."""

    def __init__(self, folder: Path, script: Path, *words: str, env: Mapping[str, str]) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(folder / "job.log")
        self.command = ["/bin/bash", str(script), *words]
        self.env = dict(env)

    def __enter__(self) -> Self:
        """Submit it; it runs at once."""
        self.spawn(self.command, env=self.env)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, and whatever it has left running."""
        self.kill()


@pytest.fixture
def cluster(tmp_path: Path, standin: StandIn) -> dict[str, str]:
    """Give the environment of a job: commands on PATH, Slurm's variables, the key in a file."""
    require_server()
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    (tmp_path / "geodes.key").write_text(KEY)
    return {
        **{name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ},
        "PATH": f"{shims}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": str(NODES),
        "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "1",
        "GEODES_TASKS_SLURM_STATE": str(tmp_path / "state"),
        "GEODES_API_KEY_FILE": str(tmp_path / "geodes.key"),
        "GEODES_TASKS_PORTAL_URL": standin.url,
        "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "GEODES_TASKS_QUOTA": "off",
        "GEODES_TASKS_MAX_CONCURRENT": "2",
        "GEODES_TASKS_GRACE_SECONDS": "0.5",
    }  # fmt: skip


def seeded(standin: StandIn, folder: Path, count: int, size: int) -> Path:
    """Fill the catalogue, and write its items to a file."""
    for _ in range(count):
        standin.add_item(size)
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": standin.items}))
    return path


def right(standin: StandIn, folder: Path) -> bool:
    """Tell whether every file of the catalogue is there with its MD5, and nothing beside them."""
    wanted = {file.title: file.md5 for item in standin.items for file in files_of(standin, item)}
    found = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.zip")}
    return found == wanted and len(wanted) > 0


def files_of(standin: StandIn, item: Item) -> list[ServedFile]:
    """Give the archives of an item."""
    return [one for one in standin.portal.catalogue.files(str(item["id"])) if one.archive]


def script(name: str) -> Path:
    """Give a template."""
    return SLURM / name


def test_a_job_downloads_everything(
    cluster: dict[str, str], standin: StandIn, tmp_path: Path
) -> None:
    """Redis on the first node, a worker on each, files right, nothing left running."""
    items = seeded(standin, tmp_path, 6, 64 * KiB)
    folder = tmp_path / "shared"
    words = (str(items), str(folder), "monday")

    with Job(tmp_path, script("geodes-tasks.sbatch"), *words, env=cluster) as job:
        code = job.wait(PATIENCE_S)

        assert code == 0, job.text
        with pytest.raises(ProcessLookupError):
            os.killpg(job.pid, 0)
    assert right(standin, folder), job.text
    assert "done, exit code 0" in job.text
    assert len(set(re.findall(r"celery@\S+-4711-[01] ready", job.text))) == NODES, job.text


def test_the_walltime_gives_work_back_and_the_next_job_goes_on(
    cluster: dict[str, str], standin: StandIn, tmp_path: Path
) -> None:
    """TERM to the script in the middle of transfers: bytes are kept, and a second job finishes."""
    standin.settings.rate = 256 * KiB
    items = seeded(standin, tmp_path, 4, 512 * KiB)
    folder = tmp_path / "shared"
    words = (str(items), str(folder), "monday")

    with Job(tmp_path, script("geodes-tasks.sbatch"), *words, env=cluster) as first:
        wait_until(
            lambda: list(folder.glob(".geodes-tasks/*.part")), PATIENCE_S, "a transfer under way"
        )
        first.send(signal.SIGTERM)
        code = first.wait(PATIENCE_S)
        text = first.text

    assert code == 75, text
    assert "worker-stopped" in text
    assert "not done: submit it again" in text
    assert len(list(folder.glob("*.zip"))) < 4, text
    standin.settings.rate = None

    with Job(tmp_path, script("geodes-tasks.sbatch"), *words, env=cluster) as second:
        code = second.wait(PATIENCE_S)

    assert code == 0, second.text
    assert right(standin, folder), second.text
    assert not (folder / ".geodes-tasks").exists()


def test_passwords_stay_in_files(cluster: dict[str, str], standin: StandIn, tmp_path: Path) -> None:
    """No command line and no log has one, and nobody else can read the files."""
    items = seeded(standin, tmp_path, 1, KiB)
    words = (str(items), str(tmp_path / "shared"))
    seen: set[str] = set()

    with Job(tmp_path, script("geodes-tasks.sbatch"), *words, env=cluster) as job:
        while job.alive:
            seen.update(command_lines(job.pid))

    state = tmp_path / "state"
    secrets = [path for path in (state / "secrets").glob("*/*") if path.parent.name != "acl"]
    logs = job.text + "".join(path.read_text() for path in state.glob("*.log"))
    assert job.returncode == 0, job.text
    assert len(secrets) >= 5
    assert any("geodes-tasks" in line for line in seen)
    for path in secrets:
        word = path.read_text().rpartition(":")[2]
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert word not in logs
        assert not [line for line in seen if word in line]


def command_lines(session: int) -> list[str]:
    """Give the command lines of all processes of a session, as every user of a node sees them."""
    listed = subprocess.run(
        ["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=False
    )
    return listed.stdout.splitlines()


def test_an_array_of_workers_takes_work_until_its_walltime(
    cluster: dict[str, str], standin: StandIn, redis_server: RedisServer, redis_url: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """One worker a task, on a Redis elsewhere; TERM ends it cleanly, and nowhere else it writes."""
    items = seeded(standin, tmp_path, 2, 16 * KiB)
    folder = tmp_path / "shared"
    env = cluster | {"GEODES_TASKS_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "geodes_tasks", "enqueue", str(items), "-o"]
    subprocess.run([*command, str(folder)], check=True, env=env)
    subprocess.run([*command, str(tmp_path / "elsewhere"), "--batch", "bad"], check=True, env=env)

    with Job(tmp_path, script("workers.sbatch"), str(folder), env=env) as job:
        wait_until(lambda: right(standin, folder), PATIENCE_S, "the files")
        wait_until(lambda: "OutsideRootsError" in job.text, PATIENCE_S, "the refusal")
        job.send(signal.SIGTERM)
        code = job.wait(PATIENCE_S)

    assert code == 0, job.text
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["geodes-tasks.sbatch", "workers.sbatch"])
def test_what_is_asked_of_slurm(name: str) -> None:
    """The signal comes to the script alone, and early enough; the shell can read the script."""
    text = script(name).read_text()
    options = re.findall(r"^#SBATCH (\S+)$", text, re.MULTILINE)
    (grace,) = re.findall(r"GEODES_TASKS_GRACE_SECONDS:-(\d+)", text)

    assert "--signal=B:TERM@120" in options
    assert int(grace) + 5 < 120
    if name == "geodes-tasks.sbatch":
        assert "--dependency=singleton" in options
    subprocess.run(["bash", "-n", str(script(name))], check=True)
    assert "flock" not in text
