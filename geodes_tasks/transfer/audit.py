"""Audit files on disk against what is known of them: every flip, truncation and deletion.

Needs no network. What is known comes from the ledger, from a report or from an ``md5sum`` list.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from geodes_tasks.errors import SourceError
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.states import State
from geodes_tasks.transfer import multi_object

if TYPE_CHECKING:
    from geodes_tasks.model.results import DownloadRecord

CHUNK = 8
"""Files given to a process at once, when there are many."""
_SUM_LINE = re.compile(
    r"(\\?)([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})"
    r"[ ][ *](.+)\Z",
    re.DOTALL,
)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


class Finding(StrEnum):
    """What the audit says of one file."""

    RIGHT = "right"
    """Its bytes have the checksum."""
    CHANGED = "changed"
    """Its size is right, its bytes are not."""
    WRONG_SIZE = "wrong size"
    """It is shorter or longer."""
    MISSING = "missing"
    """Nothing is there."""
    UNREADABLE = "unreadable"
    """It cannot be read: no right, no regular file, or the disk fails."""
    UNPROVABLE = "unprovable"
    """Its size is right as far as it is known, and nobody knows its checksum."""


BAD = frozenset({Finding.CHANGED, Finding.WRONG_SIZE, Finding.MISSING, Finding.UNREADABLE})


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file should be."""

    path: str
    size_bytes: int | None = None
    checksum: Checksum | None = None
    download_id: str = ""


@dataclass(frozen=True, slots=True)
class Audited:
    """What one file is."""

    expected: Expected
    finding: Finding
    size_bytes: int = 0
    """Bytes on disk."""
    detail: str = ""

    def to_dict(self) -> dict[str, object]:
        """Give the JSON form."""
        return {
            "path": self.expected.path,
            "finding": str(self.finding),
            "size_bytes": self.size_bytes,
            "detail": self.detail,
        }


# --- one file ------------------------------------------------------------------------------------


def audit(expected: Expected) -> Audited:
    """Look at one file; reads all of it unless its size already tells."""
    path = Path(expected.path)
    try:
        found = path.stat()
        size = found.st_size
        if stat.S_ISDIR(found.st_mode) and expected.checksum is None:
            return _audited_folder(expected, path)
        if not stat.S_ISREG(found.st_mode):
            return Audited(expected, Finding.UNREADABLE, 0, "not a regular file")
        return _other_size(expected, size) or _hashed(expected, path, size)
    except FileNotFoundError:
        return Audited(expected, Finding.MISSING)
    except OSError as error:
        return Audited(expected, Finding.UNREADABLE, 0, error.strerror or str(error))
    except ValueError as error:
        # A NUL in the name: no file can be called so.
        return Audited(expected, Finding.UNREADABLE, 0, str(error))


def _other_size(expected: Expected, size: int) -> Audited | None:
    if expected.size_bytes in {None, size}:
        return None
    detail = f"{size} bytes, {expected.size_bytes} expected"
    return Audited(expected, Finding.WRONG_SIZE, size, detail)


def _audited_folder(expected: Expected, folder: Path) -> Audited:
    """Look at a product of many files: at their sizes together, and at what a manifest says."""
    sizes = multi_object.sizes_in(folder)
    size = sum(sizes.values())
    if not sizes:  # no product is empty
        return Audited(expected, Finding.UNREADABLE, 0, "not a regular file")
    if wrong := _other_size(expected, size):
        return wrong
    sums = multi_object.sums_in(folder, sizes)
    for name, checksum in sums.items():
        if wrong_bytes := _other_bytes(checksum, folder / name):
            return Audited(expected, Finding.CHANGED, size, f"{name}: {wrong_bytes}")
    unsaid = [name for name in sizes if name not in sums and not multi_object.is_manifest(name)]
    is_proven = bool(sums) and not unsaid
    return Audited(expected, Finding.RIGHT if is_proven else Finding.UNPROVABLE, size)


def _hashed(expected: Expected, path: Path, size: int) -> Audited:
    if expected.checksum is None:
        return Audited(expected, Finding.UNPROVABLE, size)
    if wrong_bytes := _other_bytes(expected.checksum, path):
        return Audited(expected, Finding.CHANGED, size, wrong_bytes)
    return Audited(expected, Finding.RIGHT, size)


def _other_bytes(expected: Checksum, path: Path) -> str:
    """Say what a file's digest is in place of the right one; nothing where it is right."""
    found = checksums.hash_file(path, expected.algorithm)
    return "" if found.matches(expected) else f"{found}, {expected} expected"


# --- many files ----------------------------------------------------------------------------------


def audit_all(expected: Iterable[Expected], processes: int | None = None) -> Iterator[Audited]:
    """Look at many files with all cores, and give what is found as it comes, in no order.

    Args:
        expected: What they should be; each path is looked at once for each expectation.
        processes: How many at once; None is one a core that this process may use.
    """
    wanted = list(expected)
    count = min(processes or len(os.sched_getaffinity(0)), max(len(wanted), 1))
    if count == 1:
        yield from map(audit, wanted)
        return
    # Spawned, not forked: the caller may have threads and connections.
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        chunk = CHUNK if len(wanted) > 100 * count else 1
        yield from pool.imap_unordered(audit, wanted, chunksize=chunk)


# --- what is known -------------------------------------------------------------------------------


def of_records(records: Iterable[DownloadRecord], below: Path | None = None) -> Iterator[Expected]:
    """Take what a ledger says of finished downloads, those below a folder only if one is given."""
    for record in records:
        if record.state is State.SUCCESS and (below is None or _is_below(record.path, below)):
            checksum = checksums.parse(record.checksum) if record.checksum else None
            yield Expected(record.path, record.size_bytes, checksum, record.download_id)


def _is_below(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder)


def of_file(report: Path) -> list[Expected]:
    """Read a report (JSON Lines or JSON) or an ``md5sum`` list; relative paths are beside it.

    Raises:
        SourceError: it is none of these, or holds no file.
    """
    try:
        text = report.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SourceError(str(report), error.strerror or str(error)) from error
    wanted = _of_json(report, text) if text.lstrip()[:1] in {"{", "["} else _of_sums(report, text)
    if not wanted:
        raise SourceError(str(report), "names no finished file")
    return wanted


def _of_json(report: Path, text: str) -> list[Expected]:
    try:
        stripped = text.lstrip()
        rows = json.loads(text) if stripped[:1] == "[" else map(json.loads, stripped.splitlines())
        return [_of_row(report, row) for row in rows if row["state"] == State.SUCCESS]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(str(report), f"is no report: {error!r}") from error


def _of_row(report: Path, row: dict[str, object]) -> Expected:
    size, checksum = row["size_bytes"], row["checksum"]
    return Expected(
        str(report.parent / str(row["path"])),
        int(str(size)) if size is not None else None,
        checksums.parse(str(checksum)) if checksum else None,
        str(row.get("download_id") or ""),
    )


def _of_sums(report: Path, text: str) -> list[Expected]:
    wanted = []
    for number, line in enumerate(text.split("\n"), start=1):
        match = _SUM_LINE.match(line)
        if line and match is None:
            raise SourceError(str(report), f"line {number} is no line of md5sum")
        if match is not None:
            name = _unescaped(match[3]) if match[1] else match[3]
            wanted.append(Expected(str(report.parent / name), None, checksums.parse(match[2])))
    return wanted


def _unescaped(name: str) -> str:
    return re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], name)
