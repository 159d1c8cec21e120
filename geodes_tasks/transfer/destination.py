"""Final path of a file: a layout template filled in, and every name that could do harm refused.

The disk is not read. Names are checked for all systems that may mount a shared folder, so all
workers refuse the same names.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from geodes_tasks.errors import ConfigError, HostileNameError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import printable

DEFAULT_LAYOUT = "{title}"
"""Layout of the path below the download folder; only this one keeps sub-folders of a title."""

PART_FOLDER = ".geodes-tasks"
"""Name of the folder of part files, in the folder of the final file."""

NAME_BYTES = 255
"""Longest file name of the usual file systems, in bytes (NAME_MAX of limits.h)."""
PATH_BYTES = 4095
"""Longest path of Linux, in bytes: PATH_MAX of limits.h is 4096 with its closing NUL."""
PATH_PARTS = 100
"""Number of parts of a path, at most. Python makes, reads and removes nested folders by recursion,
which ends at some hundreds."""

_HINT = "Correct the layout, for example --layout '{collection}/{title}'."
# Nearly all names: no character that any system could read as another one.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", re.ASCII)
_FIELD = re.compile(r"\{([^{}]*)\}")
_SEPARATORS = re.compile(r"[/\\]")
# Characters that look like a separator and that NFKC does not fold to one
# (https://www.unicode.org/reports/tr36/#Visual_Security_Issues).
_LOOKALIKES = frozenset("\u2044\u2215\u2216\u2571\u2572\u29f5\u29f8\u29f9")
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9])\Z")


Fields = Callable[[], Mapping[str, str]]
"""Returns the STAC fields of an item and its asset for a layout, which most plans do not need."""


def plan(asset: Asset, folder: Path, layout: str = DEFAULT_LAYOUT, fields: Fields = dict) -> str:
    """Return the final path of an asset: absolute, below the download folder, links not resolved.

    Args:
        asset: Asset to download.
        folder: Download folder; a relative one starts from the current folder.
        layout: Template such as ``{collection}/{grid:code}/{title}``. Its slashes make the
            folders; in any layout but the default, those within a value become ``_``.
        fields: Fill the layout.

    Raises:
        ConfigError: the layout cannot be used, or names a field that the item does not have.
        HostileNameError: the name would leave the folder, or cannot be a file name everywhere.
    """

    def refused(problem: str) -> HostileNameError:
        return HostileNameError(_name(asset, fields()), problem)

    if layout == DEFAULT_LAYOUT:
        relative = asset.title
    else:
        check_layout(layout)
        relative = _filled(layout, asset, fields())
    if problem := refused_name(relative):
        raise refused(f"file name {printable(relative)!r} {problem}")
    path = f"{str(Path.absolute(folder)).rstrip('/')}/{relative}"
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        coding = sys.getfilesystemencoding()
        problem = f"cannot be written in {coding}: set PYTHONUTF8=1"
        raise refused(f"file name {printable(relative)!r} {problem}") from error
    if size > PATH_BYTES:
        raise refused(f"its whole path has {size} bytes, the most is {PATH_BYTES}")
    return path


def _name(asset: Asset, values: Mapping[str, str]) -> str:
    return printable(values.get("item") or asset.item_id or "item without id")


# --- the layout --------------------------------------------------------------------------------


def check_layout(layout: str) -> None:
    """Check a layout before any item is read.

    Raises:
        ConfigError: no item could fill it.
    """
    shown = printable(layout)
    if "{" in (rest := _FIELD.sub("", layout)) or "}" in rest:
        raise ConfigError("layout", f"{shown!r} has a brace without its partner", _HINT)
    if layout.startswith("/") or any(part in {"", ".", ".."} for part in layout.split("/")):
        raise ConfigError("layout", f"{shown!r} must name a path inside the download folder", _HINT)


def _filled(layout: str, asset: Asset, values: Mapping[str, str]) -> str:
    name = _name(asset, values)

    def value(match: re.Match[str]) -> str:
        field = match[1]
        if field not in values:
            known = printable(", ".join(sorted(values)), 2000)
            problem = f"unknown field {{{printable(field)}}}; {name} has: {known}"
            raise ConfigError("layout", problem, _HINT)
        if not values[field]:
            raise HostileNameError(name, f"has no value for {{{field}}} of the layout")
        return _SEPARATORS.sub("_", values[field])

    return _FIELD.sub(value, layout)


def refused_name(relative: str) -> str | None:
    """Return why a path below a folder is refused; None when it is not."""
    if len(relative) > PATH_BYTES:
        return f"has a path of {len(relative)} characters, the most is {PATH_BYTES}"
    if (parts := relative.count("/") + 1) > PATH_PARTS:
        return f"has a path of {parts} parts, the most is {PATH_PARTS}"
    problems = (_problem(relative, segment) for segment in relative.split("/"))
    return next((problem for problem in problems if problem), None)


def numbered(final: Path) -> Iterator[Path]:
    """Yield a path, then the same with ``-1``, ``-2``, ... before its suffix."""
    yield final
    for number in itertools.count(1):
        ending = f"-{number}{final.suffix}"
        stem = os.fsencode(final.stem)[: NAME_BYTES - len(os.fsencode(ending))]
        yield final.with_name(stem.decode(errors="ignore") + ending)


# --- names that do harm ------------------------------------------------------------------------


def _problem(relative: str, segment: str) -> str | None:
    """Return what is wrong with one segment of a path; None when nothing is."""
    if _PLAIN.match(segment) and not relative.startswith("/"):
        return _bad_for_windows(segment) or _bad_length(segment)
    if relative.startswith("/"):
        return "is an absolute path"
    # Checked as written and as other systems may fold it (NFKC, UAX #15): a fullwidth solidus
    # becomes "/" there.
    folded = unicodedata.normalize("NFKC", segment)
    return (
        _bad_text(segment)
        or _bad_shape(segment)
        or (
            folded != segment
            and _bad_shape(folded)
            and f"reads as {printable(folded)!r} elsewhere, which is refused"
        )
        or _bad_for_windows(folded)
        or _bad_length(segment)
    )


def _bad_text(segment: str) -> str | None:
    categories = {unicodedata.category(c) for c in segment}
    if "Cs" in categories:
        return "is not Unicode text"
    if categories & {"Cc", "Zl", "Zp"}:
        return "has control characters"
    if _BIDI.intersection(segment):
        return "has characters that turn the reading direction"
    if _LOOKALIKES.intersection(segment):
        return "has characters that look like a path separator"
    return None


def _bad_shape(segment: str) -> str | None:
    """Return why a segment would be another path than a file of that name; None when it is not."""
    # HFS+ ignores zero-width characters: ".g\u200cit" was opened as ".git" (CVE-2014-9390).
    bare = "".join(c for c in segment if unicodedata.category(c) != "Cf")
    if not bare.strip():
        return "has an empty part"
    if bare.strip() in {".", ".."}:
        return f"has the part {bare.strip()!r}, which is another folder"
    if _SEPARATORS.search(bare):
        return "has a path separator within a part"
    if unicodedata.normalize("NFKC", bare).casefold().rstrip(" .") == PART_FOLDER:
        return f"uses {PART_FOLDER}, the folder of part files"
    return None


def _bad_for_windows(segment: str) -> str | None:
    if segment.endswith((" ", ".")):
        return "has a part that ends in a space or a dot, which Windows drops"
    stem = segment.partition(".")[0].rstrip(" ").upper()
    return f"has the part {stem}, a device on Windows" if _DEVICE.match(stem) else None


def _bad_length(segment: str) -> str | None:
    size = len(segment.encode())
    return f"has a part of {size} bytes, the most is {NAME_BYTES}" if size > NAME_BYTES else None
