"""Change the code in small ways and see whether a test fails: ``make mutants``.

A fixed sample is drawn from the rooms whose promises matter most. Each mutant is one change of
one place, run in a copy of the tree against the tests of its subject. A mutant that no test
notices survives: it is listed by its name. `tests/mutants_known.txt` names those that change
nothing that a user could notice, with the reason; they are not run and count as survivors.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
KNOWN = ROOT / "tests" / "mutants_known.txt"
SUBJECTS = {
    "transfer": (
        "geodes_tasks/transfer",
        "tests/unit/transfer/test_*.py",
        "tests/integration/test_extract.py",
        "tests/integration/test_members.py",
        "tests/integration/test_s3_folders.py",
    ),
    "model": ("geodes_tasks/model", "tests/unit/model/test_*.py"),
    "http": (
        "geodes_tasks/transports/http",
        "tests/unit/transports/**/test_*.py",
        "tests/integration/test_message_or_file.py",
        "tests/integration/test_availability.py",
        "tests/integration/test_http_client.py",
        "tests/integration/test_http_transport.py",
        "tests/integration/test_s3_transport.py",
    ),
    "stac": ("geodes_tasks/stac", "tests/unit/stac/test_*.py", "tests/integration/test_search.py"),
    "lua": ("geodes_tasks/ledger/scripts", "tests/unit/ledger/test_*.py"),
}
"""Each subject: the folder that mutants are drawn from, then its tests, the quick ones first."""
LEAST_KILLED = 0.85
"""Share of the mutants of each subject that must be killed."""
SEED = 20_261_128
"""Seed of the sample: any fixed number."""
PATIENCE = 4
"""Times the time of the unchanged code after which a run is ended: a mutant may loop for ever."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
}  # fmt: skip
LUA = (
    (r" == ", " ~= "), (r" ~= ", " == "), (r" < ", " <= "), (r" > ", " >= "), (r" <= ", " < "),
    (r" >= ", " > "), (r" and ", " or "), (r" or ", " and "), (r"\bnot ", ""), (r" \+ ", " - "),
    (r" - ", " + "), (r"\bif (.+) then$", "if true then"),
    (r"^(\s+)(?:redis\.)?call\(.*\)$", r"\1"), (r"^(\s+)return .+$", r"\1do return end"),
)  # fmt: skip
"""Patterns in a line of Lua, each with what a mutant has in its place."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the bytes from `start` to `end` become `text`."""

    subject: str
    path: str
    function: str
    before: str
    after: str
    start: int
    end: int
    text: str
    occurrence: int = 1
    """Which of the changes of the function that read the same."""

    @property
    def name(self) -> str:
        """Return what identifies the mutant while lines around its function come and go."""
        which = f"#{self.occurrence}" if self.occurrence > 1 else ""
        return f"{self.path}: {self.function}{which}: {self.before} -> {self.after}"

    @property
    def rank(self) -> str:
        """Return its place in the sample, which no other mutant has an influence on."""
        return sha256(f"{SEED} {self.name}".encode()).hexdigest()


def python_mutants(subject: str, path: str) -> Iterator[Mutant]:
    """Yield the mutants of the functions of a Python module."""
    source = (ROOT / path).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def visit(node: ast.AST, names: tuple[str, ...], inside: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr):  # its parts have no positions of their own
            return
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names, inside = (*names, node.name), isinstance(node, ast.FunctionDef)
        elif inside and isinstance(node, ast.expr | ast.stmt):
            after = _mutated(copy.deepcopy(node))
            if after is not None:
                text = f"({after})" if isinstance(node, ast.expr) else after
                start = starts[node.lineno - 1] + node.col_offset
                end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
                before = _short(ast.unparse(node))
                function = ".".join(names)
                yield Mutant(subject, path, function, before, _short(after), start, end, text)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, names, inside)

    yield from visit(ast.parse(source), (), inside=False)


def _mutated(node: ast.AST) -> str | None:
    """Return the text of a node after a change of it; None when there is nothing to change."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            node.ops = [COMPARISONS[type(operator)]()]
        case ast.BoolOp(op=operator):
            node.op = ast.Or() if isinstance(operator, ast.And) else ast.And()
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            node.op = ARITHMETIC[type(operator)]()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ast.unparse(operand)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Continue():
            return "break"
        case ast.Return(value=ast.expr()) if ast.unparse(node) != "return None":
            return "return None"
        case ast.Raise() | ast.AugAssign():
            return "pass"
        case ast.Expr(value=ast.Call()) if not ast.unparse(node).startswith(("logger.", "super()")):
            return "pass"
        case _:
            return None
    return ast.unparse(node)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def lua_mutants(subject: str, path: str) -> Iterator[Mutant]:
    """Yield the mutants of a script."""
    start, function = 0, "script"
    for line in (ROOT / path).read_text().splitlines():
        if begun := re.match(r"(?:local )?function ([\w.]+)", line):
            function = begun[1]
        for pattern, replacement in () if line.lstrip().startswith("--") else LUA:
            for found in re.finditer(pattern, line):
                after = line[: found.start()] + found.expand(replacement) + line[found.end() :]
                before, end = line.strip(), start + len(line.encode())
                yield Mutant(subject, path, function, before, after.strip(), start, end, after)
        start += len(line.encode()) + 1
        if line == "end":
            function = "script"


def sample(count: int) -> list[Mutant]:
    """Return the fixed sample: a mutant that an edit adds or removes moves one other at most."""
    return sorted(every_mutant(), key=lambda mutant: mutant.rank)[:count]


def every_mutant() -> Iterator[Mutant]:
    """Yield every mutant of every subject."""
    kinds = {".py": python_mutants, ".lua": lua_mutants}
    for subject, (folder, *_) in SUBJECTS.items():
        for file in sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in kinds):
            seen: Counter[str] = Counter()
            for mutant in kinds[file.suffix](subject, file.relative_to(ROOT).as_posix()):
                seen[mutant.name] += 1
                yield Mutant(**vars(mutant) | {"occurrence": seen[mutant.name]})


def tests_of(mutants: Sequence[Mutant], tree: Path) -> list[str]:
    """Return the files of tests for mutants of one subject, those of their own modules first."""
    stems = [Path(mutant.path).stem for mutant in mutants]
    patterns = [
        *(f"tests/unit/**/test_{stem}.py" for stem in stems),
        *SUBJECTS[mutants[0].subject][1:],
        *(f"tests/integration/**/test_{stem}.py" for stem in stems),
    ]
    files = (path for pattern in patterns for path in sorted(tree.glob(pattern)))
    return list(dict.fromkeys(path.relative_to(tree).as_posix() for path in files))


def run(tree: Path, tests: list[str], timeout_s: float | None = None) -> str:
    """Return how tests end in a copy of the tree: survived, killed or timeout."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command, cwd=tree, env=environment, start_new_session=True,
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            if child.wait(timeout_s) == 0:
                return "survived"
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            with contextlib.suppress(ProcessLookupError):  # servers of its tests, too
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        return "timeout" if b"Failed: Timeout (>" in output.read() else "killed"


def seconds_unchanged(tree: Path, tests: list[str]) -> float:
    """Return how long tests take on the unchanged code, on which they must pass."""
    began = time.monotonic()
    if run(tree, tests) != "survived":  # then every mutant would count as killed
        sys.exit(f"these tests fail on the unchanged code: {' '.join(tests)}")
    return time.monotonic() - began


def run_mutant(mutant: Mutant, trees: Queue[Path], timeout_s: float) -> str:
    """Return how the tests end with a mutant in a copy of the tree."""
    tree = trees.get()
    target = tree / mutant.path
    original = target.read_bytes()
    changed = original[: mutant.start] + mutant.text.encode() + original[mutant.end :]
    target.write_bytes(changed)
    try:
        return run(tree, tests_of([mutant], tree), timeout_s)
    finally:
        target.write_bytes(original)
        trees.put(tree)


def main() -> int:
    """Run the sample; return 1 when too few of a subject's mutants are killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--only", default="", help=f"one subject: {', '.join(SUBJECTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.only not in ("", *SUBJECTS):
        parser.error(f"no subject {options.only!r}; there are {', '.join(SUBJECTS)}")
    known = {line.partition("  # ")[0] for line in KNOWN.read_text().splitlines()}
    unknown = known - {"", *(mutant.name for mutant in every_mutant())}
    for name in sorted(name for name in unknown if not name.startswith("#")):
        print(f"no such mutant any more, in {KNOWN.name}: {name}")
    chosen = [one for one in sample(options.count) if one.subject.startswith(options.only)]
    began, few = time.monotonic(), False
    trees: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        copies = [Path(scratch) / str(job) for job in range(options.jobs)]
        for tree in copies:
            skipped = shutil.ignore_patterns(".git", ".venv", "site", ".*_cache", "__pycache__")
            shutil.copytree(ROOT, tree, ignore=skipped)
            trees.put(tree)
        for subject in dict.fromkeys(mutant.subject for mutant in chosen):
            mutants = [one for one in chosen if one.subject == subject]
            tests = tests_of(mutants, tree)
            limit = PATIENCE * max(pool.map(seconds_unchanged, copies, [tests] * len(copies)))
            new = [one for one in mutants if one.name not in known]
            results: Counter[str] = Counter(known=len(mutants) - len(new))
            tested = partial(run_mutant, trees=trees, timeout_s=limit)
            for one, end in zip(new, pool.map(tested, new), strict=True):
                results[end] += 1
                if end != "killed":
                    print(f"{end}: {one.name}", flush=True)
            share = (results["killed"] + results["timeout"]) / len(mutants)
            figures = ", ".join(f"{number} {end}" for end, number in sorted(results.items()))
            print(f"{subject}: {share:.0%} of {len(mutants)}: {figures}", flush=True)
            few = few or share < LEAST_KILLED
    print(f"{len(chosen)} mutants in {time.monotonic() - began:.0f} s")
    return int(few)


if __name__ == "__main__":
    sys.exit(main())
