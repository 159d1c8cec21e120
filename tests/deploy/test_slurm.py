"""The job scripts as text: options asked of Slurm, and times that fit each other.

What they do is shown by the real programs, in ``tests/real/test_slurm.py``.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SLURM = Path(__file__).parents[2] / "deploy" / "slurm"
LEAD_S = 120
"""Seconds between the signal and the walltime."""
KILL_WAIT_S = 30
"""Slurm's own default: seconds between SIGTERM and SIGKILL at ``scancel JOB``."""
LAST_RESORT_S = 5
"""Seconds after the grace time at which a worker exits, whatever hangs."""
SCRIPTS = ("geodes-tasks.sbatch", "workers.sbatch")


def options(name: str) -> list[str]:
    """Return the options that a script asks of Slurm."""
    return re.findall(r"^#SBATCH (\S+)$", (SLURM / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_worker_stops_before_slurm_kills_it(name: str) -> None:
    """The script alone gets the signal, and the grace time fits both deadlines of Slurm."""
    (grace,) = re.findall(r"GEODES_TASKS_GRACE_SECONDS:-(\d+)", (SLURM / name).read_text())

    assert f"--signal=B:TERM@{LEAD_S}" in options(name)
    assert int(grace) + LAST_RESORT_S < KILL_WAIT_S < LEAD_S


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_job_can_be_requeued(name: str) -> None:
    """Slurm may run it again, and then keeps the first run's log."""
    assert {"--requeue", "--open-mode=append"} <= set(options(name))


def test_one_job_at_a_time_has_the_folder_of_redis() -> None:
    """Slurm itself keeps two of these jobs apart; no lock of a file system is used."""
    assert "--dependency=singleton" in options("geodes-tasks.sbatch")
    assert "flock" not in (SLURM / "geodes-tasks.sbatch").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_can_read_it(name: str) -> None:
    """No syntax error."""
    subprocess.run(["bash", "-n", str(SLURM / name)], check=True)
