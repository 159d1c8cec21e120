"""The page of licences is what the pinned packages state; an audit says what it audited."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests import audit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "licences.md"


def script() -> Any:
    """Load docs/make_licences.py."""
    spec = importlib.util.spec_from_file_location(
        "make_licences", ROOT / "docs" / "make_licences.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_licences_page_is_up_to_date() -> None:
    """Every pin is on the page in its version, with the licence that the package states."""
    assert list(script().differences(PAGE.read_text())) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (r"\| celery \| [\d.]+ \|", "| celery | 4.0 |", r"celery 5[\d.]+ is missing"),
        (r"\| celery \| [\d.]+ \|", "| celery | 4.0 |", "celery 4.0 is not pinned"),
        (r"\| running \| BSD-3-Clause \|", "| running | Unfree |", "the page 'Unfree'"),
        (r"\A[\s\S]*\Z", "", "is missing"),
    ],
)
def test_a_stale_page_is_noticed(old: str, new: str, problem: str) -> None:
    """Another version, another licence and a missing page are each said."""
    stale = re.sub(old, new, PAGE.read_text(), count=1)

    assert re.search(problem, "\n".join(script().differences(stale)))


def test_nothing_that_users_install_binds_them() -> None:
    """What runs has permissive licences, or ones that bind only whoever changes that package."""
    running = [row for row in script().written_rows(PAGE.read_text()) if row[2] == "running"]

    assert len(running) > 40
    bound = re.compile(r"(?<!L)GPL|AGPL|not stated|Proprietary|Commercial", re.IGNORECASE)
    assert [row for row in running if bound.search(row[3])] == []


FLAW = {"id": "CVE-1", "fix_versions": ["2"], "aliases": [], "description": ""}
CLEAN = {"name": "a", "version": "1", "vulns": []}
FLAWED = {"name": "b", "version": "1", "vulns": [FLAW]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 of 1 packages audited, 0 vulnerable"),
        ([CLEAN, FLAWED], audit.FOUND, "b 1: CVE-1, mended in 2"),
        ([CLEAN, SKIPPED], audit.NOT_AUDITED, "not audited, the index here has no such data: c"),
        ([FLAWED, SKIPPED], audit.FOUND, "not audited"),
    ],
)
def test_an_audit_says_what_it_did_not_look_at(
    packages: list[dict[str, Any]], code: int, said: str
) -> None:
    """A mirror without the data is no clean bill of health."""
    lines, found = audit.verdict(packages)

    assert found == code
    assert said in "\n".join(lines)
