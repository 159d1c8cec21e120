"""The sample of `make mutants`: each mutant has a name of its own, and the seed alone draws it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import mutants

ROOT = Path(__file__).parents[2]
CODE = """
def first(size):
    if not size:
        return True
    return True

def second(size):
    return size == 1
"""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the mutants of `CODE`."""
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "SUBJECTS", {"model": ("room", "tests/unit/model/test_*.py")})
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "module.py").write_text(CODE)
    return [mutant.name for mutant in mutants.sample(100)]


def test_two_places_of_the_same_text_have_two_names(names: list[str]) -> None:
    """A line of the known ones names one place."""
    assert len(set(names)) == len(names)
    assert "room/module.py: first: True -> False" in names
    assert "room/module.py: first#2: True -> False" in names


def test_another_function_does_not_change_the_sample(names: list[str], tmp_path: Path) -> None:
    """Mutants keep their names and their order while code around them comes and goes."""
    (tmp_path / "room" / "module.py").write_text(
        "def zero(size):\n    return size < 1\n" + CODE.replace("size == 1", "size == 3")
    )

    later = [mutant.name for mutant in mutants.sample(100)]

    assert [name for name in later if ": first" in name] == [
        name for name in names if ": first" in name
    ]


def test_a_subject_that_is_none_is_refused() -> None:
    """A misspelt ``ONLY=`` tests nothing, so it is an error."""
    command = [sys.executable, "-m", "tests.mutants", "--only", "scripts"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "no subject 'scripts'; there are transfer, model, http, stac, lua" in done.stderr
