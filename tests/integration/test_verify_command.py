"""``verify``: damage is found and mended, on a cluster, on one machine, and with a report alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from tests.integration.test_cli import CommandLine, file_of, write_items, wrong_files
from tests.integration.test_report_command import command
from tests.integration.test_watch import variables
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import Item, StandIn


def spoil(path: Path) -> None:
    """Flip a bit and put the time back, as a failing disk would."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    with path.open("r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def items(standin: StandIn) -> list[Item]:
    """Put six items into the catalogue."""
    return [standin.add_item(32 * KiB) for _ in range(6)]


def damaged(items: list[Item], folder: str) -> list[Path]:
    """Flip, cut and delete one file each, and give them."""
    flipped, cut, gone = (file_of(item, folder) for item in items[:3])
    spoil(flipped)
    os.truncate(cut, 1000)
    gone.unlink()
    return [flipped, cut, gone]


def test_batch_is_mended_by_the_cluster(
    standin: StandIn, settings: Config, worker: WorkerFactory, items: list[Item]
) -> None:
    """``--repair`` fetches exactly the three damaged files again; then all is right: code 0."""
    folder = str(settings.download_dir)
    worker()
    enqueue(items, conf=settings, batch="mine").wait(20)
    bad = damaged(items, folder)
    standin.reset_log()

    found = command(settings, "verify", "mine", "--json")
    mended = command(settings, "verify", "mine", "--repair")
    after = command(settings, "verify", "mine")

    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.returncode == 3
    assert {line["path"]: line["finding"] for line in lines} == {
        str(bad[0]): "changed", str(bad[1]): "wrong size", str(bad[2]): "missing",
    }  # fmt: skip
    assert (mended.returncode, after.returncode) == (0, 0), mended.stderr
    assert len(standin.downloads()) == 3
    assert wrong_files(standin, items, folder) == []
    assert after.stderr.splitlines()[-1:] == ["6 files, 196.6 kB: 6 right"]
    assert "" not in after.stderr.splitlines()


@pytest.mark.slow
def test_folder_is_mended_on_one_machine(
    standin: StandIn, items: list[Item], tmp_path: Path
) -> None:
    """After ``download`` the folder itself is enough, to find and to mend."""
    cli = CommandLine(standin)
    source = write_items(items)
    assert cli("download", source, "-o", "out", "--no-progress").returncode == 0
    damaged(items, "out")
    standin.reset_log()

    found, mended, after = (ours(cli, "verify", "out", *more) for more in ((), ("--repair",), ()))

    assert (found.returncode, mended.returncode, after.returncode) == (3, 0, 0), mended.stderr
    assert len(standin.downloads()) == 3
    assert wrong_files(standin, items) == []

    at_home = cli("verify", "~/out", HOME=str(tmp_path))
    Path("out").rename("away")
    moved = ours(cli, "verify", "out")

    assert (at_home.returncode, moved.returncode) == (0, 3)
    assert "6 files, 0 B: 6 missing" in moved.stderr


def ours(cli: CommandLine, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of one-machine mode."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *words],
        env=os.environ | cli.settings,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_report_alone_is_enough(
    standin: StandIn, settings: Config, worker: WorkerFactory, items: list[Item]
) -> None:
    """With a report of the past, neither Redis nor portal is needed."""
    folder = str(settings.download_dir)
    worker()
    enqueue(items, conf=settings, batch="mine").wait(20)
    Path("r.jsonl").write_text(command(settings, "report", "mine").stdout)
    spoil(file_of(items[0], folder))
    nowhere = variables(settings) | {"GEODES_TASKS_REDIS_URL": "redis://127.0.0.1:1/0"}

    said = subprocess.run(
        [sys.executable, "-m", "geodes_tasks", "verify", "--against", "r.jsonl"],
        env=os.environ | nowhere, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert said.returncode == 3
    assert said.stdout.startswith(f"changed: {file_of(items[0], folder)} (md5:")
    assert "6 files, 196.6 kB: 5 right, 1 changed" in said.stderr


def test_archives_are_opened(standin: StandIn) -> None:
    """An archive with the right checksum that is damaged inside is found with ``--open`` only."""
    cli = CommandLine(standin)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("band.tif", b"bytes" * 1000)
    broken = bytearray(content.getvalue())
    broken[200] ^= 4
    items = [standin.add_item(body=body) for body in (content.getvalue(), bytes(broken))]
    assert cli("download", write_items(items), "-o", "out").returncode == 0
    batch = cli("status", "-o", "out", "--json").stdout

    closed = cli("verify", "out")
    opened = cli("verify", json.loads(batch)["batch"], "-o", "out", "--open", "--json")

    assert (closed.returncode, opened.returncode) == (0, 3)
    (found,) = map(json.loads, opened.stdout.splitlines())
    assert found["path"].endswith(file_of(items[1]).name)
    assert (found["finding"], found["detail"]) == ("unreadable", "band.tif in it is damaged")


def test_nothing_to_verify(settings: Config, tmp_path: Path) -> None:
    """Where nothing was downloaded, the code for nothing says so."""
    said = command(settings, "verify")

    assert said.returncode == 4
    assert said.stderr.endswith("nothing to verify: no finished download is known\n")


def test_repair_needs_the_ledger(settings: Config) -> None:
    """``--repair`` with a report alone is a slip that is told at once."""
    said = command(settings, "verify", "--against", "r.jsonl", "--repair")

    assert said.returncode == 2
    assert "--repair: needs the ledger" in said.stderr


def test_unknown_batch_is_one_line(settings: Config) -> None:
    """A batch that nobody knows ends the command with one line."""
    said = command(settings, "verify", "nope")

    assert said.returncode == 2
    assert "nope" in said.stderr
    assert "Traceback" not in said.stderr
