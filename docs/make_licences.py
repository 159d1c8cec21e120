"""Write docs/licences.md: every pinned package, what it is for, and its licence.

python docs/make_licences.py [FILE]           writes it; all extras must be installed
python docs/make_licences.py --check [FILE]   only says whether it is up to date, as far as the
                                              packages are installed here
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("licences.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPENING = """\
# Licences

<!-- Made by `python docs/make_licences.py` from the metadata of the installed packages. -->

This project is under the [Apache License 2.0](../LICENSE). These are the packages that
`constraints.txt` pins, with the licence that each one states. Those of the first kind are needed
to run; the others only by who works on the project, and are no part of what is installed for users.
"""
RUN = "running"
UNKNOWN = "not stated"
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
"""A row of the page: package, version, needed for, licence."""

Row = tuple[str, str, str, str]


def pins() -> dict[str, tuple[str, str]]:
    """Give every pin: canonical name to the name as written, and its version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): (name, version) for name, version in pairs}


def kinds() -> dict[str, str]:
    """Tell what each installed package is needed for: running first, then the extras in order."""
    needed = dict.fromkeys(closure(PROJECT["dependencies"]), RUN)
    for extra, asked in PROJECT["optional-dependencies"].items():
        for name in closure(asked):
            needed.setdefault(name, extra)
    return needed


def closure(asked: Iterable[str]) -> set[str]:
    """Name the packages that these requirements bring, as far as they are installed."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in asked]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not wanted:
            continue
        seen = name in found
        found.add(name)
        if seen and not requirement.extras:
            continue
        for text in _requires(name):
            waiting += [(Requirement(text), one) for one in ("", *requirement.extras)]
    return found


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def licence(name: str) -> str | None:
    """Give the licence that a package states; None when it is not installed."""
    try:
        facts = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if facts["License-Expression"]:
        return str(facts["License-Expression"])
    classified = [
        one.rpartition(" :: ")[2]
        for one in facts.get_all("Classifier") or ()
        if one.startswith("License ::") and one != "License :: OSI Approved"
    ]
    # Some put the whole text there: its first line names it.
    stated = (facts["License"] or "").strip().partition("\n")[0].strip()
    return ", ".join(classified) or stated[:60].replace("|", "/") or UNKNOWN


def rows() -> Iterator[Row]:
    """Give the rows, those needed to run first, by name.

    Raises:
        SystemExit: a pinned package is not installed, so its licence is not known.
    """
    needed, order = kinds(), [RUN, *PROJECT["optional-dependencies"]]
    table: list[Row] = []
    for name, (written, version) in pins().items():
        stated = licence(name)
        if stated is None:
            raise SystemExit(
                f"{written} is not installed: pip install -e '.[{','.join(order[1:])}]'"
            )
        table.append((written, version, needed.get(name, order[-1]), stated))
    yield from sorted(table, key=lambda row: (order.index(row[2]), row[0].lower()))


def page() -> str:
    """Give the whole page."""
    head = ["| package | version | needed for | licence |", "|---|---|---|---|"]
    return "\n".join([OPENING, *head, *(f"| {' | '.join(row)} |" for row in rows())]) + "\n"


def written_rows(text: str) -> list[Row]:
    """Read the rows of a page."""
    found = [(m[1], m[2], m[3], m[4]) for m in _ROW.finditer(text)]
    return [row for row in found if row[0] != "package" and not row[0].startswith("-")]


def differences(text: str) -> Iterator[str]:
    """Say where a page is behind: every pin counts, a licence where its package is installed."""
    told = {(name, version) for name, version, _, _ in written_rows(text)}
    pinned = set(pins().values())
    yield from (f"{name} {version} is missing" for name, version in sorted(pinned - told))
    yield from (f"{name} {version} is not pinned" for name, version in sorted(told - pinned))
    for name, version, _, stated in written_rows(text):
        now = licence(name)
        if now not in (None, stated) and metadata.version(name) == version:
            yield f"{name} states {now!r}, the page {stated!r}"


def main(arguments: list[str]) -> int:
    """Write the page, or check it; 1 when it is out of date."""
    check = "--check" in arguments
    files = [Path(name) for name in arguments if name != "--check"]
    target = files[0] if files else PAGE
    if not check:
        target.write_text(page())
        return 0
    behind = list(differences(target.read_text() if target.is_file() else ""))
    for line in behind:
        sys.stderr.write(f"{target}: {line}; run python docs/make_licences.py\n")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
