"""An environment without settings for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder, without settings in the environment."""
    prefixes = ("GEODES_", "AWS_", "REQUESTS_CA_BUNDLE")
    for name in [name for name in os.environ if name.upper().startswith(prefixes)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
