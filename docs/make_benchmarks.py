"""Write the tables of docs/benchmarks.md and docs/scale.md from what `make bench` has measured.

python docs/make_benchmarks.py [FOLDER]   takes in new results of FOLDER (build/bench), writes
python docs/make_benchmarks.py --check    only says whether pages and picture are up to date
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
PAGE, SCALE, FIGURES = HERE / "benchmarks.md", HERE / "scale.md", HERE / "figures"
PICTURE = HERE / "img" / "growth.svg"
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
OVERVIEW, OTHERS, COSTS = "overview", "others", "costs"
ITEMS, WORKERS, SLOTS = 10_000_000, 1000, 16
"""What docs/scale.md is about."""
Result = dict[str, Any]


def results() -> dict[str, Result]:
    """Read what was measured, by the name of the bench."""
    found = (json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json")))
    return {one["bench"]: one for one in found}


def page(text: str, known: dict[str, Result]) -> str:
    """Give the page with its tables made anew; what stands between them stays."""
    named = {match[2] for match in MARKED.finditer(text)}

    def made(match: re.Match[str]) -> str:
        name = match[2]
        if name == OVERVIEW:
            lines = overview(known)
        elif name == COSTS:
            lines = costs(known)
        elif name == OTHERS:
            lines = others(result for each, result in known.items() if each not in named)
        else:
            lines = chapter(known[name])
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return MARKED.sub(made, text)


def overview(known: dict[str, Result]) -> Iterator[str]:
    """Give one row for each figure that something has to reach."""
    yield "| work | against | figure | to reach | reached |"
    yield "|---|---|---|---|---|"
    for result in known.values():
        for line in result["lines"]:
            if "reach" in line:
                what = line["work"] if result["scale"] == 1 else f"*quick try:* {line['work']}"
                yield row(what, against(line), figure(line), reach(line), met(line))


def chapter(result: Result) -> Iterator[str]:
    """Give what one bench has measured: where, the lines, the raw figures."""
    machine, (low, high) = result["machine"], result["load_average"]
    yield (
        f"*Taken {result['taken']}, commit {result['commit']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:g} GiB, {machine['kernel']}, Python {machine['python']}; "
        f"load average {low:g} to {high:g}.*"
    )
    if result["scale"] != 1:
        yield f"\n**A quick try at {result['scale']:g} of the size, not the figures themselves.**"
    yield "\n" + "; ".join(f"{name}: {value}" for name, value in conditions(result)) + "."
    yield "\n| work | against | median (lowest to highest) | to reach | reached |"
    yield "|---|---|---|---|---|"
    for line in result["lines"]:
        yield row(line["work"], against(line), figure(line), reach(line), met(line))
    yield "\n| measured | median | lowest to highest |"
    yield "|---|---|---|"
    for name, series in result["series"].items():
        unit = series["unit"]
        yield row(name, f"{number(series['median'])} {unit}", spread(series))
    yield from (f"\n{missing}." for missing in result["missing"])


def others(left: Iterable[Result]) -> Iterator[str]:
    """Give what was measured and has no chapter of its own."""
    for result in left:
        yield f"\n## {result['title'][:1].upper()}{result['title'][1:]}\n"
        yield from chapter(result)


def costs(known: dict[str, Result]) -> Iterator[str]:
    """Give what one thing costs, and what that makes of ten million items and 1,000 workers."""
    growth, small = known["growth"], known["small_files"]
    longest = max(growth["conditions"]["of the ledger"])

    def of(name: str) -> float:
        return float(growth["series"][f"{name} at {longest}"]["median"])

    memory, admit, download = (
        of("bytes"),
        of("Redis's time to admit"),
        of("Redis's time for a download"),
    )
    renew = float(growth["series"]["Redis's time to renew a lease"]["median"])
    recovery = of("Redis's time for a recovery")
    pace = small["lines"][0]["median"]
    asked = small["conditions"]["requests to Redis for a file"]
    leases = WORKERS * SLOTS
    low, high = growth["load_average"]
    yield (
        f"*Measured with {longest:,} in the ledger; load average {low:g} to {high:g} on "
        f"{growth['machine']['cores']} cores.*\n"
    )
    yield "| what | costs | at scale |"
    yield "|---|---|---|"
    yield row(
        "memory of Redis for an item",
        f"{memory:,.0f} bytes",
        f"ten million: {memory * ITEMS / 2**30:.0f} GiB",
    )
    yield row(
        "Redis's time to admit an item",
        f"{admit:.0f} µs",
        f"ten million: {admit * ITEMS / 60e6:.0f} minutes of its one core",
    )
    yield row(
        "Redis's time for a download: claim, record, release of the next",
        f"{download:.0f} µs",
        f"at most {1e6 / download:,.0f} downloads a second, whatever the fleet;"
        f" ten million take {download * ITEMS / 3600e6:.1f} hours of its core",
    )
    yield row(
        "Redis's time to renew a lease, once a second",
        f"{renew:.0f} µs",
        f"{leases:,} transfers under way: {renew * leases / 1e4:.0f} % of its core",
    )
    yield row(
        "Redis's time for a look of recovery, every 15 s a worker",
        f"{recovery:.0f} µs",
        f"1,000 workers: {recovery * WORKERS / 15 / 1e4:.1f} % of its core",
    )
    requests = ", ".join(f"{count:g} {name}" for name, count in asked.items())
    yield row(
        "requests to Redis for a small file",
        requests,
        f"one worker's {pace:,.0f} files a second: {pace * sum(asked.values()):,.0f} a second",
    )
    links = small["conditions"]["connections of the worker to Redis"]
    yield row(
        "connections of a worker with 16 slots to Redis",
        f"{links}",
        f"1,000 workers: {links * WORKERS:,}, of 10,000 that Redis allows as it comes",
    )
    yield row(
        "small files a second through one worker",
        f"{pace:,.0f}",
        f"ten million: {ITEMS / pace / 3600:.0f} hours with one worker",
    )


def conditions(result: Result) -> Iterator[tuple[str, str]]:
    """Give what a reader has to know, numbers written as people write them."""
    for name, value in result["conditions"].items():
        plain = json.dumps(value).replace('"', "") if isinstance(value, dict | list) else value
        yield name, f"{value:,}" if isinstance(value, int) else str(plain)


def row(*cells: str) -> str:
    """Give one row of a table."""
    return f"| {' | '.join(cells)} |"


def against(line: Result) -> str:
    """Name what a line is held against."""
    return "" if line["against"] == "(none)" else str(line["against"])


def figure(line: Result) -> str:
    """Give a line's median and spread."""
    return f"**{number(line['median'])}** {line['unit']} ({spread(line)})"


def spread(one: Result) -> str:
    """Give the lowest and the highest."""
    return f"{number(one['low'])} to {number(one['high'])}"


def reach(line: Result) -> str:
    """Say what a line has to reach."""
    return f"{line['sense']} {number(line['reach'])}" if "reach" in line else ""


def met(line: Result) -> str:
    """Say whether it does."""
    return {True: "yes", False: "**no**", None: ""}[line.get("met")]


def number(value: float) -> str:
    """Write a number with as many digits as mean something."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


# --- the picture ---------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 760, 380, 70, 50, 60, 24
COLOURS = {"files": "#1f6f8b", "cycles": "#b5541c"}
TITLES = {
    "files": "files of 64 KiB a second, one worker",
    "cycles": "claims and records a second, the ledger alone",
}


def picture(result: Result) -> str:
    """Draw pace against the length of the queue."""
    points = {kind: curve(result, kind) for kind in TITLES}
    longest = max(length for curve in points.values() for length, _ in curve)
    shortest = min(length for curve in points.values() for length, _ in curve)
    top = nice(max(pace for curve in points.values() for _, pace in curve))

    def across(length: float) -> float:
        share = math.log(length / shortest) / math.log(longest / shortest)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def up(pace: float) -> float:
        return HEIGHT - BOTTOM - pace / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *grid(
            top, sorted({length for curve in points.values() for length, _ in curve}), across, up
        ),
    ]
    for place, (kind, curve_points) in enumerate(points.items()):
        parts += drawn(kind, [(across(length), up(pace)) for length, pace in curve_points])
        y = 20 + 17 * place
        parts.append(f'<text x="{LEFT}" y="{y}" fill="{COLOURS[kind]}">{TITLES[kind]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def curve(result: Result, kind: str) -> list[tuple[int, float]]:
    """Give length and pace of one curve."""
    named = re.compile(rf"{kind} at (\d+)\Z")
    found = ((named.match(name), series) for name, series in result["series"].items())
    return sorted((int(match[1]), series["median"]) for match, series in found if match)


def nice(value: float) -> float:
    """Give a round number above a value."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 8, 10) if step * power >= value)


def grid(top: float, lengths: list[int], across: Any, up: Any) -> Iterator[str]:
    """Draw the axes."""
    for step in range(5):
        pace = top * step / 4
        y = up(pace)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{pace:,.0f}</text>'
    for length in lengths:
        x = across(length)
        yield (
            f'<text x="{min(x, WIDTH - RIGHT - 24):.1f}" y="{HEIGHT - BOTTOM + 20}" '
            f'text-anchor="middle">{length:,}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">downloads in the queue</text>'


def drawn(kind: str, points: list[tuple[float, float]]) -> list[str]:
    """Draw one curve with its points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>'
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[kind]}"/>' for x, y in points]
    return [line, *dots]


def take_in(folder: Path) -> None:
    """Copy new results beside the page."""
    FIGURES.mkdir(exist_ok=True)
    for path in sorted(folder.glob("*.json")):
        shutil.copyfile(path, FIGURES / path.name)


def main(arguments: list[str]) -> int:
    """Write the pages and the picture, or check them; 1 when they are out of date."""
    check = "--check" in arguments
    for name in arguments:
        if name != "--check":
            take_in(Path(name))
    known = results()
    wanted = {path: page(path.read_text(), known) for path in (PAGE, SCALE)}
    wanted[PICTURE] = picture(known["growth"])
    stale = [
        path for path, text in wanted.items() if not path.is_file() or path.read_text() != text
    ]
    if not check:
        for path, text in wanted.items():
            path.write_text(text)
    elif stale:
        names = ", ".join(str(path.relative_to(HERE.parent)) for path in stale)
        sys.stderr.write(f"{names}: out of date: run python docs/make_benchmarks.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
