"""The house style of CONTRIBUTING.md, as far as a program can read it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache

import pytest

from tests.size import code_lines
from tests.unit.test_layers import SOURCES, room_of

OPENINGS = re.compile(r"(Gives?|Tells?|Says?|What|Whether|Of|So)\b")
"""First words of a docstring that hide its verb or its noun."""
PEOPLE = re.compile(r"\b(somebody|nobody|whoever)\b", re.IGNORECASE)
UNIT = re.compile(
    r"\b(seconds?|minutes?|hours?|days?|milliseconds|nanoseconds|degrees?|bytes?|[kMG]i?B"
    r"|characters?|columns?|rows?|lines?|digits|pixels?|bits?|per cent|percent|share|fractions?"
    r"|factor|times|number of|exit code|status|port|version|levels?|downloads?|messages?|calls"
    r"|requests?|attempts|items?|files?|records?|entries|names?|connections?|threads?|processes"
    r"|workers?|failures?|pages|batches|members|keys)\b",
    re.IGNORECASE,
)
"""Words that tell a reader what a number counts."""
MOST_PUBLIC = 15
WIDE = {"Geodes", "Item"}
"""Classes with pygeodes' own method names, which are many."""
SMALL_LINES = 6
SMALL_PER_1000 = 2.0
"""Private functions of at most SMALL_LINES lines that are called once, per 1,000 lines of code."""
COMMENTS_PER_100 = 4.0
"""Comment lines for each 100 lines of code, at least."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree_of(module: str) -> ast.Module:
    """Return the parsed source of a module."""
    return ast.parse(SOURCES[module].read_text())


def documented(module: str) -> list[tuple[str, str]]:
    """Return name and docstring of the module, its classes and its functions."""
    found = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = getattr(node, "name", module)
            found.append((name, ast.get_docstring(node) or ""))
    return found


def functions(module: str) -> list[Function]:
    """Return every function and method of a module."""
    return [node for node in ast.walk(tree_of(module)) if isinstance(node, Function)]


def length(function: Function) -> int:
    """Return the lines of a function, decorators left out."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


@pytest.mark.parametrize("module", SOURCES)
def test_docstrings_begin_with_a_verb_of_the_trade(module: str) -> None:
    """No docstring begins with a word that hides what the function does."""
    assert [name for name, text in documented(module) if OPENINGS.match(text)] == []


@pytest.mark.parametrize("module", SOURCES)
def test_actors_have_names(module: str) -> None:
    """The code speaks of workers, users and clients, not of somebody."""
    assert PEOPLE.findall(SOURCES[module].read_text()) == []


@pytest.mark.parametrize("module", SOURCES)
def test_every_number_names_its_unit(module: str) -> None:
    """A module-level number is followed by a docstring that names its unit."""
    body = tree_of(module).body
    bare = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not _is_number(node.value):
            continue
        text = (
            after.value.value
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            else ""
        )
        if not UNIT.search(str(text)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            bare.append(ast.unparse(target))

    assert bare == []


def _is_number(value: ast.expr | None) -> bool:
    if isinstance(value, ast.BinOp):
        return _is_number(value.left) and _is_number(value.right)
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool)
    return False


@pytest.mark.parametrize("module", SOURCES)
def test_no_class_is_wide(module: str) -> None:
    """A class has one subject: at most fifteen public methods."""
    wide = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ClassDef) and node.name not in WIDE:
            public = [
                one.name
                for one in node.body
                if isinstance(one, Function) and not one.name.startswith("_")
            ]
            if len(public) > MOST_PUBLIC:
                wide[node.name] = len(public)

    assert wide == {}


def test_no_two_public_classes_have_one_name() -> None:
    """A class found by its name is the one that is meant."""
    names = Counter(
        node.name
        for module in SOURCES
        for node in tree_of(module).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert {name for name, count in names.items() if count > 1} == set()


def test_no_two_modules_have_one_name() -> None:
    """A module found by its name is the one that is meant.

    Commands' files in ``cli``, pygeodes' import paths in ``utils`` and the pair
    ``transports/http`` and ``transports/s3`` are left out.
    """
    names = Counter(
        module.rpartition(".")[2]
        for module in SOURCES
        if room_of(module) not in {"cli", "utils", "__main__"}
        and not module.startswith("geodes_tasks.transports.s3.")
    )

    assert {name for name, count in names.items() if count > 1} == set()


def test_functions_are_short() -> None:
    """Nine of ten functions have at most 35 lines."""
    lengths = sorted(length(one) for module in SOURCES for one in functions(module))

    assert lengths[int(len(lengths) * 0.9)] <= 35


def small_helpers(module: str) -> list[str]:
    """Return the private functions of a module that are short and called once.

    A function that is handed to a thread, a parser or a table of keys cannot be written in place.
    """
    text = SOURCES[module].read_text()
    return [
        one.name
        for one in functions(module)
        if one.name.startswith("_")
        and not one.name.startswith("__")
        and not one.decorator_list
        and length(one) <= SMALL_LINES
        and len(re.findall(rf"\b{one.name}\b", text)) == 2
        and len(re.findall(rf"\b{one.name}\(", text)) == 2
    ]


def test_no_jump_for_nothing() -> None:
    """Few private functions are both short and used once: a reader must not jump for nothing."""
    found = {module: small_helpers(module) for module in SOURCES}
    total = sum(map(code_lines, SOURCES))
    most = int(total * SMALL_PER_1000 / 1000)

    assert sum(map(len, found.values())) <= most, {m: f for m, f in found.items() if f}


def test_comments_say_why() -> None:
    """The code has at least 4 lines of comment for each 100 lines of code; rulers do not count."""
    comments = sum(
        1
        for module in SOURCES
        for line in SOURCES[module].read_text().splitlines()
        if line.lstrip().startswith("# ") and "type: ignore" not in line and "# ---" not in line
    )

    assert comments * 100 / sum(map(code_lines, SOURCES)) >= COMMENTS_PER_100


def test_no_console_draws_pictures_for_words() -> None:
    """Rich would print another text in place of `:id:` in a name."""
    calls = [
        (module, node)
        for module in SOURCES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Console"
    ]

    assert calls
    assert [
        f"{module}:{node.lineno}"
        for module, node in calls
        if not any(one.arg == "emoji" for one in node.keywords)
    ] == []
