"""Draw the pictures of docs/architecture.md from the code: the rooms and the states.

python docs/make_diagrams.py           writes docs/img/rooms.svg and docs/img/states.svg
python docs/make_diagrams.py --check   exit 1 when a picture differs from the code
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import made_page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from geodes_tasks.model.states import ALLOWED_MOVES, State  # noqa: E402 - after the path
from tests.unit.test_layers import FLOORS, SOURCES, ours, room_of  # noqa: E402

IMAGES = ROOT / "docs" / "img"
STYLE = """<style>
text { font: 14px system-ui, sans-serif; fill: #1b2a41 }
.small { font-size: 11px; fill: #4a5a70 }
rect { fill: #eef3fa; stroke: #3d5a80; rx: 6 }
rect.end { fill: #e8f3ec; stroke: #2f6b4a }
path { fill: none; stroke: #3d5a80 }
.ground { fill: #ffffff; stroke: none }
</style>"""
ARROW = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
    ' orient="auto"><path d="M0 0 8 4 0 8z" style="fill:#3d5a80"/></marker></defs>'
)
PLACES = {
    None: (20, 150),
    State.PENDING: (150, 150),
    State.RETRY: (360, 40),
    State.STARTED: (360, 260),
    State.SUCCESS: (620, 300),
    State.FAILURE: (620, 190),
    State.REVOKED: (620, 60),
}
"""Upper left corner of each state's box, in pixels."""
ROOM_WORDS = {
    "cli": "commands and exit codes",
    "pygeodes": "pygeodes' classes",
    "utils": "pygeodes' import paths",
    "client": "enqueue, steer, run here",
    "worker": "what a worker node runs",
    "tasks": "Celery: the app and the download task",
    "monitoring": "how things stand: terminal, HTML, Flower, metrics, reports",
    "transfer": "one download",
    "ledger": "records in Redis",
    "stac": "item JSON",
    "transports": "how an href is opened: http, s3",
    "model": "the shared words",
    "settings": "every setting",
    "errors": "every failure",
}
"""Room to what it holds, short enough for its box."""
WIDTH, HEIGHT = 110, 36
"""Size of a state's box, in pixels."""


def svg(width: int, height: int, *parts: str) -> str:
    """Return a whole picture on a white ground, legible in light and dark pages."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    )
    ground = f'<rect class="ground" width="{width}" height="{height}"/>'
    return "\n".join([head, STYLE, ARROW, ground, *parts, "</svg>"]) + "\n"


def box(x: int, y: int, width: int, text: str, kind: str = "") -> str:
    """Return a box with a word in its middle."""
    label = f'<text x="{x + width // 2}" y="{y + 23}" text-anchor="middle">{escape(text)}</text>'
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{HEIGHT}"/>{label}'


def rooms() -> str:
    """Draw the floors, the highest first; every import between rooms points down."""
    arrows = {
        (room_of(module), room_of(other))
        for module in SOURCES
        for other in ours(module)
        if room_of(module) != room_of(other)
    }
    counted = len([arrow for arrow in arrows if arrow[1] not in {"errors", "settings"}])
    floors: dict[int, list[str]] = {}
    for room, floor in FLOORS.items():
        if not room.startswith("__"):
            floors.setdefault(floor, []).append(room)
    parts = []
    for row, floor in enumerate(sorted(floors, reverse=True)):
        y = 20 + row * 56
        parts.append(f'<text class="small" x="14" y="{y + 23}">floor {floor}</text>')
        width = 600 // len(floors[floor]) - 12
        parts += [
            box(80 + number * (width + 12), y, width, f"{room}/  {ROOM_WORDS[room]}")
            for number, room in enumerate(floors[floor])
        ]
    bottom = 20 + len(floors) * 56
    text = f"{counted} arrows between rooms, all down; errors and settings are open to all"
    parts.append(f'<text class="small" x="80" y="{bottom + 8}">{text}</text>')
    return svg(700, bottom + 24, *parts)


def states() -> str:
    """Draw each state and each move that the ledger allows."""
    parts = [
        box(*PLACES[state], WIDTH, state, "end" if PLACES[state][0] > 600 else "")
        for state in State
    ]
    parts.append(f'<circle cx="20" cy="{150 + HEIGHT // 2}" r="6"/>')
    parts += [_move(old, new) for old, new in sorted(ALLOWED_MOVES, key=str)]
    return svg(780, 400, *parts)


def _move(old: State | None, new: State) -> str:
    """Return one arrow; the two directions between a pair of states bend apart."""
    name = f"{old or 'unknown'} to {new}"
    if old is new:
        x, y = PLACES[old][0] + WIDTH, PLACES[old][1] + HEIGHT // 2
        curve = f"M{x} {y - 8}c40 -20 40 36 0 16"
    else:
        (x1, y1), (x2, y2) = _middle(old), _middle(new)
        x1, y1 = _edge(x1, y1, x2, y2, old is None)
        x2, y2 = _edge(*_middle(new), x1, y1, small=False)
        bend = 16 if str(old) < str(new) else 34
        length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1)
        cx = (x1 + x2) / 2 - (y2 - y1) / length * bend
        cy = (y1 + y2) / 2 + (x2 - x1) / length * bend
        curve = f"M{x1:.0f} {y1:.0f}Q{cx:.0f} {cy:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{curve}" marker-end="url(#a)"><title>{name}</title></path>'


def _middle(state: State | None) -> tuple[float, float]:
    x, y = PLACES[state]
    return (x, y + HEIGHT / 2) if state is None else (x + WIDTH / 2, y + HEIGHT / 2)


def _edge(x: float, y: float, to_x: float, to_y: float, small: bool) -> tuple[float, float]:
    """Return where the line from the middle of a box to a point leaves the box."""
    half_width, half_height = (7.0, 7.0) if small else (WIDTH / 2, HEIGHT / 2)
    dx, dy = to_x - x, to_y - y
    scale = min(half_width / abs(dx) if dx else 9e9, half_height / abs(dy) if dy else 9e9)
    return x + dx * scale, y + dy * scale


def pictures(folder: Path) -> dict[Path, str]:
    """Return the text of each picture."""
    return {folder / "rooms.svg": rooms(), folder / "states.svg": states()}


if __name__ == "__main__":
    sys.exit(made_page.main(pictures, IMAGES, sys.argv[1:]))
