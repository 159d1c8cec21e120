"""Bad input: one clear line, the exit code of the contract, the good items done all the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import require_server
from tests.integration.test_cli import (
    CommandLine,
    Finished,
    file_of,
    files_in,
    still_running,
    write_items,
    wrong_files,
)
from tests.standin import KiB, variants

if TYPE_CHECKING:
    from tests.standin import StandIn

ESCAPED = Path("/tmp/geodes-standin-escaped.zip")  # noqa: S108 # where one of the names points
USAGE, SOME_FAILED, NOTHING, ACCOUNT = 2, 3, 4, 7


@pytest.fixture
def cli(standin: StandIn) -> CommandLine:
    """Give the command line, where there is a server for it to start."""
    require_server()
    return CommandLine(standin)


@pytest.fixture
def good(standin: StandIn) -> Any:
    """Write one good item to ``good.json``, and give it."""
    item = standin.add_item(32 * KiB)
    write_items([item], "good.json")
    return item


def problem_lines(said: Finished) -> list[str]:
    """Give the lines that name a problem; there must be no traceback around them."""
    assert "Traceback" not in said.stderr
    assert said.stdout == ""
    problem = re.compile(r"error: |waits |(\d+ )?(failed|refused|waits): ")
    return [line for line in said.stderr.splitlines() if problem.match(line)]


# --- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("hello", USAGE, "is not JSON"),
        ('{"a": 1}', USAGE, "is JSON but no STAC item; its keys: a"),
        ('{"type": "FeatureCollection", "features": []}', NOTHING, "holds no items"),
        (None, USAGE, "no such file or directory"),
    ],
)
def test_a_source_that_cannot_be_used(
    cli: CommandLine, text: str | None, code: int, words: str
) -> None:
    """What is no file of items is named in one line with what to give instead; exit code 2 or 4."""
    if text is not None:
        Path("bad.json").write_text(text)

    said = cli("download", "bad.json", "-o", "out")

    (line,) = said.stderr.splitlines()
    assert problem_lines(said) == [line]
    assert said.returncode == code
    assert line.startswith(f"error: bad.json: {words}")
    assert line.endswith(".")
    assert files_in("out") == set()


@pytest.mark.slow
def test_bad_elements_among_good_items(cli: CommandLine, standin: StandIn, good: Any) -> None:
    """One line that is no item does not harm the lines around it."""
    text = Path("good.json").read_text()
    Path("mixed.ndjson").write_text(f'{text}\n{{"broken": \n[1, "x"]\n')

    said = cli("download", "mixed.ndjson", "-o", "out", "--no-progress")

    assert said.returncode == SOME_FAILED
    assert any("line 2 of mixed.ndjson: is not JSON" in line for line in problem_lines(said))
    assert wrong_files(standin, [good]) == []


# --- items ---------------------------------------------------------------------------------------

REFUSED = {
    "xml_only": "none of its assets is data (XML apart)",
    "no_data": "none of its assets is data (XML apart)",
    "title_parent": "has the part '..', which is another folder",
    "title_absolute": "is an absolute path",
    "title_dots": "has the part '..', which is another folder",
    "title_long": "has a part of 304 bytes, the most is 255",
    "title_nul": "has control characters",
    "title_newline": "has control characters",
    "title_backslash": "has a path separator within a part",
    "title_empty": "has an empty part",
}
"""Kinds of the stand-in that can never be downloaded, and what is said of them."""
TITLES = {
    "CON.zip": "has the part CON, a device on Windows",
    "folder/NUL": "has the part NUL, a device on Windows",
    ".geodes-tasks": "the folder of part files",
    "a\u2215b.zip": "has characters that look like a path separator",
    "a\uff0f..\uff0fb.zip": "elsewhere, which is refused",
    "\u202egpj.zip": "has characters that turn the reading direction",
    "..\u200b": "has the part '..', which is another folder",
    "name.": "has a part that ends in a space or a dot",
}
"""More file names that do harm somewhere."""


@pytest.mark.slow
def test_hostile_items_harm_nobody(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """Each hostile item is named with what is wrong with it; nothing is written outside."""
    kinds = variants(standin, big=False)
    good = [kinds["s2_l1c"], kinds["old_names"], kinds["no_quicklook"]]
    bad = [kinds[name] for name in REFUSED]
    bad += [standin.add_item(KiB, title=title, quicklook=False) for title in TITLES]
    Path("deep/er").mkdir(parents=True)

    said = cli("download", write_items([*bad, *good]), "-o", "deep/er/out", "--no-progress")

    assert len(said.stderr.splitlines()) < 40
    assert "Traceback" not in said.stderr
    # The command names some of each class; the report has all.
    lines = cli("report", "-o", "deep/er/out", "--format", "jsonl").stdout.splitlines()
    missing = [words for words in [*REFUSED.values(), *TITLES.values()]
               if not any(words in line for line in lines)]  # fmt: skip
    assert missing == []
    assert said.returncode == SOME_FAILED
    assert wrong_files(standin, good, "deep/er/out") == []
    assert files_in("deep/er/out") == {file_of(item).name for item in good}
    assert names_in(tmp_path) == {"deep", "items.json", "state"}
    assert names_in(Path("deep")) | names_in(Path("deep/er")) == {"er", "out"}
    assert not ESCAPED.exists()


def names_in(folder: Path) -> set[str]:
    """Name what is in a folder, hidden or not."""
    return {path.name for path in folder.iterdir()}


def test_each_problem_is_said_once(cli: CommandLine, standin: StandIn) -> None:
    """Two items with one problem are one message, and a line with their names."""
    items = [standin.add_item(data=False) for _ in range(2)]

    said = cli("download", write_items(items), "-o", "out", "--no-progress")

    lines = said.stderr.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("2 refused: "))
    assert lines[first + 1] == f"  {items[0]['id']}, {items[1]['id']}"
    assert sum("no data asset" in line for line in lines) <= 1


def test_a_name_taken_by_another_file(cli: CommandLine, standin: StandIn) -> None:
    """Two different files with one name: the first is done, the second names both of them."""
    one, other = (standin.add_item(KiB, title="twin.zip") for _ in range(2))

    said = cli("download", write_items([one, other]), "-o", "out", "--no-progress")

    line = problem_lines(said)[0]
    assert said.returncode == SOME_FAILED
    assert f"{other['id']} wants this path, which belongs to {one['id']}" in line
    assert "--layout" in line
    assert files_in("out") == {"twin.zip"}


@pytest.mark.slow
def test_two_files_of_one_item_with_one_name(cli: CommandLine, standin: StandIn) -> None:
    """The message names the item once, and the layout of its hint keeps the two apart."""
    one, other = (standin.add_item(KiB, title="twin.zip") for _ in range(2))
    one["assets"] |= {f"second {key}": asset for key, asset in other["assets"].items()}

    said = cli("download", write_items([one]), "-o", "out", "--no-progress")
    line = problem_lines(said)[0]
    layout = line.partition("of one item with --layout '")[2].partition("'")[0]
    again = cli("download", write_items([one]), "-o", "two", "--layout", layout, "--no-progress")

    assert f"{one['id']} wants this path, which belongs to another of its files" in line
    assert again.returncode == 0
    assert len(files_in("two")) == 2


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_name_taken_by_a_folder(cli: CommandLine, standin: StandIn, good: Any) -> None:
    """Where a folder has the file's name, the folder stays and the others are done."""
    blocked = standin.add_item(KiB)
    file_of(blocked).mkdir(parents=True)
    (file_of(blocked) / "precious").write_text("kept")

    said = cli("download", write_items([blocked, good]), "-o", "out", "--no-progress")

    (line,) = problem_lines(said)
    assert said.returncode == SOME_FAILED
    assert f"{file_of(blocked).name}: there is a folder of this name already. Move it" in line
    assert (file_of(blocked) / "precious").read_text() == "kept"
    assert wrong_files(standin, [good]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [
        "a-file/below",
        pytest.param(
            "/proc/geodes-tasks",
        ),
    ],
)
def test_a_folder_that_cannot_be_written_to(
    cli: CommandLine, standin: StandIn, good: Any, tmp_path: Path, folder: str
) -> None:
    """Said at once and in one line, before anything is started or asked of the portal."""
    Path("a-file").write_text("kept")

    said = cli("download", "good.json", "-o", folder)

    (line,) = problem_lines(said)
    assert said.returncode == USAGE
    assert said.stderr.splitlines() == [line]
    assert folder in line
    assert Path("a-file").read_text() == "kept"
    assert standin.requests == []
    assert still_running(tmp_path) == {}


# --- the layout, the key -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_layout_that_cannot_be_used(cli: CommandLine, good: Any) -> None:
    """A layout that no item could fill is a usage error in one line."""
    said = cli("download", "good.json", "-o", "out", "--layout", "../{title}")

    (line,) = problem_lines(said)
    assert said.returncode == USAGE
    assert line.startswith("error: layout: ")


def test_a_missing_key(cli: CommandLine, good: Any) -> None:
    """One line says where a key is looked for and how to make one."""
    said = cli("download", "good.json", "-o", "out", "--no-progress", GEODES_API_KEY="")

    line = problem_lines(said)[0]
    assert said.returncode == ACCOUNT
    assert "needs an API key: GEODES_API_KEY" in line
    assert "Make a key on the portal" in line
    assert files_in("out") == set()


def test_a_refused_key(cli: CommandLine, standin: StandIn, good: Any) -> None:
    """One line says which key, not the key; with a good one the same command goes on."""
    key = "wrong-key-ending-in-9876"

    said = cli("download", "good.json", "-o", "out", "--no-progress", GEODES_API_KEY=key)
    mended = cli("download", "good.json", "-o", "out", "--no-progress")

    line = problem_lines(said)[0]
    assert said.returncode == ACCOUNT
    assert "the key in GEODES_API_KEY, ending in ...9876, was refused" in line
    assert "Make a new key on the portal" in line
    assert key not in said.stderr
    assert mended.returncode == 0, mended.stderr
    assert wrong_files(standin, [good]) == []


def test_one_cause_is_one_block(cli: CommandLine, standin: StandIn) -> None:
    """A hundred items without data are one error with examples, in at most twenty lines."""
    items = [standin.add_item(data=False) for _ in range(60)] + [standin.add_item(KiB)]

    said = cli("download", write_items(items), "-o", "out", "--no-progress")

    lines = said.stderr.splitlines()
    assert said.returncode == 3
    assert len(lines) <= 20
    assert sum("NoDataAsset" in line or "no asset" in line for line in lines) <= 2
    assert any(line.startswith("60 refused: ") for line in lines)
    assert any(line.endswith(" and 57 more") for line in lines)


@pytest.mark.slow
def test_many_causes_are_twenty_lines(cli: CommandLine, standin: StandIn) -> None:
    """Every class is refused or fails a dozen times: shown and run, errors are twenty lines."""
    kinds = variants(standin, big=False)
    hostile = [kinds[name] | {"id": f"{kinds[name]['id']}-{n}"} for name in REFUSED for n in "ab"]
    empty = [standin.add_item(data=False) for _ in range(12)]
    failing = [standin.add_item(KiB) for _ in range(12)]
    for item in failing:
        standin.fault(item, "licence_423")
    source = write_items([*hostile, *empty, *failing])

    plan = cli("download", source, "-o", "out", "--dry-run", "--no-progress")
    run = cli("download", source, "-o", "out", "--no-progress")

    assert (plan.returncode, run.returncode) == (SOME_FAILED, SOME_FAILED)
    assert len(plan.stderr.splitlines()) <= 20
    assert len(run.stderr.splitlines()) <= 22, run.stderr
