"""The command ``config show``: what is in force and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geodes_tasks.cli.command_group import app

SECRET = "hush-hush-1234"


def test_config_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting has its value and origin, for people and for programs; secrets are stars."""
    monkeypatch.setenv("GEODES_API_KEY", SECRET)
    Path("mine.json").write_text(json.dumps({"download_dir": "/mine"}))

    table = CliRunner().invoke(app, ["config", "show"], env={"COLUMNS": "200"})
    data = CliRunner().invoke(app, ["config", "show", "--json", "--config", "mine.json"])

    found = {one["name"]: one for one in json.loads(data.stdout)}
    assert found["api_key"] == {"name": "api_key", "value": "***", "origin": "GEODES_API_KEY"}
    assert found["download_dir"]["origin"] == "mine.json"
    # No command uses the default address of Redis.
    assert found["redis_url"] == {"name": "redis_url", "value": None, "origin": "default"}
    assert "max_concurrent" in table.stdout
    assert "config.toml" in table.stdout
    assert SECRET not in table.stdout + data.stdout
