"""The site has every page, and every link on it leads somewhere; told without the site's tools."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import browser, site

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAV = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]


def hooks() -> Any:
    """Load docs/site_hooks.py."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = hooks()
FROM_ABOVE = {page: ROOT / name for page, name in HOOKS.FROM_ABOVE.items()}
PAGES = [
    ROOT / "README.md",
    *(path for path in FROM_ABOVE.values() if path.suffix == ".md"),
    *sorted(DOCS.glob("*.md")),
]
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
    rest = HOOKS.without_place(NAV)

    assert sorted([*told, *rest]) == sorted(
        {path.name for path in DOCS.glob("*.md")} | FROM_ABOVE.keys()
    )


def test_a_page_without_a_place_comes_last() -> None:
    """A page that is new and not in the navigation yet is on the site all the same."""
    assert HOOKS.without_place([{"Start": [{"Quota": "quota.md"}]}]) == sorted(
        path.name for path in DOCS.glob("*.md") if path.name != "quota.md"
    )


def test_every_entry_of_the_navigation_is_read() -> None:
    """No entry has a form that the test above passes over."""
    lines = [line for line in NAV.splitlines() if line.strip()]

    form = re.compile(r" +- [^:]+:(?: +[\w-]+\.(?:md|ipynb))?$")

    assert [one for one in lines if not form.match(one)] == []


@dataclass
class _Page:
    """What the hook asks of a page."""

    src_uri: str

    @property
    def file(self) -> _Page:
        """Its file."""
        return self


@pytest.mark.parametrize(
    ("page", "link", "on_site"),
    [
        ("quota.md", "[a](s3.md#x)", "[a](s3.md#x)"),
        ("quota.md", "[a](../CHANGELOG.md)", "[a](changelog.md)"),
        ("quota.md", "![a](img/watch.png)", "![a](img/watch.png)"),
        ("quota.md", "[a](../LICENSE)", "a (`LICENSE`)"),
        ("contributing.md", "[a](docs/quota.md#x)", "[a](quota.md#x)"),
        ("quota.md", "[a](nothing.md)", "[a](nothing.md)"),
        ("quota.md", "[a](https://h/b)", "[a](https://h/b)"),
    ],
)
def test_links_of_the_checkout_become_those_of_the_site(page: str, link: str, on_site: str) -> None:
    """What is on the site is linked, what is not is named, what is nowhere stays to be found."""
    assert HOOKS.on_page_markdown(link, _Page(page)) == on_site


def test_the_notebook_is_a_page() -> None:
    """Text, code, pictures and printed lines of the notebook are on its page."""
    page = HOOKS.notebook_page(json.loads((DOCS / "downloading.ipynb").read_text()))

    assert page.startswith("# A notebook")
    assert "```python\nqueue = DownloadQueue(" in page
    assert "```text\n6 of 6 done (" in page
    assert "<div class='output'><div>\n<style scoped>" in page
    assert len(page) < 20_000


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


def test_the_checks_of_a_built_site_find_what_is_wrong(tmp_path: Path) -> None:
    """An empty site, a picture of another host, a page of 400 kB and a dead search are found."""
    empty = site.main([str(tmp_path)])
    (tmp_path / "index.html").write_text("<a href='https://h/'>a page elsewhere</a>")
    good = [*site.loads(tmp_path), *site.large(tmp_path)]
    without = site.without_search(tmp_path)
    (tmp_path / "large.html").write_text("x" * 400_000)
    (tmp_path / "loads.html").write_text("<img src='https://h/picture.png'>")

    assert (empty, good) == (1, [])
    assert len(without) == (browser.browser() is not None)
    assert site.large(tmp_path) == ["large.html: 400000 bytes, at most 300000"]
    assert len(site.loads(tmp_path)) == 1


def test_the_site_asks_no_other_host() -> None:
    """No font, script or counter of other hosts is configured."""
    settings = (ROOT / "mkdocs.yml").read_text()

    assert "\n  font: false\n" in settings
    assert re.findall(r"https?://", settings) == []
    assert "polyfills: [iframe-worker.js]" in settings
    assert "analytics" not in settings
    assert "\nstrict: true\n" in settings
