"""The figures: ratios are taken turn by turn, and the page shows what was measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.harness import AT_LEAST, AT_MOST, Bench, Line, Series

ROOT = Path(__file__).parents[2]


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """One slow turn of the machine slows both, and leaves the median of the ratios alone."""
    ours, theirs = Series((1.0, 9.0, 1.2)), Series((2.0, 18.0, 2.4))

    ratio = ours.over(theirs)

    assert (ratio.median, ratio.spread) == (0.5, (0.5, 0.5))


@pytest.mark.parametrize(
    ("sense", "reach", "met"), [(AT_MOST, 2.0, True), (AT_MOST, 1.9, False), (AT_LEAST, 2.1, False)]
)
def test_a_line_is_met_by_its_median(sense: str, reach: float, met: bool) -> None:
    """A single outlier neither saves nor spoils a figure."""
    line = Line("work", "peer", Series((0.1, 2.0, 99.0), "times"), sense, reach)

    assert line.met is met
    assert line.to_dict()["median"] == 2.0


def test_all_run_in_turn() -> None:
    """What is compared runs A B A B, so that a busy minute hits both."""
    order: list[str] = []
    bench = Bench("x", "")

    bench.in_turn({name: lambda name=name: order.append(name) or 1.0 for name in "AB"}, rounds=2)  # type: ignore[misc, func-returns-value]  # bound now, and noted on the way

    assert order == ["A", "B", "A", "B"]


def made(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a copy of the documents."""
    command = [sys.executable, str(folder / "make_benchmarks.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Copy what the script needs."""
    folder = tmp_path / "docs"
    (folder / "img").mkdir(parents=True)
    for name in ("make_benchmarks.py", "benchmarks.md", "scale.md", "img/growth.svg"):
        shutil.copy(ROOT / "docs" / name, folder / name)
    shutil.copytree(ROOT / "docs" / "figures", folder / "figures")
    return folder


def test_the_page_shows_the_figures(docs: Path) -> None:
    """docs/benchmarks.md and its picture are made of the results beside them."""
    done = made(docs, "--check")

    assert (done.returncode, done.stderr) == (0, "")


def test_new_results_change_the_page(docs: Path, tmp_path: Path) -> None:
    """Taken in, a result stands in its table; until then the check says what to do."""
    new = json.loads((docs / "figures" / "slots.json").read_text())
    new["commit"] = "0123456"
    (docs / "figures" / "slots.json").write_text(json.dumps(new))
    before = made(docs, "--check")

    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "slots.json").write_text(json.dumps(new))
    after = made(docs, str(tmp_path / "new"))

    assert before.returncode == 1
    assert "run python docs/make_benchmarks.py" in before.stderr
    assert after.returncode == 0
    assert "commit 0123456" in (docs / "benchmarks.md").read_text()
    assert made(docs, "--check").returncode == 0


def test_every_result_is_shown(docs: Path) -> None:
    """No bench is measured and not shown, its own chapter or not."""
    text = (docs / "benchmarks.md").read_text()

    for path in (docs / "figures").glob("*.json"):
        result = json.loads(path.read_text())
        for line in result.get("lines", ()):
            assert f"| {line['work']} |" in text
        for operation in result.get("operations", ()):
            assert f"| {operation} |" in (docs / "scale.md").read_text()


def test_results_name_no_host() -> None:
    """Machine facts are cores, kernel, Python and memory; no name and no folder."""
    for path in (ROOT / "docs" / "figures").glob("*.json"):
        result = json.loads(path.read_text())

        assert set(result["machine"]) == {"cores", "kernel", "python", "memory_gib"}
        assert not re.search(r"/(tmp|home|root|work)/", path.read_text())
