"""Machines whose locale is not UTF-8: names of every script are downloaded and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks.settings import config
from tests.standin import KiB, StandIn

PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""As Python 3.6 saw the locale C: today it must be forced."""
NAMES = {"plain.zip", "\u00e9t\u00e9.zip", "\u885b\u661f.zip"}


@pytest.mark.parametrize(
    "locale", [PLAIN_C, {"PYTHONIOENCODING": "ascii"}], ids=["C", "ascii terminal"]
)
def test_every_name_is_downloaded_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    """A folder and files with accents and in Chinese, planned, downloaded and shown."""
    with StandIn("key") as portal:
        items = [portal.add_item(KiB, title=name, identifier=name) for name in sorted(NAMES)]
        (tmp_path / "items.json").write_text(json.dumps(items))
        settings = config.load(portal_url=portal.url, api_key="key", state_dir=tmp_path / "state")
        named = config.environment(settings)
        del named["GEODES_TASKS_REDIS_URL"]
        kept = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
        folder = tmp_path / "T\u00e9l\u00e9chargements"

        def run(*more: str) -> subprocess.CompletedProcess[str]:
            words = ["-m", "geodes_tasks", "download", "items.json", "-o", str(folder), *more]
            return subprocess.run(
                [sys.executable, *words],
                env=named | kept | locale,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )

        plan, done = run("--dry-run"), run()

    assert (plan.returncode, done.returncode) == (0, 0), plan.stderr + done.stderr
    assert {path.name for path in folder.glob("*.zip")} == NAMES
