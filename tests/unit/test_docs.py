"""The documents say what the code does: settings, modules, floors, states, commands, pins."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from geodes_tasks import errors
from geodes_tasks.cli import command_table
from geodes_tasks.cli.command_table import COMMANDS as COMMANDS_BY_GROUP
from geodes_tasks.client import exit_codes
from geodes_tasks.model.states import ALLOWED_MOVES, Outcome, Reason, State
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.config import Config, environment_name
from tests.unit.test_layers import FLOORS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
TROUBLES = (ROOT / "docs" / "troubles.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
ERRORS = (ROOT / "docs" / "errors.md").read_text()
PAGES = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)  # fmt: skip


NOT_FOR_USERS = {
    "architecture.md", "benchmarks.md", "scale.md",
    "settings.md", "errors.md", "options.md", "licences.md",
}  # fmt: skip
"""Pages that are not counted as for users: explanation, and what scripts make from the code."""
MAX_WORDS = 12_000
"""Words of all user pages together: an hour of reading at 200 words a minute."""


def section(text: str, title: str) -> str:
    """Give what stands below a heading, down to the next one of its rank or higher."""
    rank = title.index(" ")
    following = re.search(rf"^#{{1,{rank}}} ", text.split(f"{title}\n", 1)[1], re.MULTILINE)
    below = text.split(f"{title}\n", 1)[1]
    return below[: following.start()] if following else below


def rows(text: str) -> list[list[str]]:
    """Give the cells of every table row in a text, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(cells) if set(row[0]) == {"-"}]
    headings = {number - 1 for number in rules} | set(rules)
    return [row for number, row in enumerate(cells) if number not in headings]


# --- settings and errors -----------------------------------------------------------------------


def make(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a page as a person would."""
    command = [sys.executable, str(ROOT / "docs" / f"make_{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("name", ["settings", "errors", "options", "schemas"])
def test_a_made_page_is_up_to_date(name: str) -> None:
    """The pages of settings, errors and options, and the JSON Schemas, are what the code is."""
    done = make(name, "--check")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "old", "new"),
    [
        ("settings", SETTINGS, "`50/hour`", "`10/hour`"),
        ("errors", ERRORS, "`DiskError`", "`FullError`"),
    ],
)
def test_a_stale_page_is_noticed(tmp_path: Path, name: str, text: str, old: str, new: str) -> None:
    """A page that is behind fails the check, and the message says how to mend it."""
    page = tmp_path / f"{name}.md"
    page.write_text(text.replace(old, new))

    done = make(name, "--check", str(page))

    assert done.returncode == 1
    assert f"run python docs/make_{name}.py" in done.stderr
    assert new in page.read_text()


@pytest.mark.parametrize(("name", "text"), [("settings", SETTINGS), ("errors", ERRORS)])
def test_a_made_page_is_written(tmp_path: Path, name: str, text: str) -> None:
    """Run without --check, the script writes the page that the check then takes."""
    page = tmp_path / f"{name}.md"

    written = make(name, str(page))

    assert written.returncode == 0
    assert page.read_text() == text


def test_every_error_has_its_line() -> None:
    """Each class that a record may name is on the page, once, with what to do."""
    told = [row[0].strip("`") for row in rows(ERRORS)]
    ours = [
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.GeodesTasksError)
    ]
    groups = {one.__name__ for one in errors.GeodesTasksError.__subclasses__()}
    abstract = {"GeodesTasksError", "AttemptEndedError", *groups}

    assert len(told) == len(set(told))
    assert set(ours) - abstract <= set(told)
    assert [row[0] for row in rows(section(ERRORS, "## Ends for good")) if not row[3]] == []


def test_every_setting_is_described() -> None:
    """No setting is without its line and its sentence."""
    described = {
        name for row in rows(SETTINGS) if row[2] for name in re.findall(r"`(\w+)`", row[0])
    }

    assert {environment_name(field) for field in Config.fields} <= described


@pytest.mark.parametrize("page", PAGES)
def test_no_unknown_variable_is_named(page: str) -> None:
    """A document names no environment variable that the program does not read."""
    named = set(re.findall(r"\bGEODES_[A-Z0-9_]+[A-Z0-9]\b", (ROOT / page).read_text()))

    assert named - set(re.findall(r"`(GEODES_\w+)`", SETTINGS)) == set()


def user_pages() -> dict[str, str]:
    """Return what users read, by file: pages, the README, deployments, the notebook's text."""
    docs = ROOT / "docs"
    pages = [path for path in docs.glob("*.md") if path.name not in NOT_FOR_USERS]
    cells = json.loads((docs / "downloading.ipynb").read_text())["cells"]
    notebook = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return {
        **{path.name: path.read_text() for path in pages},
        "README.md": README,
        "deploy.md": (ROOT / "deploy" / "README.md").read_text(),
        "downloading.ipynb": "\n".join(notebook),
    }


def test_user_pages_can_be_read_in_an_hour() -> None:
    """All pages that users read have at most MAX_WORDS together, commands included."""
    # Rules and bars of tables are no words.
    counts = {name: len(re.findall(r"\S*\w\S*", text)) for name, text in user_pages().items()}

    assert sum(counts.values()) <= MAX_WORDS, sorted(counts.items(), key=lambda one: -one[1])


@pytest.mark.parametrize("page", sorted(user_pages()))
def test_no_user_page_speaks_of_tests(page: str) -> None:
    """Proof is the subject of tests/fault/CASES.md; a page for users names no test."""
    text = re.sub(r"<!--.*?-->", "", user_pages()[page], flags=re.DOTALL)

    # `make test` is a command of the README, `test $? -eq 4` one of a shell.
    assert re.findall(r"(?<!make )\btest(?:s|ed)?\b(?! \$)", text, re.IGNORECASE) == []


# --- rooms --------------------------------------------------------------------------------------


def test_every_room_has_its_line() -> None:
    """The table of rooms on the page is the table that the imports are checked against."""
    table = rows(section(ARCHITECTURE, "## Rooms"))
    told = {room.strip("`"): int(floor) for room, floor, what in table if what}

    assert told == {room: floor for room, floor in FLOORS.items() if not room.startswith("__")}


def test_the_pictures_are_up_to_date() -> None:
    """The pictures of rooms and states are drawn from the code."""
    done = make("diagrams", "--check")

    assert (done.returncode, done.stderr) == (0, "")


def test_how_it_works_can_be_read_in_an_hour() -> None:
    """The page for engineers stays short."""
    assert len(ARCHITECTURE.split()) <= 2500


# --- ledger and states -------------------------------------------------------------------------


def test_every_move_has_its_reason() -> None:
    """The document has every move that the ledger allows, with a reason, and no other."""
    told = {
        (None if old == "(unknown)" else State(old), State(new))
        for old, new, reason in rows(section(ARCHITECTURE, "## States"))
        if reason
    }

    assert told == ALLOWED_MOVES


def test_every_reason_to_wait_is_named() -> None:
    """Whoever reads a reason in `status` finds it in the document."""
    text = section(ARCHITECTURE, "## States")

    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_every_key_of_the_ledger_is_named() -> None:
    """The key table has what the scripts say they keep, with the same type."""
    scripts = ROOT / "geodes_tasks" / "ledger" / "scripts"
    keys = (scripts / "library" / "keys.lua").read_text()
    lines = re.findall(r"^--   (\S+(?:, \S+)*) +(hash|zset|list|set|string) ", keys, re.MULTILINE)
    kept = {(key, kind) for names, kind in lines for key in names.split(", ")}
    table = rows(section(ARCHITECTURE, "## The ledger"))
    told = {(key, kind) for keys, kind, _ in table for key in re.findall(r"`([^`]+)`", keys)}

    assert kept
    assert kept == told


def test_every_test_named_in_short_exists() -> None:
    """The same where a test is named by its file alone, or by the file of the one before it."""
    file, missing = "", []
    cases = (ROOT / "tests/fault/CASES.md").read_text()
    named = re.findall(r"`(?:[\w/]*?(test_\w+)\.py)?::(test_\w+)`", cases)
    for said, test in named:
        file = said or file
        texts = [path.read_text() for path in (ROOT / "tests").rglob(f"{file}.py")]
        if not any(f"def {test}(" in text for text in texts):
            missing.append(f"{file}::{test}")

    assert len(named) > 10
    assert missing == []


# --- commands, README, CHANGELOG ---------------------------------------------------------------


def commands() -> set[str]:
    """Give the names of all commands."""
    return {name for group in COMMANDS_BY_GROUP.values() for name in group}


def test_every_command_has_its_line() -> None:
    """The table of commands is the command line's own list."""
    told = re.findall(r"^\| `geodes-tasks ([a-z-]+)", COMMANDS, re.MULTILINE)

    assert sorted(told) == sorted(commands())


@pytest.mark.parametrize("page", PAGES)
def test_no_unknown_command_is_named(page: str) -> None:
    """Every `geodes-tasks word` in a document can be typed."""
    words = re.findall(
        r"(?:^ *|`)geodes-tasks ([a-z][\w-]*)", (ROOT / page).read_text(), re.MULTILINE
    )

    assert set(words) - commands() == set()


def test_every_exit_code_is_told() -> None:
    """The table of exit codes has each code that the program uses, once."""
    told = [int(code) for code, _ in rows(section(COMMANDS, "## How it ends"))]
    used = {
        exit_codes.DONE, command_table.UNCLASSIFIED, command_table.USAGE, exit_codes.SOME_FAILED,
        exit_codes.NOTHING, exit_codes.TRANSIENT, exit_codes.OFFLINE, exit_codes.ACCOUNT,
        command_table.INTERRUPTED,
    }  # fmt: skip

    assert told == sorted(used)


def test_python_examples_compile() -> None:
    """The Python in the README is Python, and imports only names that are there."""
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {
        alias.name
        for example in examples
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.ImportFrom) and node.module == "geodes_tasks"
        for alias in node.names
    }
    namespace: dict[str, object] = {}
    exec(f"from geodes_tasks import {', '.join(sorted(names))}", namespace)  # noqa: S102 - own text

    assert names
    assert names <= set(namespace)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Links to files of the project lead to files that are there."""
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)

    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_changelog_has_this_version() -> None:
    """The newest section of the changelog is that of the version in the code."""
    newest = CHANGELOG.split("\n## ")[1]
    named = re.match(r"\[(\d[\w.]*)\]|\[Unreleased\]\s+The next version is (\d[\d.]*)\.\n", newest)

    assert named
    assert __version__ in named.groups()


def test_outcomes_are_told() -> None:
    """Whoever reads an outcome in a report finds it in a document."""
    assert [name for name in Outcome if name not in TROUBLES] == []


# --- pins --------------------------------------------------------------------------------------


def normal(name: str) -> str:
    """Write a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pins_are_exact_and_from_no_special_place() -> None:
    """constraints.txt holds one exact version a line: no hash, no address, no path."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]

    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.!+]+", pin)] == []
    assert len({normal(pin.split("==")[0]) for pin in pins}) == len(pins)


BROUGHT_BY = {
    "botocore": "boto3",
    "tornado": "flower",
    "pydantic_core": "pydantic",
    "prometheus_client": "prometheus-client",
    # Only where they are installed, or for the types.
    "IPython": "notebook",
    "geopandas": "geo",
    "mypy_boto3_s3": "test",
}
"""Modules whose distribution has another name, or comes with another one or an extra."""


def test_every_import_is_a_dependency() -> None:
    """A clean installation of the wheel has each library that the code imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(re.split(r"[^\w.-]", one)[0]) for one in project["dependencies"]}
    declared |= set(project["optional-dependencies"])
    used = {
        name.partition(".")[0]
        for room in ("geodes_tasks", "worker")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
    } - {*sys.stdlib_module_names, "geodes_tasks", "worker"}

    assert {name for name in used if normal(BROUGHT_BY.get(name, name)) not in declared} == set()
    assert len(used) > 20


def imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports by absolute name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_every_dependency_is_pinned() -> None:
    """What pyproject.toml asks for by name has a pin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {normal(match[0]) for one in asked if (match := re.match(r"[\w.-]+", one))}
    pinned = set(re.findall(r"^([^#=\n]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))

    assert names - {normal(name) for name in pinned} == set()
