"""Remedies name options and commands at a shell, and what does the same in Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import errors
from geodes_tasks.errors import (
    GeodesTasksError,
    KeyMissingError,
    for_reader,
    write_for_shell,
)
from geodes_tasks.errors.remedies import in_folder, in_python
from tests.unit.errors.test_errors import CLASSES, example
from tests.unit.test_layers import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELL = re.compile(r"(?<![\w-])(--[a-z]|-o\b)|geodes-tasks [a-z]|\bexport \w+=|for the shell")
"""An option or a command."""
OF_A_SHELL = "geodes_tasks.cli", "geodes_tasks.monitoring", "worker", "geodes_tasks.client.doctor"
"""Rooms whose texts are read at a shell, or pass through ``for_reader`` line by line."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield the texts of the library with options or commands, each with its module."""
    for module, path in SOURCES.items():
        if module.startswith(OF_A_SHELL) or module.endswith((".remedies", ".checks", ".dispatch")):
            continue
        tree = ast.parse(path.read_text())
        documents = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else ""
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(one, "value", "") for one in node.values)
                text = "".join(one if isinstance(one, str) else "VALUE" for one in parts)
            if node not in documents and isinstance(text, str) and SHELL.search(text):
                yield module, text


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_no_error_sends_a_python_caller_to_a_shell(kind: type[GeodesTasksError]) -> None:
    """In Python text and hint of every class are free of options and commands, and not empty."""
    error = example(kind)

    assert not SHELL.search(f"{error} {error.hint}")
    assert bool(error.hint) is bool(error.remedy)
    assert not re.search(r"[(`:;,] *$|``|(?<!\w)\( *\)|(?<!\.)\.\.(?!\.)", error.hint)


def test_no_text_of_the_library_sends_a_python_caller_to_a_shell() -> None:
    """Every text below the command line that names an option or a command has words for Python."""
    found = dict(texts())
    left = {text: module for module, text in found.items() if SHELL.search(in_python(text))}

    assert len(found) > 5
    assert left == {}


def test_the_command_line_names_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a shell the remedy stays as it is written."""
    error = errors.LicenceError("https://h/a", 423)
    monkeypatch.setattr("geodes_tasks.errors.remedies._is_at_shell", False)
    in_a_script = error.hint

    write_for_shell()

    assert in_a_script == (
        "Accept the licence on the portal, then: batch.retry(classes=['LicenceError'])"
    )
    assert error.hint == error.remedy == for_reader(error.remedy)
    assert "geodes-tasks retry BATCH --class LicenceError" in error.hint


def test_a_hint_is_printed_below_the_error() -> None:
    """An error that nobody catches shows what to do, as the note that Python prints."""
    assert errors.NoGeodesError().__notes__ == [errors.NoGeodesError().hint]


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        ("geodes-tasks retry 'b 1' --class E", "geodes_tasks.batch('b 1').retry(classes=['E'])"),
        ("geodes-tasks resume --batch b.1", "geodes_tasks.batch('b.1').resume()"),
        ("Raise it; `geodes-tasks doctor` checks all. Then go.", "Raise it. Then go."),
        ("Use --exclude '*.xml' or --source s3.", "Use exclude=['*.xml'] or source='s3'."),
        ("Check; `geodes-tasks batches -o /d/x` lists.", "Check; `geodes_tasks.batches()` lists."),
        ("Type: export A=1, or name one with -o.", "Set A=1, or name one with download_dir."),
    ],
)  # fmt: skip
def test_words_of_python(shell: str, python: str) -> None:
    """Commands become calls, options arguments; what only a shell can do is left out."""
    assert in_python(shell) == python


@pytest.mark.parametrize("folder", ["/data", "/d/o'brien", "/d/my files/it's 'so'"])
def test_a_folder_of_any_name_is_left_out_in_python(folder: str) -> None:
    """A batch is found in whatever ledger has it."""
    text = in_folder("then: geodes-tasks retry 'april 2025' --class E", Path(folder))

    assert text.startswith("then: geodes-tasks retry -o ")
    assert in_python(text) == "then: geodes_tasks.batch('april 2025').retry(classes=['E'])"


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        (
            KeyMissingError("href", "GEODES_API_KEY", "is not set").remedy,
            "then run the same command again.",
        ),
        ("`geodes-tasks batches` lists them.", "`geodes-tasks batches -o /d` lists them."),
        ("Type: geodes-tasks retry --all -o d --yes", "Type: geodes-tasks retry --all -o d --yes"),
    ],
)  # fmt: skip
def test_commands_of_one_machine_work_where_the_reader_stands(remedy: str, expected: str) -> None:
    """They name the folder, once, and what is said of a cluster is left out."""
    text = in_folder(remedy, Path("/d"))

    assert text.endswith(expected)
    assert in_folder(text, Path("/d")) == text
