"""Check a built site: no other hosts, no large page, a search. ``python -m tests.site FOLDER``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests import browser

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


_SEARCH = """<script>addEventListener("load", () => setTimeout(() => {
  document.querySelector("[data-md-toggle=search]").click();
  const input = document.querySelector(".md-search__input");
  input.value = "quota";
  for (const name of ["focus", "keyup", "input"]) input.dispatchEvent(new Event(name));
}, 500))</script>"""


def without_search(folder: Path) -> list[str]:
    """Return a problem if the search of a site that is opened as files finds nothing."""
    if browser.browser() is None:
        return []
    page = folder / "search-check.html"
    page.write_text((folder / "index.html").read_text() + _SEARCH)
    try:
        found = re.search(r"\d+ matching documents", browser.dom(page.resolve().as_uri()))
    finally:
        page.unlink()
    return [] if found else ["index.html: the search finds nothing about quota"]


def main(arguments: list[str]) -> int:
    """Check a site; return 1 when a check fails, or when there is no page."""
    folder = Path(arguments[0] if arguments else "site")
    pages = len(list(folder.rglob("*.html")))
    found = [*loads(folder), *large(folder), *(without_search(folder) if pages else ())]
    print(*found, f"{pages} pages, {len(found)} problems", sep="\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
