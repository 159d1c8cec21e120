"""The site has every page, and every link on it leads somewhere; told without the site's tools."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAV = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
FROM_ABOVE = {"changelog.md": ROOT / "CHANGELOG.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
"""The same as in docs/site_hooks.py, which needs the site's tools."""
PAGES = [ROOT / "README.md", *FROM_ABOVE.values(), *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def without_code(text: str) -> str:
    """Take out what stands in blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as the site and GitHub make them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", without_code(page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in plain}


def links(page: Path) -> list[tuple[Path, str]]:
    """Give where the links of a page lead: file and anchor."""
    found = LINK.findall(without_code(page.read_text()))
    return [
        ((page.parent / target).resolve() if target else page, anchor) for target, anchor in found
    ]


def test_every_page_is_in_the_navigation_once() -> None:
    """Whoever opens the site finds every page, and no title leads nowhere."""
    told = re.findall(r"^ +- [^:\n]+: +(\S+\.md)$", NAV, re.MULTILINE)

    assert sorted(told) == sorted({path.name for path in DOCS.glob("*.md")} | FROM_ABOVE.keys())


def test_every_entry_of_the_navigation_is_read() -> None:
    """No entry has a form that the test above passes over."""
    lines = [line for line in NAV.splitlines() if line.strip()]

    assert [one for one in lines if not re.match(r" +- [^:]+:(?: +[\w-]+\.md)?$", one)] == []


def test_pages_from_above_are_those_of_the_site() -> None:
    """The hook takes the same files from above the folder as these tests do."""
    hook = (DOCS / "site_hooks.py").read_text()

    for page, path in FROM_ABOVE.items():
        assert f'"{page}": "{path.name}"' in hook


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """A link to a file leads to a file, one to a heading to a heading."""
    missing = [
        f"{target.relative_to(ROOT)}#{anchor}"
        for target, anchor in links(page)
        if not target.exists()
        or (anchor and target.suffix == ".md" and anchor not in anchors(target))
    ]

    assert missing == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_begins_with_its_title(page: Path) -> None:
    """One title a page, at its top."""
    text = without_code(page.read_text())

    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def test_the_site_asks_no_other_host() -> None:
    """No font, script or counter of other hosts is configured."""
    settings = (ROOT / "mkdocs.yml").read_text()

    assert "\n  font: false\n" in settings
    assert re.findall(r"https?://", settings) == []
    assert "analytics" not in settings
    assert "\nstrict: true\n" in settings
