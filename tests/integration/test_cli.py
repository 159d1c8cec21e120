"""The command line as a process of its own: what goes where, and what the exit code says.

`CommandLine` and its neighbours serve the other end-to-end tests of this folder too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.model.version import __version__
from tests.conftest import KEY
from tests.standin import KiB, digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.standin import Item, StandIn

TIMEOUT_S = 60.0

Finished = subprocess.CompletedProcess[str]


class CommandLine:
    """Runs ``geodes-tasks`` the way a user does, against one stand-in, in the current folder."""

    def __init__(self, standin: StandIn) -> None:
        """Take the portal."""
        self.begun: list[subprocess.Popen[str]] = []
        self.settings = {
            "GEODES_API_KEY": KEY,
            "GEODES_TASKS_PORTAL_URL": standin.url,
            # Nobody listens there: a test that needs S3 names its own server.
            "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1",
            "GEODES_TASKS_QUOTA": "off",
            "GEODES_TASKS_BACKOFF_SECONDS": "0.1",
        }

    def __call__(self, *arguments: str, stdin: str | None = None, **variables: str) -> Finished:
        """Run a command to its end."""
        return subprocess.run(
            command(*arguments), env=os.environ | self.settings | variables, input=stdin,
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip

    def begin(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, as a terminal does."""
        process = subprocess.Popen(
            command(*arguments), env=os.environ | self.settings | variables,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.begun.append(process)
        return process

    def close(self) -> None:
        """Kill what a failing test has left; its server and worker end by themselves then."""
        for process in self.begun:
            if process.poll() is None:
                process.kill()
                process.communicate()


def command(*arguments: str) -> list[str]:
    """Give the words of a command."""
    return [sys.executable, "-m", "geodes_tasks", *arguments]


def write_items(items: Iterable[Item], path: str = "items.json") -> str:
    """Write items as a search would, and give the file's name."""
    Path(path).write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def file_of(item: Item, folder: str = "out") -> Path:
    """Give the place of an item's archive in the default layout."""
    return Path(folder) / f"{item['properties']['identifier']}.zip"


def md5(path: Path) -> str:
    """Hash a file on disk; nothing of the package takes part in it."""
    return subprocess.run(
        ["md5sum", "--", path], capture_output=True, text=True, check=True
    ).stdout.split()[0].lstrip("\\")  # fmt: skip


def wrong_files(standin: StandIn, items: Iterable[Item], folder: str = "out") -> list[str]:
    """Name the files that are missing or not what the portal serves; none is what is wanted."""
    return [
        file_of(item, folder).name
        for item in items
        if not file_of(item, folder).is_file()
        or md5(file_of(item, folder)) != digest(standin.body(item))
    ]


def files_in(folder: str = "out") -> set[str]:
    """Name everything below a folder that is no folder itself, and every hidden folder."""
    found = Path(folder).rglob("*")
    return {
        str(path.relative_to(folder))
        for path in found
        if not path.is_dir() or path.name.startswith(".")
    }


def still_running(folder: Path) -> dict[int, str]:
    """Find processes that a run in a test's folder has left: its name is in their environment."""
    found, mark = {}, os.fsencode(folder)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        # Some end while one looks, and some are other people's.
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            seen = (process / "environ").read_bytes() + os.fsencode((process / "cwd").readlink())
            if line and mark in seen + line:
                found[int(process.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def one_object(text: str) -> dict[str, Any]:
    """Read the one JSON object that standard output is."""
    (line,) = text.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


@pytest.fixture
def cli(standin: StandIn) -> CommandLine:
    """Give the command line."""
    return CommandLine(standin)


def test_version_goes_to_stdout(cli: CommandLine) -> None:
    """``--version`` is one line on standard output, and nothing else happens."""
    said = cli("--version")

    assert (said.returncode, said.stdout, said.stderr) == (0, f"geodes-tasks {__version__}\n", "")


def test_help_names_every_command(cli: CommandLine) -> None:
    """``--help`` lists what there is, so nobody needs the manual to find it."""
    said = cli("--help")

    wanted = {"download", "enqueue", "status", "report", "watch", "retry", "cancel", "worker"}
    assert said.returncode == 0
    assert wanted <= set(said.stdout.replace("│", " ").split())


def test_dry_run_fetches_nothing(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """``--dry-run`` says paths and bytes, asks the portal nothing and starts no process."""
    items = [standin.add_item(size * KiB) for size in (1, 2)]

    said = cli("download", write_items(items), "-o", "out", "--dry-run", "--json")

    plan = one_object(said.stdout)
    assert said.returncode == 0
    assert [row["path"] for row in plan["downloads"]] == [str(tmp_path / file_of(i)) for i in items]
    assert (plan["bytes_total"], plan["refused"]) == (3 * KiB, [])
    assert standin.requests == []
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"P.zip", "P.h5.gz"}),
        (("--include", "*.xml"), {"P.xml"}),
        (("--exclude", "*.gz"), {"P.zip"}),
        (("--include", "P.*", "--exclude", "*.zip", "-x", "*.gz"), {"P.xml"}),
    ],
)
def test_include_and_exclude(
    cli: CommandLine, standin: StandIn, options: tuple[str, ...], expected: set[str]
) -> None:
    """Data without XML by default; globs over asset keys choose otherwise."""
    item = standin.add_item(KiB, identifier="P", xml="first", second=".h5.gz")

    said = cli("download", write_items([item]), "-o", "out", "--dry-run", "--json", *options)

    assert {Path(row["path"]).name for row in one_object(said.stdout)["downloads"]} == expected


def test_items_come_from_standard_input(cli: CommandLine, standin: StandIn) -> None:
    """``-`` reads one item a line from a pipe, and the layout makes folders of STAC fields."""
    items = [standin.add_item(4 * KiB, quicklook=False) for _ in range(2)]
    lines = "".join(json.dumps(item) + "\n" for item in items)

    said = cli("download", "-", "-o", "out", "--layout", "{collection}/{title}", stdin=lines)

    assert said.returncode == 0, said.stderr
    assert said.stdout == ""
    assert wrong_files(standin, items, "out/PEPS_S2_L1C") == []


@pytest.mark.slow
def test_an_unknown_option_is_a_usage_error(cli: CommandLine) -> None:
    """A slip of the keyboard is exit code 2 with a word on how to get help."""
    said = cli("download", "items.json", "--nope")

    assert said.returncode == 2
    assert "--nope" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_wrong_setting_is_named_without_its_value(cli: CommandLine, standin: StandIn) -> None:
    """A setting that cannot be used ends the command at once, named as the user set it."""
    items = write_items([standin.add_item(KiB)])

    said = cli("download", items, GEODES_TASKS_QUOTA="lots")

    assert said.returncode == 2
    assert said.stderr.startswith("error: GEODES_TASKS_QUOTA: ")
    assert len(said.stderr.splitlines()) == 1
