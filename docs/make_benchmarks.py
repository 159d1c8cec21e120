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
OVERVIEW, OTHERS, COSTS, OPERATIONS = "overview", "others", "costs", "operations"
SIZES = "scale"
"""Name of the result of `make scale`, which is no bench."""
Result = dict[str, Any]


def results() -> dict[str, Result]:
    """Read what was measured, by the name of the bench."""
    found = (json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json")))
    return {one.get("bench", SIZES): one for one in found}


def page(text: str, known: dict[str, Result]) -> str:
    """Give the page with its tables made anew; what stands between them stays."""
    named = {match[2] for match in MARKED.finditer(text)}

    def made(match: re.Match[str]) -> str:
        name = match[2]
        if name == OVERVIEW:
            lines = overview(known)
        elif name == COSTS:
            lines = costs(known[SIZES])
        elif name == OPERATIONS:
            lines = operations(known[SIZES])
        elif name == OTHERS:
            lines = others(result for each, result in known.items() if each not in {*named, SIZES})
        else:
            lines = chapter(known[name])
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return MARKED.sub(made, text)


def overview(known: dict[str, Result]) -> Iterator[str]:
    """Give one row for each figure that something has to reach."""
    yield "| work | against | figure | to reach | reached |"
    yield "|---|---|---|---|---|"
    for result in known.values():
        for line in result.get("lines", ()):
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
    if under := "; ".join(f"{name}: {value}" for name, value in conditions(result)):
        yield f"\n{under}."
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


def costs(known: Result) -> Iterator[str]:
    """Yield what a ledger and a fleet cost Redis, as `make scale` has measured it."""
    _, downloads = known["downloads"]
    workers, shares, memory = known["workers"], known["shares"], known["bytes"]
    own = shares["renewals"] + shares["recovery"]
    yield (
        f"*Measured {known['taken']} with {downloads:,} downloads and {workers:,} workers in the "
        f"ledger; load average {known['load_average']:.0f} on {known['machine']['cores']} cores. "
        f"Shares of a core: with {known['fleet_downloads']:,} downloads.*\n"
    )
    yield "| what | figure |"
    yield "|---|---|"
    for state, size in memory.items():
        yield row(f"memory of Redis for a {state} download", f"{size:,.0f} bytes")
    yield row(
        f"{workers:,} transfers under way, each lease renewed each second, by {workers:,} workers",
        f"{shares['renewals']:.1%} of one core",
    )
    yield row(
        f"heartbeats, recovery and releases of {workers:,} workers, every 5 s each",
        f"{shares['recovery']:.1%} of one core",
    )
    yield row("both together: our commands and scripts", f"**{own:.1%}** of one core")
    yield row(
        f"beside it, Celery's own polling of {workers:,} idle workers",
        f"{shares['celery']:.1%} of one core",
    )
    if "longest_ping_ms" in known:
        longest = f"{known['longest_ping_ms']:.0f} ms"
        yield row("longest wait of a second client that pings", longest)


def operations(known: Result) -> Iterator[str]:
    """Yield Redis's time for a call of each operation, on a small and on a large ledger."""
    small, large = known["downloads"]
    yield f"| operation | {small:,} downloads | {large:,} downloads | growth |"
    yield "|---|---|---|---|"
    for name, (before, after) in known["operations"].items():
        growth = f"{after / max(before, 1):.1f}"
        yield row(name, f"{before:,.0f} µs", f"{after:,.0f} µs", growth)


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
