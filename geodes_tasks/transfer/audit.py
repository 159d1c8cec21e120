"""Audit of files on disk: each flipped bit, truncation and deletion is found, without a network.

What a file should be comes from the catalogue, the ledger, a report or an ``md5sum`` list.
"""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import re
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from geodes_tasks.errors import ArchiveError, SourceError
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.results import DownloadRecord, MemberFile, Proof
from geodes_tasks.model.states import State
from geodes_tasks.transfer import manifest, multi_object
from geodes_tasks.transfer.archive_directory import is_readable, open_archive
from geodes_tasks.transfer.unpack import Unpacked, first_damaged, pieces_of

CHUNK = 8
"""Number of files that a process takes at once, when there are many."""
_SUM_LINE = re.compile(
    r"(\\?)([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})"
    r"[ ][ *](.+)\Z",
    re.DOTALL,
)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


class Finding(StrEnum):
    """Result of the audit of one file."""

    RIGHT = "right"
    """Its bytes have the checksum, or its stat is unchanged since they were verified."""
    CHANGED = "changed"
    """Its size is right, its bytes are not."""
    WRONG_SIZE = "wrong size"
    """It is shorter or longer."""
    MISSING = "missing"
    """No file has its name."""
    UNREADABLE = "unreadable"
    """It cannot be read: no permission, no regular file, the disk fails, or a broken archive."""
    UNPROVABLE = "unprovable"
    """Its size is right as far as it is known, and no checksum of it is known."""


BAD = frozenset({Finding.CHANGED, Finding.WRONG_SIZE, Finding.MISSING, Finding.UNREADABLE})


@dataclass(frozen=True, slots=True)
class Expected:
    """Path, size and checksum that a file should have; None where that is not known."""

    path: str
    size_bytes: int | None = None
    checksum: Checksum | None = None
    download_id: str = ""
    members: tuple[MemberFile, ...] = ()
    """The files of a set of members; the path is their folder."""


@dataclass(frozen=True, slots=True)
class Audited:
    """Result of the audit of one file, with what was expected."""

    expected: Expected
    finding: Finding
    size_bytes: int = 0
    """Size on disk, in bytes."""
    detail: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "path": self.expected.path,
            "finding": str(self.finding),
            "size_bytes": self.size_bytes,
            "detail": self.detail,
        }


# --- one file ------------------------------------------------------------------------------------


def audit(expected: Expected) -> Audited:
    """Read one file, or a folder of many, and compare it with what it should be."""
    path = Path(expected.path)
    try:
        found = path.stat()
        is_plain = expected.checksum is None and not expected.members
        if stat.S_ISDIR(found.st_mode) and is_plain:
            return _inspect_folder(expected, path)
        if stat.S_ISDIR(found.st_mode):
            return _inspect_unpacked(expected, path)
        if not stat.S_ISREG(found.st_mode):
            return Audited(expected, Finding.UNREADABLE, 0, "not a regular file")
        return inspect(expected, found)
    except FileNotFoundError:
        return Audited(expected, Finding.MISSING)
    except OSError as error:
        return Audited(expected, Finding.UNREADABLE, 0, error.strerror or str(error))
    except ValueError as error:
        # A NUL in the name: no file can have it (path_resolution(7)), and open raises ValueError.
        return Audited(expected, Finding.UNREADABLE, 0, str(error))


def audit_opened(expected: Expected) -> Audited:
    """Audit a file; read each member of a zip archive too, and compare it with its CRC-32."""
    result = audit(expected)
    is_zip = expected.path.lower().endswith(".zip") and Path(expected.path).is_file()
    if result.finding in BAD or not is_zip:
        return result
    size, name = result.size_bytes, ""
    try:
        with Path(expected.path).open("rb") as stream, open_archive(stream, "it") as archive:
            for info in archive.infolist():
                name = printable(info.filename)
                if is_readable(info):
                    collections.deque(pieces_of(archive, info), maxlen=0)
    except (OSError, ArchiveError) as error:
        detail = f"{name} in it is damaged" if name else f"no zip archive: {error}"
        return Audited(expected, Finding.UNREADABLE, size, detail)
    return result


def inspect(
    expected: Expected,
    found: os.stat_result,
    proof: Proof | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Audited:
    """Compare a regular file with what it should be; read it unless its stat decides.

    Args:
        expected: What it should be.
        found: Its stat.
        proof: Of the file as it was last verified; unchanged since, it is right without being read.
        on_progress: Called with the number of bytes read so far. May raise to stop.

    Raises:
        OSError: it cannot be read.
    """
    size, checksum = found.st_size, expected.checksum
    if wrong := _other_size(expected, size):
        return wrong
    if Proof.of(found) == proof:
        return Audited(expected, Finding.RIGHT, size)
    if checksum is None:
        return Audited(expected, Finding.UNPROVABLE, size)
    actual = checksums.hash_file(Path(expected.path), checksum.algorithm, on_progress)
    if actual == checksum:
        return Audited(expected, Finding.RIGHT, size)
    return Audited(expected, Finding.CHANGED, size, f"{actual}, {checksum} expected")


def _other_size(expected: Expected, size: int) -> Audited | None:
    if expected.size_bytes in {None, size}:
        return None
    detail = f"{size} bytes, {expected.size_bytes} expected"
    return Audited(expected, Finding.WRONG_SIZE, size, detail)


def _inspect_folder(expected: Expected, folder: Path) -> Audited:
    """Compare a product of many files: their total size, and each checksum of a manifest.

    Raises:
        OSError: it cannot be read.
    """
    sizes = multi_object.sizes_in(folder)
    size = sum(sizes.values())
    if not sizes:  # no product is empty
        return Audited(expected, Finding.UNREADABLE, 0, "not a regular file")
    if wrong := _other_size(expected, size):
        return wrong
    listed = manifest.checksums_below(folder, sizes)
    for name, checksum in listed.items():
        path = folder / name
        one = inspect(Expected(str(path), None, checksum), path.stat())
        if one.finding is not Finding.RIGHT:
            return Audited(expected, Finding.CHANGED, size, f"{name}: {one.detail}")
    others = [name for name in sizes if name not in listed and not manifest.is_manifest(name)]
    is_proven = bool(listed) and not others
    return Audited(expected, Finding.RIGHT if is_proven else Finding.UNPROVABLE, size)


def _inspect_unpacked(expected: Expected, folder: Path) -> Audited:
    """Compare the folder of an archive with the list of its files; others in it do not matter.

    Raises:
        OSError: it cannot be read.
    """
    members = expected.members or Unpacked(folder, str(expected.checksum)).members()
    if members is None:
        size = sum(multi_object.sizes_in(folder).values())
        if not size:
            return Audited(expected, Finding.UNREADABLE, 0, "not a regular file")
        return Audited(expected, Finding.UNPROVABLE, size, "the list of its files is gone")
    size = sum(member.size_bytes for member in members)
    if wrong := first_damaged(folder, members, lambda: None):
        is_there = (folder / wrong).exists()
        finding = Finding.CHANGED if is_there else Finding.MISSING
        return Audited(expected, finding, size, f"{wrong} in it")
    return Audited(expected, Finding.RIGHT, size)


# --- many files ----------------------------------------------------------------------------------


def audit_all(
    expected: Iterable[Expected], processes: int | None = None, *, opens: bool = False
) -> Iterator[Audited]:
    """Audit many files on all cores; yield each result when it is there, in no order.

    Args:
        expected: What the files should be.
        processes: Number of processes; None is one for each core that this process may use.
        opens: Whether archives are opened too.
    """
    wanted, audit_one = list(expected), audit_opened if opens else audit
    # Python on macOS has no sched_getaffinity, which counts what a container may use.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(processes or usable or 1, max(len(wanted), 1))
    if count == 1:
        yield from map(audit_one, wanted)
        return
    # Spawned, not forked: a fork copies locks that threads of the caller hold
    # (https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods).
    # Ctrl-C is for the caller: each process that it reached would print a traceback.
    # The tracker first, which each pool has: its start unblocks the signal.
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = multiprocessing.get_context("spawn").Pool(count)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        chunk = CHUNK if len(wanted) > 100 * count else 1
        yield from pool.imap_unordered(audit_one, wanted, chunksize=chunk)


# --- what is known -------------------------------------------------------------------------------


def of_records(records: Iterable[DownloadRecord], below: Path | None = None) -> Iterator[Expected]:
    """Yield what the files of finished downloads should be.

    Args:
        records: Records of the ledger.
        below: Only files below this folder; None is all.
    """
    for record in records:
        if record.state is State.SUCCESS and (
            below is None or Path(record.path).is_relative_to(below)
        ):
            checksum = checksums.parse(record.checksum) if record.checksum else None
            yield Expected(
                record.path, record.size_bytes, checksum, record.download_id, record.members
            )


def _no_report(report: Path, problem: str) -> SourceError:
    error = SourceError(str(report), problem)
    error.remedy = "Give a report in the format jsonl or json, or a list that md5sum wrote."
    return error


def of_file(report: Path) -> list[Expected]:
    """Read a report (JSON Lines or JSON) or an ``md5sum`` list; paths are relative to its folder.

    Raises:
        SourceError: it is none of these, or names no finished file.
    """
    try:
        text = report.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise _no_report(report, error.strerror or str(error)) from error
    wanted = _of_json(report, text) if text.lstrip()[:1] in {"{", "["} else _of_sums(report, text)
    if not wanted:
        raise _no_report(report, "names no finished file")
    return wanted


def _of_json(report: Path, text: str) -> list[Expected]:
    try:
        # Not splitlines(): a text in JSON may hold U+2028 and U+0085 as they are (RFC 8259).
        is_list, lines = text.lstrip()[:1] == "[", filter(str.strip, text.split("\n"))
        rows = json.loads(text) if is_list else map(json.loads, lines)
        return [_of_row(report, row) for row in rows if row["state"] == State.SUCCESS]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_report(report, f"is no report: {error!r}") from error


def _of_row(report: Path, row: dict[str, Any]) -> Expected:
    size, checksum = row["size_bytes"], row["checksum"]
    return Expected(
        str(report.parent / str(row["path"])),
        int(str(size)) if size is not None else None,
        checksums.parse(str(checksum)) if checksum else None,
        str(row.get("download_id") or ""),
        tuple(MemberFile(**one) for one in row.get("members") or ()),
    )


def _of_sums(report: Path, text: str) -> list[Expected]:
    wanted = []
    for number, line in enumerate(text.split("\n"), start=1):
        match = _SUM_LINE.match(line)
        if line and match is None:
            raise _no_report(report, f"line {number} is no line of md5sum")
        if match is not None:
            name = match[3]
            if match[1]:  # md5sum escapes backslash and line ends, and marks such a line by one
                name = re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], name)
            wanted.append(Expected(str(report.parent / name), None, checksums.parse(match[2])))
    return wanted
