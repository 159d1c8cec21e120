"""Fixtures of the transfer tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def final(tmp_path: Path) -> Path:
    """Return the final path of the file to download."""
    return tmp_path / "downloads" / "a.zip"
