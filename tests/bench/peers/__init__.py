"""The programs that figures are held against: found, or installed where that can be done."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess

INSTALL_SECONDS = 180


@functools.cache
def command(name: str, package: str) -> str | None:
    """Find a program, installing its Debian package when this is root on a Debian machine.

    Returns:
        Its path; None when it is not there and cannot be had.
    """
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        subprocess.run(install, check=False, capture_output=True, timeout=INSTALL_SECONDS)
        found = shutil.which(name)
    return found


def library(name: str) -> bool:
    """Tell whether a Python peer is there; the ``test`` extra brings it from PyPI."""
    return importlib.util.find_spec(name) is not None
