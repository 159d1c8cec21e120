"""A built site loads nothing from other hosts: ``python -m tests.site FOLDER``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.I
)
LINKED = re.compile(r"rel=[\"']?(?:canonical|next|prev|author|license)\b", re.I)
"""Links that a browser only follows when somebody asks."""


def loads(folder: Path) -> list[str]:
    """Name what the pages would load from elsewhere."""
    return [
        f"{page.relative_to(folder)}: {tag[:200]}"
        for page in sorted(folder.rglob("*.html"))
        for tag in LOADED.findall(page.read_text())
        if not LINKED.search(tag)
    ]


def main(arguments: list[str]) -> int:
    """Look at a site; 1 when it loads something, or when there is none."""
    folder = Path(arguments[0] if arguments else "site")
    pages = len(list(folder.rglob("*.html")))
    found = loads(folder)
    print(*found, f"{pages} pages, {len(found)} things from other hosts", sep="\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
