"""The views as they are at a shell; a notebook has a test of its own."""

from __future__ import annotations

import pytest

from geodes_tasks.errors import write_for_shell


@pytest.fixture(autouse=True)
def at_a_shell() -> None:
    """Read the views at a shell."""
    write_for_shell()
