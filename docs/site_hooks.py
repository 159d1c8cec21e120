"""What the site needs beside the pages of this folder: pages from elsewhere, and their links.

Links in the pages are those of the checkout, so that they also work where it is browsed. What is no
page of the site is named there in place of a link that would lead nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FROM_ABOVE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "deploy.md": "deploy/README.md",
}
"""Page of the site to the file of the checkout."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put pages that nobody gave a place at the end of the navigation."""
    if rest := without_place(config.nav):
        config.nav.append({"More": rest})
    return config


def without_place(nav: Any) -> list[str]:
    """Name the pages of this folder that a navigation does not have."""
    placed = set(re.findall(r"[\w-]+\.md", str(nav)))
    return sorted({path.name for path in (ROOT / "docs").glob("*.md")} - placed)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from above."""
    from mkdocs.structure.files import (
        File,
    )  # here: the tests need the rest without the site's tools

    for page, name in FROM_ABOVE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages of the site."""
    name = page.file.src_uri
    folder = (ROOT / FROM_ABOVE.get(name, f"docs/{name}")).parent
    return _LINK.sub(lambda match: _on_site(match, folder), markdown)


def _on_site(match: re.Match[str], folder: Path) -> str:
    mark, text, target, anchor = match.groups()
    where = (folder / target).resolve()
    pages = {(ROOT / name).resolve(): page for page, name in FROM_ABOVE.items()}
    if where in pages:
        return f"{mark}[{text}]({pages[where]}{anchor or ''})"
    if where.is_relative_to(ROOT / "docs"):
        return f"{mark}[{text}]({where.relative_to(ROOT / 'docs')}{anchor or ''})"
    return f"{text} (`{where.relative_to(ROOT)}`)" if where.exists() else match[0]
