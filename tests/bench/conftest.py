"""What the benches print at the end: each line with its ratio, and whether it is reached."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.bench import harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures together, below whatever the tests had to say."""
    if harness.written:
        terminalreporter.section("figures: median (lowest to highest)")
    for bench in harness.written:
        for line in bench.summary():
            terminalreporter.write_line(line)
    if harness.written:
        terminalreporter.write_line(f"written to {harness.RESULTS}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder for gigabytes; pytest would keep those of the last three runs."""
    place = tmp_path / "bench"
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)
