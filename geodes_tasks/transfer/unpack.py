"""Archives unpacked into folders: whole after their proof, or a set of members one by one.

A whole folder appears whole or not at all. The sizes and CRC-32s of its files stay in a list in the
folder of part files, so that the folder is proven again without the archive.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from geodes_tasks.errors import ArchiveError, NotAFileError
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.checksum import READ_BYTES
from geodes_tasks.model.results import MemberFile, Proof
from geodes_tasks.transfer import multi_object
from geodes_tasks.transfer.archive_directory import (
    check_readable,
    checked,
    open_archive,
    selected,
)
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.disk import (
    FolderCheck,
    closing,
    create,
    disk_errors,
    nearest,
    open_below,
    open_file,
    space_of,
)
from geodes_tasks.transfer.growing_folder import GrowingFolder, growing_folder
from geodes_tasks.transfer.leftovers import stem
from geodes_tasks.transfer.publish import parent_of

LIST_BYTES = 64 << 20
"""Bytes of a list of members that are read, at most: 500,000 members have less."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The folder of one archive, and where its parts are meanwhile."""

    final: Path
    """The folder."""
    content: str
    """Identity of the archive's bytes."""

    @property
    def _hidden(self) -> Path:
        return self.final.parent / PART_FOLDER / stem(self.final, self.content)

    @property
    def list_path(self) -> Path:
        """The file with path, size and CRC-32 of each file of the folder."""
        return self._hidden.with_name(f"{self._hidden.name}.members")

    @property
    def sibling(self) -> Path:
        """The path that the archive has without unpacking."""
        return self.final.with_name(f"{self.final.name}.zip")

    def archive_of(self, asset: Asset) -> Path:
        """Return the path at which the archive is verified; a kept one has its own name."""
        if asset.unpack is Unpack.KEEP or self.sibling.is_file():
            return self.sibling
        return self._dropped

    @property
    def _dropped(self) -> Path:
        return self._hidden.with_name(f"{self._hidden.name}.zip")

    def proof(self, known: Proof | None, progress: Callable[[], None]) -> Proof | None:
        """Return the proof of the folder when every file is in it and right, else None.

        Args:
            known: Of the folder as it was last verified; unchanged since, it is not read again.
            progress: Called after each piece that is read. May raise to stop.

        Raises:
            NotAFileError: a file has its name.
            DiskError: it cannot be read.
        """
        with disk_errors(self.final):
            if not self.final.is_dir():
                if self.final.exists():
                    raise NotAFileError(str(self.final), "file")
                return None
            found = multi_object.proof_of(self.final)
            if found == known:
                return found
            members = self.members()
            is_right = members is not None and not first_damaged(self.final, members, progress)
        return found if is_right else None

    def members(self) -> list[MemberFile] | None:
        """Return the files that the folder should have; None when there is no list."""
        try:
            with open_file(self.list_path) as stream:
                if os.fstat(stream.fileno()).st_size > LIST_BYTES:
                    return None
                rows = json.loads(stream.readall())
            return [MemberFile(str(path), int(size), str(crc)) for path, size, crc in rows]
        except (OSError, ValueError, TypeError):
            return None

    def unpack(
        self,
        asset: Asset,
        stream: io.BufferedIOBase,
        token: str,
        progress: Callable[[], None],
        confirm: Callable[[], None],
        check: FolderCheck = lambda _: None,
        plan: Callable[[zipfile.ZipFile, Sequence[zipfile.ZipInfo]], object] = lambda *_: None,
    ) -> int:
        """Unpack the archive; files that the folder has already, with the right bytes, stay.

        All of it appears at once. Members that the asset names appear one by one, so that those
        of an attempt that was killed are not fetched again.

        Args:
            asset: The archive.
            stream: Its bytes, verified, or of a source that may serve only the planned ones.
            token: Token of the attempt.
            progress: Called after each piece. May raise to stop.
            confirm: Called just before the folder, or a member, gets its name.
            check: Called with the open parent of the folder before something is created in it.
            plan: Called with the members that are read next.

        Returns:
            The number of wanted members that were in the folder already.

        Raises:
            NoMemberError: a pattern matches none; nothing was read.
            ArchiveError: damaged, encrypted, or a bomb; nothing is at the final path.
            HostileNameError: a member would leave the folder, or is no file.
            NotAFileError: a file has the name of the folder.
            DiskError, TooLargeError: the volume does not take it.
        """
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(open_archive(stream, asset.title))
            files = checked(archive, stream, asset, self.final.name)
            if asset.members:
                files = selected(files, asset.members, asset.title)
            check_readable(files.values(), asset.title)
            with disk_errors(self.final):
                space = space_of(nearest(self.final.parent))
            space.check_capacity(self.final, sum(info.file_size for info in files.values()))
            members = {
                path: MemberFile(path, info.file_size, f"{info.CRC:08x}")
                for path, info in files.items()
                if not info.is_dir()
            }
            if not members:
                raise ArchiveError(asset.title, "has no files")
            growing = stack.enter_context(
                growing_folder(self.final, self.content, token, check, is_kept=False)
            )
            kept = members.values() if asset.members else ()
            with disk_errors(self.final):
                right = {one.path for one in kept if self._has(one, progress)}
            left = [one for one in files.items() if one[0] not in right]
            left.sort(key=lambda one: one[1].header_offset)
            plan(archive, [info for _, info in left])
            for path, info in left:
                with disk_errors(self.final / path):
                    extract_file(archive, info, growing.descriptor, path, progress)
                if asset.members:
                    confirm()
                    self._add(growing, [members[path]], progress)
            if not asset.members:
                confirm()
                if not growing.publish():
                    self._add(growing, members.values(), progress)
            with disk_errors(self.final):
                self._write_list(growing.hidden, members.values())
        return len(right)

    def _has(self, member: MemberFile, progress: Callable[[], None]) -> bool:
        return is_member(self.final / member.path, member, progress)

    def _add(
        self, growing: GrowingFolder, members: Iterable[MemberFile], progress: Callable[[], None]
    ) -> None:
        """Move members into the final folder, through no link in it."""
        with (
            disk_errors(self.final),
            parent_of(growing.hidden, self.final, growing.check) as parent,
            closing(open_below(parent, [self.final.name], make=True)) as folder,
        ):
            # A folder that lost files, or was damaged: what is right stays, and so does what a
            # user added, as the .aux.xml files of GDAL.
            for member in members:
                if not self._has(member, progress):
                    *parents, name = member.path.split("/")
                    with (
                        disk_errors(self.final / member.path),
                        closing(open_below(growing.descriptor, parents)) as source,
                        closing(open_below(folder, parents, make=True)) as target,
                    ):
                        os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)

    def _write_list(self, hidden: int, members: Iterable[MemberFile]) -> None:
        part = f"{self.list_path.name}.part"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=hidden)
        with os.fdopen(create(part, hidden), "w", encoding="utf-8") as listed:
            json.dump([astuple(one) for one in members], listed)
        os.replace(part, self.list_path.name, src_dir_fd=hidden, dst_dir_fd=hidden)

    def drop_archive(self) -> None:
        """Remove the archive, unless it has a name of its own."""
        with contextlib.suppress(OSError):
            self._dropped.unlink()
        for folder in (self._dropped.parent / PART_FOLDER, self._dropped.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


def first_damaged(folder: Path, members: Sequence[MemberFile], progress: Callable[[], None]) -> str:
    """Return the first file of a folder that is missing or wrong; "" where all are right.

    Raises:
        OSError: a file cannot be read.
    """
    wrong = (one.path for one in members if not is_member(folder / one.path, one, progress))
    return next(wrong, "")


def is_member(path: Path, member: MemberFile, progress: Callable[[], None]) -> bool:
    """Return whether a file has the size and the CRC-32 of a member.

    Raises:
        OSError: it cannot be read.
    """
    try:
        stream = open_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    actual = 0
    with stream:
        if os.fstat(stream.fileno()).st_size != member.size_bytes:
            return False
        while piece := stream.read(READ_BYTES):
            actual = zlib.crc32(piece, actual)
            progress()
    return f"{actual:08x}" == member.crc32


def extract_file(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    growing: int,
    path: str,
    progress: Callable[[], None],
) -> None:
    """Write a member to a path below an open folder, its size and CRC-32 proven.

    Raises:
        zipfile.BadZipFile: its bytes are not those of the directory.
        OSError: the folder does not take it.
    """
    *parents, name = path.split("/")
    if info.is_dir():
        os.close(open_below(growing, [*parents, name], make=True))
        return
    with (
        closing(open_below(growing, parents, make=True)) as folder,
        os.fdopen(create(name, folder), "wb") as stream,
    ):
        for piece in pieces_of(archive, info):
            stream.write(piece)
            progress()
        stream.flush()
        os.fsync(stream.fileno())


def pieces_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member, whose CRC-32 zipfile compares at the end.

    Raises:
        zipfile.BadZipFile: they cannot be had, or are not as many as the directory says.
    """
    try:
        # ZipExtFile ends without an error at the end of the data, though the directory says more.
        size = 0
        with archive.open(info) as member:
            while piece := member.read(READ_BYTES):
                size += len(piece)
                yield piece
        if size != info.file_size:
            problem = f"{info.filename!r} has {size} bytes, its directory says {info.file_size}"
            raise zipfile.BadZipFile(problem)
    except (OSError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        # zipfile's own errors are only some of those of damaged archives.
        raise zipfile.BadZipFile(f"{info.filename!r}: {type(error).__name__}: {error}") from error
