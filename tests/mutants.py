"""Change the code in small ways and see whether a test fails: ``make mutants``.

A sample is drawn with a fixed seed from the rooms whose promises matter most. Each mutant is one
change of one place, run in a copy of the tree against the tests of its subject. A mutant that no
test notices survives: it is listed with its change. `tests/mutants_known.txt` names those that
change nothing that a user could notice, with the reason.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
KNOWN = ROOT / "tests" / "mutants_known.txt"
SUBJECTS = {
    "geodes_tasks/transfer": (
        "tests/unit/transfer",
        "tests/integration/test_extract.py",
        "tests/integration/test_members.py",
    ),
    "geodes_tasks/model": ("tests/unit/model",),
    "geodes_tasks/transports/http": (
        "tests/unit/transports",
        "tests/integration/test_http_client.py",
        "tests/integration/test_message_or_file.py",
        "tests/integration/test_availability.py",
        "tests/integration/test_http_transport.py",
    ),
    "geodes_tasks/stac": ("tests/unit/stac", "tests/integration/test_search.py"),
    "geodes_tasks/ledger/scripts": ("tests/unit/ledger",),
}
"""Folders that mutants are drawn from, each with the tests of its subject."""
LEAST_KILLED = 0.85
"""Share of the mutants that must be killed."""
SEED = 20_261_128
"""Seed of the sample: any fixed number."""
PATIENCE = 6
"""Times the time of the unchanged code after which a run counts as killed: a mutant may loop for
ever. A ratio, so that a busy machine kills none."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
}  # fmt: skip
MUTATED = (
    ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Continue, ast.Return,
    ast.Raise, ast.AugAssign, ast.Expr,
)  # fmt: skip
LUA = (
    (r" == ", " ~= "), (r" ~= ", " == "), (r" < ", " <= "), (r" > ", " >= "), (r" <= ", " < "),
    (r" >= ", " > "), (r" and ", " or "), (r" or ", " and "), (r"\bnot ", ""), (r" \+ ", " - "),
    (r" - ", " + "), (r"\bif (.+) then$", "if true then"),
    (r"^(\s+)(?:redis\.)?call\(.*\)$", r"\1"), (r"^(\s+)return .+$", r"\1do return end"),
)  # fmt: skip
"""Patterns in a line of Lua, each with what a mutant has in its place."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    subject: str
    path: str
    line: int
    before: str
    after: str
    text: str
    """The whole file with the change."""

    @property
    def name(self) -> str:
        """Return what identifies the mutant while lines above it come and go."""
        return f"{self.path}: {self.before} -> {self.after}"


Draft = Callable[[], Mutant | None]
"""A mutant that is made when it is drawn."""


def python_mutants(subject: str, path: Path) -> Iterator[Draft]:
    """Yield a draft of each mutant of a Python module."""
    tree = ast.parse(path.read_text())
    in_function = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for part in function.body
        for node in ast.walk(part)
    }
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, MUTATED) and id(node) in in_function:
            yield partial(python_mutant, subject, path, index)


def python_mutant(subject: str, path: Path, index: int) -> Mutant | None:
    """Return the mutant at a node of a module; None where nothing can be changed."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    node = nodes[index]
    before, line = ast.unparse(node), getattr(node, "lineno", 0)
    after = _mutated(node, nodes)
    if after is None:
        return None
    text = ast.unparse(ast.fix_missing_locations(tree))
    name = path.relative_to(ROOT).as_posix()
    return Mutant(subject, name, line, _short(before), _short(after), text)


def _mutated(node: ast.AST, nodes: list[ast.AST]) -> str | None:
    """Change a node in place and return its new text; None when there is nothing to change."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            node.ops = [COMPARISONS[type(operator)]()]
        case ast.BoolOp(op=operator):
            node.op = ast.Or() if isinstance(operator, ast.And) else ast.And()
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            node.op = ARITHMETIC[type(operator)]()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ast.unparse(operand) if _replace(node, operand, nodes) else None
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Continue():
            return "break" if _replace(node, ast.Break(), nodes) else None
        case ast.Return(value=ast.expr()) if ast.unparse(node) != "return None":
            node.value = ast.Constant(None)
        case ast.Raise() | ast.AugAssign():
            return "pass" if _replace(node, ast.Pass(), nodes) else None
        case ast.Expr(value=ast.Call()) if not ast.unparse(node).startswith(("logger.", "super()")):
            return "pass" if _replace(node, ast.Pass(), nodes) else None
        case _:
            return None
    return ast.unparse(node)


def _replace(old: ast.AST, new: ast.AST, nodes: list[ast.AST]) -> bool:
    """Put another node in the place of one."""
    for parent in nodes:
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return True
            if isinstance(value, list) and old in value:
                value[value.index(old)] = new
                return True
    return False


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def lua_mutants(subject: str, path: Path) -> Iterator[Draft]:
    """Yield a draft of each mutant of a script."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("--"):
            continue
        for pattern, replacement in LUA:
            for found in re.finditer(pattern, line):
                after = line[: found.start()] + found.expand(replacement) + line[found.end() :]
                text = "\n".join([*lines[:number], after, *lines[number + 1 :], ""])
                name = path.relative_to(ROOT).as_posix()
                before, now = line.strip(), after.strip()
                yield partial(Mutant, subject, name, number + 1, before, now, text)


def sample(count: int, only: str) -> list[Mutant]:
    """Return the mutants of the fixed sample, the same share of each subject's; or a part of it."""
    every = {subject: list(drafts_of(subject)) for subject in SUBJECTS}
    total = sum(map(len, every.values()))
    drawn: list[Mutant] = []
    for subject, drafts in every.items():
        if only not in subject:
            continue
        share = round(count * len(drafts) / total)
        random.Random(SEED).shuffle(drafts)
        made = (draft() for draft in drafts)
        drawn += itertools.islice((mutant for mutant in made if mutant is not None), share)
    return drawn


def drafts_of(subject: str) -> Iterator[Draft]:
    """Yield a draft of each mutant of a subject."""
    for path in sorted((ROOT / subject).rglob("*")):
        if path.suffix == ".py":
            yield from python_mutants(subject, path)
        elif path.suffix == ".lua":
            yield from lua_mutants(subject, path)


def passes(tree: Path, tests: Iterable[str], timeout_s: float | None = None) -> bool:
    """Run tests in a copy of the tree; what does not end in time does not pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        command, cwd=tree, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return child.wait(timeout_s) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):  # servers of its tests, too
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def survives(mutant: Mutant, tree: Path, timeout_s: float) -> bool:
    """Run the tests of the subject on the mutant in a copy of the tree."""
    target = tree / mutant.path
    original = target.read_text()
    own = sorted(tree.glob(f"tests/*/**/test_{target.stem}.py"))
    tests = [*(path.relative_to(tree).as_posix() for path in own), *SUBJECTS[mutant.subject]]
    target.write_text(mutant.text)
    try:
        return passes(tree, tests, timeout_s)
    finally:
        target.write_text(original)


def main() -> int:
    """Run the sample; return 1 when fewer than LEAST_KILLED are killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--only", default="", help="a part of the subject's folder")
    parser.add_argument("--jobs", type=int, default=4)
    options = parser.parse_args()
    known = {
        line.partition("  # ")[0]
        for line in KNOWN.read_text().splitlines()
        if line and not line.startswith("#")
    }
    mutants = [one for one in sample(options.count, options.only) if one.name not in known]
    trees: Queue[Path] = Queue()
    began, survivors = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        for job in range(options.jobs):
            tree = Path(scratch) / str(job)
            skipped = shutil.ignore_patterns(".git", ".venv", "site", ".*_cache", "__pycache__")
            shutil.copytree(ROOT, tree, ignore=skipped)
            trees.put(tree)

        timeouts: dict[str, float] = {}
        for subject in dict.fromkeys(mutant.subject for mutant in mutants):
            started = time.monotonic()
            if not passes(tree, SUBJECTS[subject]):  # then every mutant would count as killed
                sys.exit(f"{subject}: its tests fail on the unchanged code")
            timeouts[subject] = PATIENCE * (time.monotonic() - started)

        def run(mutant: Mutant) -> tuple[Mutant, bool]:
            tree = trees.get()
            try:
                return mutant, survives(mutant, tree, timeouts[mutant.subject])
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, alive in pool.map(run, mutants):
                if alive:
                    survivors.append(mutant)
                    print(f"survived {mutant.path}:{mutant.line}\n  - {mutant.before}")
                    print(f"  + {mutant.after}", flush=True)
    for subject in SUBJECTS:
        ran = [one for one in mutants if one.subject == subject]
        alive_here = [one for one in survivors if one.subject == subject]
        if ran:
            killed = len(ran) - len(alive_here)
            print(f"{subject:30} {killed:4} of {len(ran):4} killed, {killed / len(ran):.0%}")
    share = 1 - len(survivors) / max(len(mutants), 1)
    seconds = time.monotonic() - began
    print(f"{share:.1%} of {len(mutants)} killed in {seconds:.0f} s; {len(known)} known")
    return int(share < LEAST_KILLED)


if __name__ == "__main__":
    sys.exit(main())
