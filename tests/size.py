"""Count the lines of code of each room, Python and Lua: ``make size``.

Blank lines, comments and docstrings do not count.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

from tests.unit.test_layers import ROOT, SOURCES, room_of

PYTHON_AND_LUA, LUA = 12_000, 950
"""Lines of code at most, in all and in Lua."""


def code_lines(module: str) -> int:
    """Count the lines with code: no blank lines, comments or docstrings."""
    text = SOURCES[module].read_text()
    skipped = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
        tokenize.ENDMARKER,
    }  # fmt: skip
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        for one in _block(node):
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                lines -= set(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    return len(lines)


def _block(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a node; a lambda and a conditional expression have none."""
    block = getattr(node, "body", [])
    return block if isinstance(block, list) else []


def lua_lines(path: Path) -> int:
    """Count the lines of a script that are neither blank nor a comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("--"))


def main() -> int:
    """Print a line a room; return 1 where the whole is too large."""
    rooms: Counter[str] = Counter()
    for module in SOURCES:
        rooms[room_of(module)] += code_lines(module)
    lua = sum(map(lua_lines, (ROOT / "geodes_tasks").rglob("*.lua")))
    for room, lines in sorted(rooms.items()):
        print(f"{room:12} {lines:6}")
    total = sum(rooms.values()) + lua
    print(f"{'Lua':12} {lua:6}   at most {LUA}")
    print(f"{'all':12} {total:6}   at most {PYTHON_AND_LUA}")
    return int(total > PYTHON_AND_LUA or lua > LUA)


if __name__ == "__main__":
    sys.exit(main())
