"""Run every property test of ``tests/unit`` for long: ``python -m tests.fuzz --seconds 60``.

With atheris (libFuzzer) each is a process of its own that turns bytes into examples and keeps
those that reach new lines; they lie in ``.fuzz`` and are where the next run begins. Without it
hypothesis runs the same tests with many examples. What fails is kept in hypothesis's own
database, so the next ``make test`` shows it again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / ".fuzz"
WATCHED = ["geodes_tasks"]
"""Packages whose lines the fuzzer wants to reach."""


def main() -> int:
    """Fuzz one target in this process, or all of them one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; without any, all targets")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--one", help="module:function, in this process")
    asked = parser.parse_args()
    if asked.one:
        return _fuzz(asked.one, asked.seconds)
    chosen = [
        name for name in targets() if not asked.names or any(part in name for part in asked.names)
    ]
    if importlib.util.find_spec("atheris") is None:
        return _many_examples(chosen)
    failed = [name for name in chosen if not _child(name, asked.seconds)]
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed or not chosen else 0


def targets() -> Iterator[str]:
    """Name the property tests that need nothing but examples, as ``module:function``."""
    for path in sorted((ROOT / "tests" / "unit").rglob("test_*.py")):
        if "@given" not in path.read_text():
            continue
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(dotted)
        for name, thing in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and _takes_examples_only(thing):
                yield f"{dotted}:{name}"


def _takes_examples_only(test: Any) -> bool:
    """Tell whether hypothesis fills in all arguments: then its signature is empty."""
    is_property = getattr(test, "is_hypothesis_test", False)
    return is_property and not inspect.signature(test).parameters


def _child(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own: libFuzzer ends its process at the first failure."""
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    runs = re.findall(r"^#(\d+).*\bcov: (\d+)", done.stderr, re.MULTILINE)
    examples, lines = runs[-1] if runs else ("0", "0")
    well = done.returncode == 0 and int(examples) > 0
    print(
        f"{'ok    ' if well else 'FAILED'} {examples:>9} runs {lines:>6} edges  {name}", flush=True
    )
    if not well:
        print(done.stdout[-3000:], done.stderr[-6000:], sep="\n")
    return well


def _fuzz(name: str, seconds: int) -> int:
    import atheris  # only here: the other ways to run need no atheris

    module, _, function = name.partition(":")
    with atheris.instrument_imports(include=WATCHED):
        test = getattr(importlib.import_module(module), function)
    corpus = CORPUS / name.replace(":", ".")
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=1024"]
    options.append(f"-artifact_prefix={corpus}-failure-")
    atheris.Setup([sys.argv[0], *options, str(corpus)], test.hypothesis.fuzz_one_input)
    atheris.Fuzz()
    return 0


def _many_examples(names: list[str]) -> int:
    """Let hypothesis alone run them."""
    settings.register_profile("long", deadline=None, max_examples=20_000)
    chosen = [name.replace(".", "/").replace(":", ".py::") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-profile=long", "--timeout=0"]
    return subprocess.run([*command, *chosen], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
