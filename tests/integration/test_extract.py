"""``--extract`` from end to end: archives become folders, once; damage is found and repaired."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.settings import config
from geodes_tasks.utils.profile import DownloadQueue
from tests.standin import StandIn

KEY = "standin-key-0123456789"
BAND = "S2.SAFE/GRANULE/B04.jp2"
Run = Callable[..., subprocess.CompletedProcess[str]]


def members(number: int) -> dict[str, bytes]:
    """Return the members of a product."""
    return {"S2.SAFE/manifest.safe": b"<xfdu/>", BAND: bytes([number]) * 50_000}


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[StandIn]:
    """Start a portal with three products, and a file of them."""
    with StandIn(KEY) as standin:
        for number in range(3):
            standin.add_item(identifier=f"P{number}", members=members(number))
        (tmp_path / "items.json").write_text(json.dumps(standin.items))
        yield standin


@pytest.fixture
def run(portal: StandIn, tmp_path: Path) -> Run:
    """Return what runs the program as a person would."""
    settings = config.load(
        portal_url=portal.url, api_key=KEY, quota="off", backoff_seconds=0.05,
        s3_endpoint_url="http://127.0.0.1:1", state_dir=tmp_path / "state",
    )  # fmt: skip
    named = config.environment(settings)
    del named["GEODES_TASKS_REDIS_URL"]
    kept = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "geodes_tasks", *words],
            env=named | kept, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return ran


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the outcomes of a run with ``--json``."""
    assert done.returncode == 0, done.stderr
    return {name: count for name, count in json.loads(done.stdout)["outcomes"].items() if count}


def names(folder: Path) -> list[str]:
    """Return what is in a folder, part files left out."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_archives_become_folders_once(portal: StandIn, run: Run, tmp_path: Path) -> None:
    """Folders, records that name them, no second request, damage found and repaired alone."""
    command = ("download", "items.json", "-o", "files", "--extract", "--json")
    folder = tmp_path / "files"

    first, again = run(*command), run(*command)

    assert outcome(first) == {"DOWNLOADED": 3}
    assert outcome(again) == {"ALREADY_PRESENT": 3}
    assert names(folder) == ["P0", "P1", "P2"]
    assert (folder / "P1" / BAND).read_bytes() == members(1)[BAND]
    assert len(portal.downloads()) == 3
    assert run("verify", "files").returncode == 0

    (folder / "P1" / BAND).write_bytes(b"\0" * 50_000)
    found = run("verify", "files")
    repaired = run("verify", "files", "--repair")

    assert (found.returncode, repaired.returncode) == (3, 0), repaired.stderr
    assert BAND in found.stdout + found.stderr
    assert (folder / "P1" / BAND).read_bytes() == members(1)[BAND]
    assert len(portal.downloads()) == 4


@pytest.mark.slow
def test_an_archive_in_the_place_of_its_folder_is_named(run: Run, tmp_path: Path) -> None:
    """With some layouts both have one path: the file is no folder that is there already."""
    command = ("download", "items.json", "-o", "files", "--layout", "{item}", "--json")
    outcome(run(*command))

    plan = json.loads(run(*command, "--extract", "--dry-run").stdout)
    unpacked = run(*command, "--extract")

    assert [one["present"] for one in plan["downloads"]] == [False] * 3
    assert unpacked.returncode == 3
    assert json.loads(unpacked.stdout)["failures"][0]["class"] == "NotAFileError"
    assert (tmp_path / "files" / "P0").is_file()


@pytest.mark.slow
def test_archives_are_kept_on_demand(portal: StandIn, run: Run, tmp_path: Path) -> None:
    """``--keep-archive`` leaves both; alone it is a mistake. One bad archive fails alone."""
    bad = portal.add_item(identifier="BAD", members={"../evil": b"x", "a": b"a"})
    (tmp_path / "bad.json").write_text(json.dumps(bad))

    kept = run("download", "items.json", "bad.json", "-o", "f", "--extract", "--keep-archive")
    mistake = run("download", "items.json", "-o", "g", "--keep-archive")

    assert (kept.returncode, mistake.returncode) == (3, 2)
    assert "--extract" in mistake.stderr
    assert "../evil" in kept.stderr
    expected = {name for n in range(3) for name in (f"P{n}", f"P{n}.zip")}
    assert expected <= set(names(tmp_path / "f")) <= expected | {"BAD.zip"}
    assert not (tmp_path / "evil").exists()


def test_a_queue_unpacks(portal: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``DownloadQueue(items, extract=True)`` does the same from Python."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    settings = config.load(
        portal_url=portal.url, api_key=KEY, quota="off", state_dir=tmp_path / "state"
    )
    queue = DownloadQueue(portal.items, tmp_path / "files", extract=True, conf=settings, quiet=True)

    status = queue.run()

    assert status.states["SUCCESS"] == 3
    assert names(tmp_path / "files") == ["P0", "P1", "P2"]
    assert {Path(record.path).name for record in queue.results} == {"P0", "P1", "P2"}
    assert all(record.verified for record in queue.results)
    assert queue.check_integrity() == []
