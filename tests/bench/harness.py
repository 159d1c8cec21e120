"""What all benches share: how often and how much, ratios pair by pair, figures as JSON.

Everything that is compared runs in turn (A B C, A B C, ...), so that a machine that is busy for
a while is busy for all of them, and a ratio is taken within each turn before the median is.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
"""Below 1 a bench is a quick try: fewer files, smaller ones, and no figure has to be reached."""
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
RESULTS = ROOT / os.environ.get("BENCH_RESULTS", "build/bench")
"""One JSON file a bench; docs/make_benchmarks.py makes the tables of docs/benchmarks.md of them."""

AT_MOST, AT_LEAST = "at most", "at least"

written: list[Bench] = []
"""What ran in this process, for the summary at the end."""


def scaled(number: int, least: int = 1) -> int:
    """Give a count or a size as this run wants it."""
    return max(least, round(number * SCALE))


@dataclass(frozen=True, slots=True)
class Series:
    """The same thing measured several times."""

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest one."""
        return min(self.values), max(self.values)

    def over(self, other: Series) -> Series:
        """Divide by another one, turn by turn."""
        pairs = zip(self.values, other.values, strict=True)
        return Series(tuple(mine / theirs for mine, theirs in pairs), "times")

    def per(self, count: float, unit: str) -> Series:
        """Turn seconds into ``count`` things a second."""
        return Series(tuple(count / value for value in self.values), unit)

    def slower(self, other: Series) -> Series:
        """Take the larger one, turn by turn."""
        return Series(tuple(map(max, self.values, other.values)), self.unit)

    def plus(self, other: Series) -> Series:
        """Add another one, turn by turn."""
        pairs = zip(self.values, other.values, strict=True)
        return Series(tuple(mine + theirs for mine, theirs in pairs), self.unit)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        low, high = self.spread
        return {
            "unit": self.unit,
            "median": rounded(self.median),
            "low": rounded(low),
            "high": rounded(high),
            "values": [rounded(value) for value in self.values],
        }


def rounded(value: float) -> float:
    """Keep four digits that mean something."""
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of ours beside what it is compared with and what it has to reach."""

    work: str
    against: str
    figure: Series
    sense: str = AT_MOST
    reach: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches it; None when nothing is to be reached."""
        if self.reach is None:
            return None
        median = self.figure.median
        return median <= self.reach if self.sense == AT_MOST else median >= self.reach

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        known = {"work": self.work, "against": self.against, **self.figure.to_dict()}
        if self.reach is not None:
            known |= {"sense": self.sense, "reach": self.reach, "met": self.met}
        return known

    def __str__(self) -> str:
        """Give the line of the summary."""
        low, high = self.figure.spread
        text = f"{self.work}, against {self.against}: {self.figure.median:.4g} {self.figure.unit}"
        text += f" ({low:.4g} to {high:.4g})"
        if self.reach is None:
            return text
        return f"{text}; {self.sense} {self.reach:g}: {'reached' if self.met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures were taken; nothing that names the host or its folders."""

    cores: int
    kernel: str
    python: str
    memory_gib: float

    @classmethod
    def here(cls) -> Self:
        """Look at this machine."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        kernel = f"{platform.system()} {platform.release().split('-')[0]}"
        return cls(
            len(os.sched_getaffinity(0)), kernel, platform.python_version(), round(pages / 2**30, 1)
        )


def commit() -> str:
    """Name the commit that was measured; a star when the checkout differs from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        name = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("*" if changed.strip() else "")


@dataclass(slots=True)
class Bench:
    """One bench: what was measured, and the lines that say what it means."""

    name: str
    title: str
    conditions: dict[str, Any] = field(default_factory=dict)
    """What a reader has to know: sizes, counts, the server."""
    series: dict[str, Series] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Peers that are not there, and why."""
    busy: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])

    def in_turn(
        self, runs: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, unit: str = "s"
    ) -> dict[str, Series]:
        """Run all in turn, several times; keep what each of them gives."""
        seen: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                seen[name].append(run())
            self.busy.append(os.getloadavg()[0])
        kept = {name: Series(tuple(values), unit) for name, values in seen.items()}
        self.series |= kept
        return kept

    def line(
        self,
        work: str,
        against: str,
        figure: Series,
        sense: str = AT_MOST,
        reach: float | None = None,
    ) -> None:
        """Note one line of the result."""
        self.lines.append(Line(work, against, figure, sense, reach))

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "bench": self.name,
            "title": self.title,
            "taken": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "commit": commit(),
            "machine": asdict(Machine.here()),
            "load_average": [round(min(self.busy), 1), round(max(self.busy), 1)],
            "scale": SCALE,
            "rounds": max((len(one.values) for one in self.series.values()), default=0),
            "conditions": self.conditions,
            "lines": [line.to_dict() for line in self.lines],
            "series": {name: series.to_dict() for name, series in self.series.items()},
            "missing": self.missing,
        }

    def finish(self) -> None:
        """Write the JSON, and fail where a figure is not reached by a run at full scale."""
        self.busy.append(os.getloadavg()[0])
        written.append(self)
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=1)
        (RESULTS / f"{self.name}.json").write_text(text + "\n")
        missed = [str(line) for line in self.lines if line.met is False]
        assert SCALE < 1 or not missed, "; ".join(missed)

    def summary(self) -> list[str]:
        """Give the lines to print."""
        low, high = min(self.busy), max(self.busy)
        heading = f"{self.name}: {self.title} (load {low:.1f} to {high:.1f})"
        return [heading, *(f"  {line}" for line in self.lines), *(f"  {m}" for m in self.missing)]


def processor_s(pid: int) -> float:
    """Give the processor seconds of a process so far."""
    # Source: ``man 5 proc``; the name before may hold anything, so it is cut off first.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Seconds of the processors that runs take, those of the server they ask included."""

    def __init__(self, server: int) -> None:
        """Begin.

        Args:
            server: Process id; one that is no child of a run.
        """
        self._server = server
        self._used: dict[str, list[float]] = {}
        self._own: dict[str, list[float]] = {}

    def around(self, name: str, run: Callable[[], float]) -> Callable[[], float]:
        """Give a run that is metered."""

        def metered() -> float:
            before, own = self._seconds(), self._client_seconds()
            seconds = run()
            self._used.setdefault(name, []).append(self._seconds() - before)
            self._own.setdefault(name, []).append(self._client_seconds() - own)
            return seconds

        return metered

    def least(self, name: str) -> Series:
        """Give how long it takes at least where no processor is ever idle."""
        cores = Machine.here().cores
        return Series(tuple(used / cores for used in self._used[name]))

    def without_server(self, name: str, unit: str, per: float) -> Series:
        """Give the processor seconds of the runs alone, for each of ``per`` units of work."""
        return Series(tuple(used / per for used in self._own[name]), unit)

    def _client_seconds(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    def _seconds(self) -> float:
        return self._client_seconds() + processor_s(self._server)


def timed(command: Sequence[str], **options: Any) -> float:
    """Run a peer; give its seconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return time.perf_counter() - began


def last_json(command: Sequence[str], **options: Any) -> Any:
    """Run a script; give what it says in the last line of its output, as JSON.

    Raises:
        AssertionError: it failed; the end of what it said is in the message.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
