"""Check a built site: no other hosts, no large page. ``python -m tests.site FOLDER``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.I
)
MAX_PAGE_BYTES = 300_000
"""Bytes of the largest page: at 1 Mbit/s it is there in less than 3 seconds."""
LINKED = re.compile(r"rel=[\"']?(?:canonical|next|prev|author|license)\b", re.I)
"""Links that a browser follows only when the reader does."""


def loads(folder: Path) -> list[str]:
    """Return what the pages would load from elsewhere."""
    return [
        f"{page.relative_to(folder)}: {tag[:200]}"
        for page in sorted(folder.rglob("*.html"))
        for tag in LOADED.findall(page.read_text())
        if not LINKED.search(tag)
    ]


def large(folder: Path) -> list[str]:
    """Return the pages above MAX_PAGE_BYTES."""
    sizes = {page: page.stat().st_size for page in sorted(folder.rglob("*.html"))}
    return [
        f"{page.relative_to(folder)}: {size} bytes, at most {MAX_PAGE_BYTES}"
        for page, size in sizes.items()
        if size > MAX_PAGE_BYTES
    ]


def main(arguments: list[str]) -> int:
    """Check a site; return 1 when a check fails, or when there is no page."""
    folder = Path(arguments[0] if arguments else "site")
    pages = len(list(folder.rglob("*.html")))
    found = [*loads(folder), *large(folder)]
    print(*found, f"{pages} pages, {len(found)} problems", sep="\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
