"""Programs that some tests need beside Python: skipped without them here, failed in CI.

A program that is installed and does not work counts as missing: a ``docker`` without its plugin
for compose, a ``chromium`` that is only a note to install another package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

PROOF = {"ip": "-V", "tmux": "-V", "slurmctld": "-V", "slurmd": "-V"}
"""Option that a program without ``--version`` answers with exit code 0."""
PATIENCE_S = 60


def need(package: str, *names: str) -> str:
    """Return the path of a program of which CI has the package; else skip, in CI fail.

    Args:
        package: Debian's name of the package that has the program.
        names: The names that the program may have; the first one that works is taken.
    """
    problems = [f"no {names[0]} is installed"]
    for name in names:
        if path := shutil.which(name):
            problem = failure(path, PROOF.get(name, "--version"))
            if not problem:
                return path
            problems.append(problem)
    return absent(f"{problems[-1]} (Debian: apt-get install {package})")


def optional(*programs: Sequence[str], proof: str = "--version") -> list[str]:
    """Return the first of these programs that works, by its path; else skip, also in CI.

    CI installs none of them.

    Args:
        programs: A program each, with the subcommand that the test needs.
        proof: Word that it answers with exit code 0 where it works.
    """
    problems = [f"no {programs[0][0]} is installed"]
    for words in programs:
        if path := shutil.which(words[0]):
            command = [path, *words[1:]]
            problem = failure(*command, proof)
            if not problem:
                return command
            problems.append(problem)
    pytest.skip(problems[-1])


@cache
def failure(*command: str) -> str:
    """Return why a command does not work, in one line; empty when it ends with 0."""
    words = " ".join(command)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, timeout=PATIENCE_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{words}` does not work: {error}"
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"`{words}` does not work, exit code {done.returncode}: {said[0] if said else 'silent'}"


def absent(problem: str) -> NoReturn:
    """Skip this test for want of something; where CI should have it, fail."""
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
