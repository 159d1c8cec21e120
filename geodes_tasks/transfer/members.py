"""Single members of an archive, on disk or at a source, for a user who waits for them."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from geodes_tasks.errors import (
    HostileNameError,
    NoObjectError,
    NoRangesError,
    NotFoundError,
    SourceUnavailableError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.results import MemberFile
from geodes_tasks.transfer.archive_directory import (
    Bounded,
    check_readable,
    no_member,
    open_archive,
    selected,
)
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER, numbered, refused_name
from geodes_tasks.transfer.disk import closing, disk_errors, open_below
from geodes_tasks.transfer.publish import link_new, warn_of_other_name
from geodes_tasks.transfer.remote_archive import RemoteArchive
from geodes_tasks.transfer.unpack import extract_file, is_member
from geodes_tasks.transports import Transport, sources_of


@contextlib.contextmanager
def remote(asset: Asset, transports: Mapping[str, Transport]) -> Iterator[zipfile.ZipFile]:
    """Open a remote archive; only the list of its members is read yet.

    Raises:
        NoRangesError: the server does not serve ranges.
        ArchiveError: no zip archive.
        GeodesTasksError: what the transports raise.
    """
    error: NoRangesError | SourceUnavailableError = NoRangesError(asset.title)
    for source in sources_of(asset, transports):
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(RemoteArchive(asset, source, Callbacks()))
            try:
                archive = stack.enter_context(open_archive(opened, asset.title))
            except (NoRangesError, SourceUnavailableError) as failed:
                error = failed
                continue
            opened.plan(archive)
            yield archive
            return
    raise NotFoundError(error.href, 404) if isinstance(error, NoObjectError) else error


@contextlib.contextmanager
def local(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive on disk.

    Raises:
        ArchiveError: no zip archive.
    """
    with path.open("rb") as stream, open_archive(stream, path.name) as archive:
        yield archive


def matching(archive: zipfile.ZipFile, pattern: str, title: str) -> list[str]:
    """Return the names that a regular expression or else a glob matches as a whole.

    Raises:
        NoMemberError: neither matches any.
    """
    # `P/IMG_*.tif` is both, and as a regular expression matches no name of a product.
    for expression in (pattern, fnmatch.translate(pattern)):
        with contextlib.suppress(re.error):
            if found := [name for name in archive.namelist() if re.fullmatch(expression, name)]:
                return found
    raise no_member(archive.NameToInfo, pattern, title)


def named(archive: zipfile.ZipFile, names: Sequence[str], title: str) -> Sequence[str]:
    """Return the names of members as they were given.

    Raises:
        NoMemberError: one of them is none.
    """
    missing = [name for name in names if name not in archive.NameToInfo]
    if missing:
        raise no_member(archive.NameToInfo, missing[0], title)
    return names


def globbed(archive: zipfile.ZipFile, patterns: Sequence[str], title: str) -> list[str]:
    """Return the names of the files that one of some globs matches, by their path or their name.

    Raises:
        NoMemberError: a glob matches none.
    """
    return list(selected(archive.NameToInfo, patterns, title))


def extract(archive: zipfile.ZipFile, names: Iterable[str], folder: Path) -> list[Path]:
    """Extract members of an archive; each appears whole, its CRC proven, or not at all.

    An existing file is never replaced: if it is a copy of the member, it is left as it is; if not,
    the member is published with ``-1``, ``-2``, ... before its suffix.

    Args:
        archive: From :func:`remote` or :func:`local`.
        names: Names of members; folders among them are skipped.
        folder: Target folder; members keep their path in the archive, which cannot lead out of it.

    Returns:
        The path of each file, in the order of ``names``.

    Raises:
        ArchiveError: there is no such member, or it is damaged.
        HostileNameError: its name cannot be a file name everywhere.
        DiskError: the folder does not take it.
    """
    with disk_errors(folder), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        # Not in the folder of part files: a download that ends may remove it at any time.
        prefix = f"{PART_FOLDER}-members-"
        hidden = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=folder))
        wanted = [archive.getinfo(name) for name in names if not name.endswith("/")]
        check_readable(wanted, folder.name)
        source = archive.fp.stream if isinstance(archive.fp, Bounded) else None
        if isinstance(source, RemoteArchive):
            source.plan(archive, wanted)
        top = stack.enter_context(closing(os.open(folder, os.O_RDONLY | os.O_DIRECTORY)))
        opened = stack.enter_context(closing(open_below(top, [Path(hidden).name])))
        # In the order of the archive neighbours are read of one range.
        paths = {
            info.filename: _extracted(archive, info, opened, folder, top)
            for info in sorted(wanted, key=lambda info: info.header_offset)
        }
        return [paths[info.filename] for info in wanted]


def _extracted(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, hidden: int, folder: Path, top: int
) -> Path:
    name, real = member.filename, folder.resolve()
    # As ZipFile.extract does: neither a root nor `..` leads out of the folder (CVE-2007-4559
    # describes what archives without this check can overwrite).
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    if problem := refused_name("/".join(parts)):
        raise HostileNameError(folder.name, f"the member {printable(name)!r} {problem}")
    wanted, is_extracted = folder.joinpath(*parts), False
    parent = wanted.parent.resolve()
    if not parent.is_relative_to(real):
        raise HostileNameError(folder.name, f"the member {printable(name)!r} is behind a link")
    for final in numbered(wanted):
        if is_member(final, MemberFile("", member.file_size, f"{member.CRC:08x}"), lambda: None):
            break
        if os.path.lexists(final):
            continue
        if not is_extracted:
            extract_file(archive, member, hidden, "/".join(parts), lambda: None)
            is_extracted = True
        # A link that was put in the way since the check is not followed.
        with (
            closing(open_below(hidden, parts[:-1])) as source,
            closing(open_below(top, parent.relative_to(real).parts, make=True)) as target,
            contextlib.suppress(FileExistsError),
        ):
            link_new(parts[-1], source, final.name, target)
            break
    if final != wanted:
        warn_of_other_name(wanted, name, final)
    return final
