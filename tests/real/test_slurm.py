"""The job scripts in a real Slurm: sbatch, srun, scancel, walltime and requeue."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import KEY, require_server
from tests.real.slurm import KILL_WAIT_S, Job, Slurm, command_lines
from tests.servers import RedisServer, wait_until
from tests.standin import KiB, MiB, StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
"""Seconds; a job starts a dozen interpreters, which takes its time on a busy machine."""
PERIOD_S = 30
"""Seconds between two looks of slurmctld at its jobs' time limits."""
GRACE_S = 2
LEASE_S = 5
pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Start a Slurm of two nodes for all tests here."""
    if os.geteuid() != 0:
        pytest.skip("slurmd runs as root, and this user is not")
    require_server()
    with Slurm() as running:
        yield running


class Site:
    """One user's account on the cluster: settings, items, and the shared folder."""

    def __init__(self, slurm: Slurm, standin: StandIn, home: Path) -> None:
        """Write the key's file; nothing runs yet."""
        self.slurm, self.standin, self.home = slurm, standin, home
        self.folder, self.state = home / "shared", home / "state"
        self.items = home / "items.json"
        (home / "geodes.key").write_text(KEY)
        (home / "geodes.key").chmod(0o600)
        standin.settings.change(range="good")
        self.env = {
            **{name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "GEODES_TASKS_SLURM_STATE": str(self.state),
            "GEODES_API_KEY_FILE": str(home / "geodes.key"),
            "GEODES_TASKS_PORTAL_URL": standin.url,
            "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1",
            "GEODES_TASKS_QUOTA": "off",
            "GEODES_TASKS_MAX_CONCURRENT": "4",
            "GEODES_TASKS_LEASE_SECONDS": str(LEASE_S),
            "GEODES_TASKS_GRACE_SECONDS": str(GRACE_S),
            "GEODES_TASKS_STATE_DIR": str(home / "client"),
        }

    def seed(self, count: int, size: int) -> None:
        """Fill the catalogue, and write its items to a file."""
        for _ in range(count):
            self.standin.add_item(size)
        whole = {"type": "FeatureCollection", "features": self.standin.items}
        self.items.write_text(json.dumps(whole))

    def submit(self, *, script: Path | None = None, name: str = "job", nodes: int = 1) -> Job:
        """Submit the job script from the checkout."""
        return self.slurm.submit(
            script or ROOT / "deploy" / "slurm" / "geodes-tasks.sbatch",
            str(self.items), os.path.relpath(self.folder, ROOT), "monday",
            options=(f"--nodes={nodes}", "--time=10", f"--job-name={self.home.name}"),
            env=self.env, cwd=ROOT, log=self.home / f"{name}.log",
        )  # fmt: skip

    def submit_workers(self, redis_url: str, count: int = 2) -> list[Job]:
        """Submit an array of workers; the list has one job for each."""
        log = self.home / "worker-%a.log"
        array = self.slurm.submit(
            ROOT / "deploy" / "slurm" / "workers.sbatch", os.path.relpath(self.folder, ROOT),
            options=(f"--array=1-{count}", "--time=10"), cwd=ROOT, log=log,
            env=self.env | {"GEODES_TASKS_REDIS_URL": redis_url},
        )  # fmt: skip
        return [
            Job(self.slurm, f"{array.number}_{task}", self.home / f"worker-{task}.log")
            for task in range(1, count + 1)
        ]

    def client(self, redis_url: str, *words: str) -> str:
        """Run a command of the client on this machine; return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "geodes_tasks", *words], check=True, capture_output=True,
            text=True, env=self.env | {"GEODES_TASKS_REDIS_URL": redis_url},
        )  # fmt: skip
        return done.stdout

    def under_way(self, count: int) -> None:
        """Wait until so many part files have bytes."""
        wait_until(lambda: len(self.parts()) >= count, PATIENCE_S, "transfers under way")

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part file that has any."""
        sizes = {path.name: path.stat().st_size for path in self.folder.rglob("*.part")}
        return {name: size for name, size in sizes.items() if size}

    def check_files(self, *, parts: int = 0) -> None:
        """Check that every file is there with its MD5, and so many part files at most."""
        files = [
            file for item in self.standin.items
            for file in self.standin.portal.catalogue.files(str(item["id"])) if file.archive
        ]  # fmt: skip
        wanted = {file.title: file.md5 for file in files}
        found = {
            path.name: hashlib.md5(path.read_bytes()).hexdigest()
            for path in self.folder.glob("*.zip")
        }
        assert found == wanted
        assert len(self.parts()) <= parts

    def check_continued(self) -> None:
        """Check that every item's last request continued from bytes on disk."""
        for item in self.standin.items:
            last = self.standin.downloads(item)[-1]
            assert last.status == 206, self.standin.downloads(item)


@pytest.fixture
def site(slurm: Slurm, standin: StandIn, tmp_path: Path) -> Site:
    """Return an account with an empty folder."""
    return Site(slurm, standin, tmp_path)


def last_status(job: Job) -> dict[str, Any]:
    """Return what ``status --json`` printed at the end of a job."""
    lines = [line for line in job.text.splitlines() if line.startswith('{"batch":')]
    assert lines, job.text
    status: dict[str, Any] = json.loads(lines[-1])
    return status


def test_a_job_downloads_everything(site: Site) -> None:
    """On two nodes: all files are there, no worker was killed, and no password was in sight."""
    # Slow enough that the second worker is ready before the first has everything.
    site.standin.settings.rate = 8 * KiB
    site.seed(6, 64 * KiB)
    job = site.submit(nodes=2)
    seen: set[str] = set()
    while job.state in {"PENDING", "RUNNING", "COMPLETING"}:
        seen |= command_lines()

    assert (job.state, job.shown("ExitCode")) == ("COMPLETED", "0:0"), job.text
    site.check_files()
    assert job.text.count(" ready.") == 2
    assert "Killed" not in job.text
    assert "forcing job termination" not in job.text
    assert any("geodes-tasks worker" in line for line in seen)
    check_secrets(site, job, seen)


def check_secrets(site: Site, job: Job, seen: set[str]) -> None:
    """Check that passwords are in files of this user alone, and nowhere else."""
    files = [one for one in (site.state / "secrets").glob("*/*") if one.parent.name != "acl"]
    logs = job.text + "".join(path.read_text() for path in site.state.glob("*.log"))
    assert len(files) >= 5
    for path in files:
        password = path.read_text().rpartition(":")[2]
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert password not in logs
        assert not [line for line in seen if password in line]


def test_the_walltime_gives_work_back_and_the_next_job_continues(site: Site) -> None:
    """Slurm's own signal before the walltime: bytes are kept, and the next job starts from them."""
    site.standin.settings.rate = 128 * KiB
    site.seed(4, 16 * MiB)
    first = site.submit(name="first")
    site.under_way(4)

    # Of the 120 s before the end that the script asks for, this leaves fewer: the signal is due.
    site.slurm.run("scontrol", "update", f"JobId={first.number}", "TimeLimit=2")
    ended = first.wait(PERIOD_S + PATIENCE_S)

    assert ended == ("FAILED", "75:0"), first.text
    status = last_status(first)
    assert status["states"]["STARTED"] == 0, first.text
    assert status["states"]["RETRY"] == 4, first.text
    assert status["waiting"] == {"worker-stopped": 4}, first.text
    assert "Killed" not in first.text
    assert len(site.parts()) == 4

    site.standin.settings.rate = None
    second = site.submit(name="second")

    assert second.wait(PATIENCE_S) == ("COMPLETED", "0:0"), second.text
    site.check_files()
    site.check_continued()


def test_only_the_workers_step_gets_the_signal(site: Site, tmp_path: Path) -> None:
    """In a job whose first step is another one, its workers stop cleanly and that step runs on."""
    site.standin.settings.rate = 128 * KiB
    site.seed(2, 16 * MiB)
    around = tmp_path / "around.sh"
    around.write_text(
        "#!/bin/bash\n"
        "srun --overlap --ntasks=1 --job-name=other bash -c 'echo first; exec sleep 600' &\n"
        "other=$!\n"
        f"until grep -q first {site.home}/job.log; do sleep 0.1; done\n"
        'trap \'squeue --noheader --steps --jobs=$SLURM_JOB_ID --format="left: %i %j";'
        " scancel --signal=KILL $SLURM_JOB_ID.0; wait $other || true' EXIT\n"
        f'. {ROOT}/deploy/slurm/geodes-tasks.sbatch "$@"\n'
    )
    job = site.submit(script=around)
    site.under_way(2)

    job.cancel("--batch", "--signal=TERM")

    assert job.wait(PATIENCE_S) == ("FAILED", "75:0"), job.text
    assert last_status(job)["waiting"] == {"worker-stopped": 2}, job.text
    assert f"left: {job.number}.0 other" in job.text
    assert "geodes-workers" not in job.text


def test_a_signal_while_the_job_starts_is_not_lost(site: Site) -> None:
    """SIGTERM before Redis answers: the job ends in order, and asks to be submitted again."""
    site.seed(1, KiB)
    job = site.submit()
    wait_until((site.state / "redis.log").exists, PATIENCE_S, "Redis starting")

    job.cancel("--batch", "--signal=TERM")

    assert job.wait(PATIENCE_S) == ("FAILED", "75:0"), job.text
    assert "not done: submit it again" in job.text


@pytest.mark.parametrize(
    ("victim", "reason"),
    [("geodes-tasks worker", "all workers have ended"), ("redis-server", "Redis has ended")],
)
def test_a_job_without_workers_or_redis_ends_at_once(site: Site, victim: str, reason: str) -> None:
    """Workers or Redis killed: the job ends with the reason, long before its walltime."""
    site.standin.settings.rate = 128 * KiB
    site.seed(2, 16 * MiB)
    job = site.submit()
    site.under_way(2)
    began = time.monotonic()

    assert job.kill(victim) > 0, job.text
    ended = job.wait(PATIENCE_S)

    assert ended == ("FAILED", "1:0"), job.text
    assert reason in job.text
    assert time.monotonic() - began < 30, job.text
    assert site.parts() != {}


def test_an_array_of_workers_joins_and_leaves(
    site: Site, redis_server: RedisServer, redis_url: str
) -> None:
    """Workers of an array share the work; the signal and ``scancel`` make them give it back."""
    site.env["GEODES_TASKS_MAX_CONCURRENT"] = "8"
    site.standin.settings.rate = 128 * KiB
    site.seed(4, 16 * MiB)
    enqueue = ("enqueue", str(site.items), "--output-dir")
    site.client(redis_url, *enqueue, str(site.folder), "--batch", "monday")
    site.client(redis_url, *enqueue, str(site.home / "elsewhere"), "--batch", "bad")
    first, second = site.submit_workers(redis_url)
    site.under_way(4)
    for one in (first, second):
        one.wait_for(" ready.", PATIENCE_S)
    wait_until(lambda: "OutsideRootsError" in first.text + second.text, PATIENCE_S, "the refusal")
    began = time.monotonic()

    first.cancel("--batch", "--signal=TERM")
    second.cancel()
    ends = [first.wait(PATIENCE_S)[0], second.wait(PATIENCE_S)[0]]
    took_s = time.monotonic() - began

    logs = first.text + second.text
    status = json.loads(site.client(redis_url, "status", "monday", "--json"))
    assert ends == ["COMPLETED", "CANCELLED"], logs
    assert status["waiting"] == {"worker-stopped": 4}, logs
    assert took_s < KILL_WAIT_S, logs
    assert len(site.parts()) == 4
    assert not (site.home / "elsewhere").exists()


def test_an_array_without_redis_ends(site: Site) -> None:
    """A wrong address does not use up the walltime: the job ends with the error's own line."""
    (job,) = site.submit_workers("redis://127.0.0.1:1/0", count=1)

    assert job.wait(PATIENCE_S) == ("FAILED", "1:0"), job.text
    assert "no answer from Redis at redis://127.0.0.1:1/0" in job.text
    assert "Traceback" not in job.text


@pytest.mark.parametrize("requeue", [False, True], ids=["scancel", "requeue"])
def test_a_job_that_was_killed_continues(site: Site, requeue: bool) -> None:
    """``scancel JOB`` and a new job, or a requeue: it continues from the bytes on disk."""
    site.standin.settings.rate = 128 * KiB
    site.seed(2, 16 * MiB)
    first = site.submit(name="first")
    site.under_way(2)

    if requeue:
        site.slurm.run("scontrol", "requeue", first.number)
        second = first
        wait_until(lambda: first.shown("Restarts") == "1", PATIENCE_S, "the requeue")
    else:
        first.cancel()
        assert first.wait(PATIENCE_S)[0] == "CANCELLED", first.text
        second = site.submit(name="second")
    site.standin.settings.rate = None

    assert second.wait(PATIENCE_S) == ("COMPLETED", "0:0"), second.text
    site.check_files()
    site.check_continued()


def test_a_lost_node_does_no_harm_to_the_job_that_slurm_runs_again(site: Site) -> None:
    """Its processes run on: the new run has a ledger of its own, and continues from the bytes."""
    site.standin.settings.rate = 128 * KiB
    site.seed(2, 16 * MiB)
    job = site.submit()
    site.under_way(2)
    (lost,) = job.processes("redis-server")
    # A node without a network: its srun does not learn either that the node is given up.
    job.kill("srun ", signal.SIGSTOP)

    with site.slurm.lost_node(job):
        wait_until(lambda: job.shown("Restarts") == "1", PATIENCE_S, "the requeue")
        job.wait_for(" ready.", PATIENCE_S, times=2)
        (redis,) = job.processes("redis-server")
        # Redis works in the folder of its files.
        assert Path(f"/proc/{redis}/cwd").readlink() != Path(f"/proc/{lost}/cwd").readlink()
        site.standin.settings.rate = None
        ended = job.wait(PATIENCE_S)

    assert ended == ("COMPLETED", "0:0"), job.text
    # What the workers of the lost node had begun is void; the next job that wants it tidies it up.
    site.check_files(parts=2)
    for item in site.standin.items:
        assert 206 in {one.status for one in site.standin.downloads(item)}


def test_a_suspended_job_continues(site: Site) -> None:
    """`scontrol suspend` for longer than the lease: it continues as if nothing had happened."""
    site.standin.settings.rate = 128 * KiB
    site.seed(2, 2 * MiB)
    job = site.submit()
    site.under_way(2)

    site.slurm.run("scontrol", "suspend", job.number)
    wait_until(lambda: job.state == "SUSPENDED", PATIENCE_S, "the suspension")
    time.sleep(LEASE_S + 1)
    site.slurm.run("scontrol", "resume", job.number)

    assert job.wait(PATIENCE_S) == ("COMPLETED", "0:0"), job.text
    site.check_files()
