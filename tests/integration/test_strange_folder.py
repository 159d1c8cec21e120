"""Commands in a folder that a stranger has prepared: nothing in it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks.settings import config
from tests.standin import KiB, StandIn

MODULES = ("celery", "geodes_tasks", "json", "kombu", "redis", "requests", "typer", "worker")
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale in which a command starts itself again, in UTF-8 mode."""


@pytest.mark.parametrize("locale", [{}, PLAIN_C], ids=["usual", "C"])
def test_nothing_in_the_current_folder_is_run(tmp_path: Path, locale: dict[str, str]) -> None:
    """Neither modules with the names of ours, nor hooks in its pygeodes-config.json."""
    folder, planted = tmp_path / "strange", tmp_path / "planted"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(planted)!r}, 'a').write({name!r})\n")
    hooks = {"on_file": f"touch {planted}", "on_batch": f"touch {planted}"}
    (folder / "pygeodes-config.json").write_text(json.dumps(hooks))
    with StandIn("key") as portal:
        (folder / "items.json").write_text(json.dumps([portal.add_item(KiB)]))
        settings = config.load(portal_url=portal.url, api_key="key", state_dir=tmp_path / "state")
        named = config.environment(settings)
        del named["GEODES_TASKS_REDIS_URL"]
        kept = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [Path(sys.executable).with_name("geodes-tasks"), "download", "items.json", "-o", "out"],
            env=named | kept | locale,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert not planted.exists(), planted.read_text()
    assert "on_batch, on_file ignored" in done.stderr
