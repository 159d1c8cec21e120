"""Whole archives unpacked after their proof: a folder that appears whole or not at all.

The sizes and CRC-32s of its files stay in a list in the folder of part files, so that the folder
is proven again without the archive.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geodes_tasks.errors import ArchiveError, HostileNameError, NotAFileError, TooLargeError
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.checksum import READ_BYTES
from geodes_tasks.model.results import Proof
from geodes_tasks.transfer import multi_object
from geodes_tasks.transfer.destination import PART_FOLDER, refused_name
from geodes_tasks.transfer.disk import disk_errors, space_of
from geodes_tasks.transfer.leftovers import FOLDER_ENDING, Leftovers, make_folder, stem

MAX_MEMBERS = 500_000
"""Number of members of an archive, at most: a Zarr store has some 100,000 files."""
MOST_RATIO = 200
"""Times that the members may be larger than the archive; deflate reaches 1,032 (zlib.net)."""
FREE_RATIO_BYTES = 1 << 30
"""Bytes of members up to which any ratio is accepted: products of empty pixels exist."""

Member = tuple[str, int, int]
"""Path below the folder, size in bytes, and CRC-32 of one file."""


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
                    raise NotAFileError(str(self.final), "file, where a folder should be,")
                return None
            found = multi_object.proof_of(self.final)
            if found == known or self.damaged(progress) == "":
                return found
        return None

    def damaged(self, progress: Callable[[], None]) -> str | None:
        """Return the first file that is missing or wrong; None without a list, "" without such.

        Raises:
            OSError: a file cannot be read.
        """
        members = self.members()
        if members is None:
            return None
        wrong = (m[0] for m in members if not is_member(self.final / m[0], m, progress))
        return next(wrong, "")

    def members(self) -> list[Member] | None:
        """Return the files that the folder should have; None when there is no list."""
        try:
            rows = json.loads(self.list_path.read_text(encoding="utf-8"))
            return [(str(path), int(size), int(crc)) for path, size, crc in rows]
        except (OSError, ValueError, TypeError):
            return None

    def unpack(
        self,
        asset: Asset,
        token: str,
        progress: Callable[[], None],
        confirm: Callable[[], None],
    ) -> None:
        """Unpack the archive; files that the folder has already, with the right bytes, stay.

        Args:
            asset: The archive, which is verified.
            token: Token of the attempt.
            progress: Called after each piece. May raise to stop.
            confirm: Called just before the folder gets its name.

        Raises:
            ArchiveError: damaged, encrypted, or a bomb; nothing is at the final path.
            HostileNameError: a member would leave the folder, or is no file.
            NotAFileError: a file has the name of the folder.
            DiskError, TooLargeError: the volume does not take it.
        """
        leftovers = Leftovers(self.final, self.content, int(token))
        growing = leftovers.folder / f"{leftovers.stem}.{token}.{FOLDER_ENDING}"
        try:
            path = self.archive_of(asset)
            with _named_errors(asset.title), zipfile.ZipFile(path) as archive:
                files = _checked(archive, asset, self.final)
                leftovers.sweep()
                with disk_errors(growing):
                    make_folder(leftovers.folder)
                    growing.mkdir(exist_ok=True)
                for name, info in files.items():
                    _extract(archive, info, growing / name, progress)
            members = [(p, i.file_size, i.CRC) for p, i in files.items() if not i.is_dir()]
            if not members:
                raise ArchiveError(asset.title, "has no files")
            confirm()
            with disk_errors(self.final):
                self._publish(growing, members, progress)
                listed = self.list_path.with_suffix(".members.part")
                listed.write_text(json.dumps(members), encoding="utf-8")
                listed.replace(self.list_path)
        finally:
            shutil.rmtree(growing, ignore_errors=True)

    def _publish(self, growing: Path, members: list[Member], progress: Callable[[], None]) -> None:
        if self.final.exists() and not self.final.is_dir():
            raise NotAFileError(str(self.final), "file, where a folder should be,")
        if not self.final.exists():
            growing.rename(self.final)
            return
        # A folder that lost files, or was damaged: what is right stays, and so does what a user
        # added, as the .aux.xml files of GDAL.
        for member in members:
            path = self.final / member[0]
            if not is_member(path, member, progress):
                path.parent.mkdir(parents=True, exist_ok=True)
                (growing / member[0]).replace(path)

    def drop_archive(self) -> None:
        """Remove the archive, unless it has a name of its own."""
        with contextlib.suppress(OSError):
            self._dropped.unlink()
        with contextlib.suppress(OSError):
            (self._dropped.parent / PART_FOLDER).rmdir()


def is_member(path: Path, member: Member, progress: Callable[[], None]) -> bool:
    """Return whether a file has the size and the CRC-32 of a member.

    Raises:
        OSError: it cannot be read.
    """
    _, size, crc = member
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    actual = 0
    with path.open("rb") as stream:
        while piece := stream.read(READ_BYTES):
            actual = zlib.crc32(piece, actual)
            progress()
    return actual == crc


@contextlib.contextmanager
def _named_errors(title: str) -> Iterator[None]:
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ArchiveError(title, f"is no sound zip archive: {error}") from error


def _checked(archive: zipfile.ZipFile, asset: Asset, final: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their path below the folder; nothing is written yet.

    Raises:
        ArchiveError: encrypted, too many members, or a bomb.
        HostileNameError: a member would leave the folder, is no file, or collides with another.
        TooLargeError: the volume can never take them.
    """
    infos, size = archive.infolist(), os.fstat(archive.fp.fileno()).st_size  # type: ignore[union-attr]
    if len(infos) > MAX_MEMBERS:
        raise ArchiveError(asset.title, f"has {len(infos)} members, the most is {MAX_MEMBERS}")
    total = sum(info.file_size for info in infos)
    # Members that share bytes: https://www.bamsoftware.com/hacks/zipbomb/
    if sum(info.compress_size for info in infos) > size or (
        total > max(size * MOST_RATIO, FREE_RATIO_BYTES)
    ):
        raise ArchiveError(asset.title, f"of {size} bytes claims to hold {total}: it is a bomb")
    with disk_errors(final):
        space = space_of(final.parent)
    if space.is_known and total > space.capacity_bytes:
        raise TooLargeError(str(final), f"{total} bytes needed, the volume has {space.total_bytes}")
    names = [info.filename.rstrip("/") for info in infos]
    below = f"{final.name}/"
    is_doubled = all(
        name.startswith(below) or (name == final.name and info.is_dir())
        for name, info in zip(names, infos, strict=True)
    )
    files: dict[str, zipfile.ZipInfo] = {}
    taken: dict[str, bool] = {}
    for name, info in zip(names, infos, strict=True):
        if info.flag_bits & 1:
            raise ArchiveError(asset.title, f"its member {name!r} is encrypted")
        path = name.removeprefix(below) if is_doubled else name
        if is_doubled and name == final.name:
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        problem = refused_name(path)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            problem = "is a link or another special file"
        # Two names that are one on a file system that folds case or composes characters.
        folded = unicodedata.normalize("NFC", path).casefold()
        parents = [folded[:at] for at, letter in enumerate(folded) if letter == "/"]
        if (folded in taken and not (taken[folded] and info.is_dir())) or any(
            taken.get(parent) is False for parent in parents
        ):
            problem = "has the name of another member"
        if problem:
            raise HostileNameError(asset.title, f"its member {name!r} {problem}")
        taken |= dict.fromkeys(parents, True) | {folded: info.is_dir()}
        files[path] = info
    return files


def _extract(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, progress: Callable[[], None]
) -> None:
    with disk_errors(path):
        (path if info.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
    if info.is_dir():
        return
    with disk_errors(path), path.open("xb") as stream:
        for piece in _pieces(archive, info):
            stream.write(piece)
            progress()
        stream.flush()
        os.fsync(stream.fileno())


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member, whose CRC-32 zipfile compares at the end.

    Raises:
        zipfile.BadZipFile: they cannot be had.
    """
    try:
        with archive.open(info) as member:
            while piece := member.read(READ_BYTES):
                yield piece
    except (OSError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        # zipfile's own errors are only some of those of damaged archives.
        raise zipfile.BadZipFile(f"{info.filename!r}: {type(error).__name__}: {error}") from error
