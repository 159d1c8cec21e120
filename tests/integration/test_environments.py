"""Machines that lack something: a name for the user, a home, a working folder, calls of Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_cli import CommandLine, command, write_items, wrong_files
from tests.standin import KiB, MiB, StandIn

NO_USER = """
import pwd

def unknown(*_):
    raise KeyError("uid not found")

pwd.getpwuid = pwd.getpwnam = unknown
"""
"""A container with an arbitrary uid has no entry in /etc/passwd (OpenShift runs such ones)."""
MACOS = """
import os

for name in ("sched_getaffinity", "fdatasync", "posix_fadvise", "posix_fallocate"):
    delattr(os, name)
"""
"""Python on macOS has none of these (docs.python.org, "Availability" of each)."""


@pytest.fixture
def cli(
    standin: StandIn, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Return the command line, with sockets of its own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    return CommandLine(standin)


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [NO_USER, MACOS], ids=["no user", "macOS"])
def test_a_machine_that_lacks_something(
    standin: StandIn, cli: CommandLine, tmp_path: Path, lacking: str
) -> None:
    """Server, worker and commands do without it: download, status and verify."""
    items = [standin.add_item(20 * MiB), standin.add_item(32 * KiB)]
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(lacking)
    variables = {"PYTHONPATH": str(site)}
    if lacking is NO_USER:
        # Without USER and LOGNAME getpass asks the password database (getpass.getuser).
        variables |= {"HOME": "/nowhere", "USER": "", "LOGNAME": "", "LNAME": "", "USERNAME": ""}

    done = cli("download", write_items(items), "-o", "out", **variables)
    status = cli("status", "-o", "out", "--json", **variables)
    checked = cli("verify", "out", **variables)

    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr + checked.stderr
    assert wrong_files(standin, items) == []
    assert status.returncode == 0, status.stderr
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.slow
def test_a_working_folder_that_was_removed(
    standin: StandIn, cli: CommandLine, tmp_path: Path
) -> None:
    """A job whose folder is gone downloads where it is told to, by absolute names."""
    item = standin.add_item(32 * KiB)
    items, folder = tmp_path / write_items([item]), tmp_path / "out"
    words = " ".join(command("download", str(items.absolute()), "-o", str(folder)))
    script = f"mkdir gone && cd gone && rmdir ../gone && exec {words}"

    done = subprocess.run(
        ["sh", "-c", script], env=os.environ | cli.settings, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert wrong_files(standin, [item], str(folder)) == []
    assert sys.executable in words
