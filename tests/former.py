"""The wheel of version 0.1.0, built from its commit and unpacked."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMIT = "10fcfe6"
"""Of release 0.1.0; tags do not travel with every copy."""


def former_version(folder: Path) -> str:
    """Build the wheel of 0.1.0 and unpack it; its folder, put on ``PYTHONPATH``, comes first."""
    known = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{COMMIT}^{{commit}}"],
        capture_output=True, check=False,
    )  # fmt: skip
    if known.returncode:
        pytest.skip(f"commit {COMMIT} of version 0.1.0 is not in this history")
    archive, source, site = folder / "source.tar", folder / "source", folder / "site"
    subprocess.run(["git", "-C", str(ROOT), "archive", "-o", str(archive), COMMIT], check=True)
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(folder), str(source)],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(built), str(site)], check=True)
    return str(site)
