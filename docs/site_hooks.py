"""Add pages from elsewhere to the site, also the notebook, and point links at pages of the site.

Links in the pages are those of the checkout, so that they also work where it is browsed. A link to
a file that is no page of the site becomes the name of that file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FROM_ABOVE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "deploy.md": "deploy/README.md",
    "downloading.md": "docs/downloading.ipynb",
}
"""Page of the site to the file of the checkout."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put pages without a place at the end of the navigation."""
    if rest := without_place(config.nav):
        config.nav.append({"More": rest})
    return config


def without_place(nav: Any) -> list[str]:
    """Return the pages of this folder that a navigation does not have."""
    placed = set(re.findall(r"[\w-]+\.md", str(nav)))
    return sorted({path.name for path in (ROOT / "docs").glob("*.md")} - placed)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of FROM_ABOVE."""
    from mkdocs.structure.files import (
        File,
    )  # here: the tests need the rest without the site's tools

    for page, name in FROM_ABOVE.items():
        if name.endswith(".ipynb"):
            content = notebook_page(json.loads((ROOT / name).read_text()))
            files.append(File.generated(config, page, content=content))
        else:
            files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: its text, its code, and what each cell printed or showed."""
    # The page that nbconvert makes carries 570 kB of JupyterLab's style sheets.
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        code = cell["cell_type"] == "code"
        parts.append(f"```python\n{source}\n```" if code else source)
        for output in cell.get("outputs", ()):
            shown = output.get("data", {"text/plain": output.get("text", ())})
            if "text/html" in shown:
                parts.append(f"<div class='output'>{''.join(shown['text/html'])}</div>")
            else:
                parts.append(f"```text\n{''.join(shown['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts)


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
