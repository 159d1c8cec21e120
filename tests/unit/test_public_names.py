"""The package's public names can be found: by ``dir()``, ``help()``, an import, and mypy."""

from __future__ import annotations

import pydoc
import subprocess
import sys

import pytest

import geodes_tasks

PUBLIC = {
    "Geodes", "Config", "Item", "DownloadQueue", "Profile", "Batch", "enqueue", "batch", "batches",
    "errors",
}  # fmt: skip


def test_dir_shows_the_public_names_alone() -> None:
    """Tab completion offers what users need, and no machinery of the module."""
    shown = {name for name in dir(geodes_tasks) if not name.startswith("__")}

    assert shown >= PUBLIC
    assert shown <= set(geodes_tasks.__all__)


def test_dir_loads_nothing() -> None:
    """``dir()`` of a fresh interpreter has every name and loads no library for it."""
    code = (
        "import sys, geodes_tasks; names = dir(geodes_tasks); "
        "print(*names); print(*sorted({'boto3', 'celery', 'pystac', 'redis'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    names, loaded = done.stdout.split("\n")[:2]
    assert set(names.split()) >= PUBLIC
    assert loaded == ""


@pytest.mark.parametrize("name", sorted(PUBLIC - {"errors"}))
def test_help_describes_a_public_name(name: str) -> None:
    """``help(geodes_tasks)`` describes each class and function."""
    text = pydoc.plain(pydoc.render_doc(geodes_tasks))

    assert f"class {name}(" in text or f"    {name}(" in text


def test_a_star_import_has_every_name() -> None:
    """``from geodes_tasks import *`` gives every public name."""
    scope: dict[str, object] = {}
    exec("from geodes_tasks import *", scope)  # noqa: S102 - the import under test

    assert set(scope) >= PUBLIC
    assert all(scope[name] is getattr(geodes_tasks, name) for name in PUBLIC)
