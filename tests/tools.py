"""Programs that some tests need beside Python: skipped without them here, failed in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(package: str, *names: str) -> str:
    """Give the path of a program under the first of its names that is installed.

    Args:
        package: What Debian calls the package that has it.
        names: The names it may have.
    """
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or absent(f"no {names[0]} is installed (Debian: apt-get install {package})")


def absent(problem: str) -> NoReturn:
    """Skip this test for want of something; where CI should have it, fail."""
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
