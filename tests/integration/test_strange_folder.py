"""Commands in a folder that a stranger has prepared: nothing in it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.integration.test_watch import variables
from tests.servers import Process, free_port
from tests.standin import KiB, StandIn

MODULES = sorted(
    {*sys.stdlib_module_names, *packages_distributions()}
    | {"celeryconfig", "flowerconfig", "orjson", "sitecustomize", "usercustomize", "worker"}
)
"""Names of all modules that a command may import, and of some that it tries to."""
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale in which a command starts itself again, in UTF-8 mode."""


def plant(folder: Path, planted: Path) -> None:
    """Write a module of each name, which leaves its name in a file when it is run."""
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(planted)!r}, 'a').write({name!r} + ' ')\n")


@pytest.mark.parametrize("locale", [{}, PLAIN_C], ids=["usual", "C"])
def test_nothing_in_the_current_folder_is_run(tmp_path: Path, locale: dict[str, str]) -> None:
    """Neither modules with the names of ours, nor hooks in its pygeodes-config.json."""
    folder, planted = tmp_path / "strange", tmp_path / "planted"
    folder.mkdir()
    plant(folder, planted)
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


@pytest.mark.parametrize(
    ("words", "ready"), [(["worker"], " ready."), (["flower", "--port={port}"], ":{port}")]
)
def test_the_programs_of_a_cluster_run_nothing_either(
    settings: Config, tmp_path: Path, words: list[str], ready: str
) -> None:
    """A worker imports no module of the folder, and Flower reads no flowerconfig.py."""
    folder, planted, port = tmp_path / "strange", tmp_path / "planted", str(free_port())
    folder.mkdir()
    plant(folder, planted)
    process = Process(tmp_path / "log")
    try:
        process.spawn(
            [
                str(Path(sys.executable).with_name("geodes-tasks")),
                *(word.format(port=port) for word in words),
                *(["--loglevel", "INFO"] if "worker" in words else []),
            ],
            env=os.environ | variables(settings),
            cwd=folder,
        )
        process.wait_for(ready.format(port=port), 60)
    finally:
        process.stop()

    assert not planted.exists(), planted.read_text()
    if "worker" not in words:
        assert "flowerconfig.py is not read: to read it add --conf=" in process.text
