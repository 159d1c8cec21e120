"""Part files: the only writer of disks. Unproven bytes never bear a final name.

Beside the final file lies ``.geodes-tasks/``, on the same volume, with the part files of the
attempts under way. A part file belongs to one attempt and carries its token; no two attempts
ever write to one file, so a worker that was only paused can wake up at any time and harm
nothing. A next attempt takes over the bytes of a dead one by renaming its part, which robs the
dead one of the name it would publish, and copying while hashing. No lock is relied upon:
``flock`` is not to be trusted on Lustre, GPFS or NFS.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from geodes_tasks.errors import DiskError, LeaseLostError, NotAFileError, TooLargeError
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import Proof
from geodes_tasks.transfer.hashing_writer import BlockOutlet, Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = ".geodes-tasks"
COPY_BYTES = 1024 * 1024
ADOPT_MIN_BYTES = 64 * 1024
"""Less than this is fetched again rather than taken over."""
THREAD_MIN_BYTES = 8 * 1024 * 1024
"""Files from this size on are hashed beside the transfer, in a thread of their own."""
RESERVE_BYTES = 16 * 1024 * 1024
"""Space that is left free on the volume; 1 % of the volume where that is less."""
NAME_BYTES = 255
_ENDINGS = frozenset({"part", "adopted.part", "etag", "adopted.etag", "folder"})

_NAME_ERRNOS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
"""What the system returns for the name of one file. Every other error is the volume's refusal."""


# What os.link says where a volume knows no hard links: EPERM on Linux, others elsewhere.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}
)


class local_errors:  # noqa: N801 - read as a verb, like those of contextlib
    """Turns the operating system's errors about the download folder into ours.

    Raises:
        DiskError: full, over quota, read-only, no right, stale handle, timed out, or any other
            error but those of a name.
        TooLargeError: the file system or a limit of the process takes no file of this size.
        NotAFileError: a file stands where a folder should be, or the other way round.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        """Take the path that errors name where the system names none."""
        self._path = path

    def __enter__(self) -> None:
        """Watch the block."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise our error for the system's."""
        if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
            where = str(error.filename or self._path)
            raise NotAFileError(where, _kind_in_the_way(error)) from error
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            limit = "the file system or this process (`ulimit -f`) takes no file of this size"
            raise TooLargeError(str(self._path), f"{error.strerror}: {limit}") from error
        if isinstance(error, OSError) and error.errno not in _NAME_ERRNOS:
            raise DiskError(str(self._path), error.strerror or str(error)) from error


def probe(folder: Path) -> None:
    """Make sure that files can be written in a folder, which is made when it is not there.

    Raises:
        DiskError: full, over quota, read-only, no right, stale handle.
        NotAFileError: something that is no folder stands there.
    """
    try:
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write_and_remove(folder)
    except OSError as error:
        raise DiskError(str(folder), error.strerror or str(error)) from error


def _write_and_remove(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(prefix=".geodes-tasks-probe-", dir=folder) as stream:
        stream.write(b"\0" * 4096)
        stream.flush()
        os.fsync(stream.fileno())


def _kind_in_the_way(error: OSError) -> str:
    return "folder" if isinstance(error, IsADirectoryError) else "file, where a folder should be,"


def stem(final: Path, content: str) -> str:
    """Name what all part files of one download begin with.

    The name alone does not do: a newer version of the file bears the same. Names at the length
    limit of the file system are shortened, the digest keeps them apart.
    """
    digest = hashlib.sha256(f"{final.name}\n{content}".encode()).hexdigest()[:12]
    room = NAME_BYTES - 64
    name = os.fsencode(final.name)[:room].decode(errors="ignore")
    return f"{name}.{digest}"


@dataclass(frozen=True, slots=True)
class _Room:
    """The space of a volume, in bytes."""

    free: int
    total: int
    """0 where the volume does not report it."""

    @property
    def is_known(self) -> bool:
        return self.total > 0

    @property
    def kept_free(self) -> int:
        return min(RESERVE_BYTES, self.total // 100)

    @property
    def spare(self) -> int:
        return self.free - self.kept_free

    @property
    def capacity(self) -> int:
        return self.total - self.kept_free


class PartFile:
    """The bytes of one attempt, hashed as they are written."""

    def __init__(self, final: Path, content: str, token: str, algorithm: str) -> None:
        """Name the part file; nothing is touched yet.

        Args:
            final: Where the file goes once it is proven.
            content: What the bytes should be; parts for other content are never adopted.
            token: Of the attempt, a number higher than that of all attempts before it.
            algorithm: Of the hash.
        """
        self.final, self.algorithm = final, algorithm
        self.folder = final.parent / FOLDER
        self.stem = stem(final, content)
        self.token = int(token)
        self.path = self.folder / f"{self.stem}.{token}.part"
        self.offset = 0
        self._is_first = False
        self._fd = -1
        self._outlet: Outlet | None = None

    def __enter__(self) -> Self:
        """Create the file, and the folders above it.

        Raises:
            DiskError, NotAFileError: it cannot be created.
        """
        with local_errors(self.final):
            self._fd = self._create()
        _count(self.folder, 1)
        self._outlet = Outlet(self._fd, self.algorithm)
        return self

    def _create(self) -> int:
        # The folder is there where others are at work; one that ends may remove it meanwhile.
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            self._make_folder()
        raise DiskError(str(self.folder), "the folder vanishes as soon as it is made")

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            # pathlib looks whether a folder stands there only after mkdir has failed: it may be
            # gone by then, and then nothing is wrong.
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(self.folder.stat().st_mode):
                    raise

    def __exit__(self, *_: object) -> None:
        """Close; the bytes stay for the next attempt unless they were published or discarded."""
        self._close()
        if self.offset == 0:
            self.discard()

    def _close(self) -> None:
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            _count(self.folder, -1)

    def reserve(self, size_bytes: int, *, resumes: bool = False) -> None:
        """Check that the file fits on the volume when it has so many bytes in all.

        What dead attempts left is removed when only that makes room.

        Args:
            size_bytes: Of the whole file.
            resumes: Keep the leftover when there is room to copy it and to fetch the rest.

        Raises:
            TooLargeError: it does not fit on the empty volume.
            DiskError: it does not fit now.
        """
        room = self._room()
        if not room.is_known or room.spare >= size_bytes - self.offset:
            return
        if size_bytes > room.capacity:
            problem = (
                f"{size_bytes} bytes needed, the whole volume has {room.total} bytes, "
                f"of which {room.kept_free} are kept free"
            )
            raise TooLargeError(str(self.final), problem)
        missing = size_bytes - self.offset
        left = [size_of(path) for path in self._others()]
        longest = size_of(leftover) if (leftover := self.leftover()) else 0
        if resumes and longest > 0 and room.spare >= max(longest, size_bytes - longest):
            return
        if left and room.spare + sum(left) >= missing:
            self.sweep()
            room = self._room()
        if room.spare < missing:
            problem = f"{missing} bytes needed, {room.free} bytes free on the volume"
            raise DiskError(str(self.final.parent), problem)

    def _room(self) -> _Room:
        with local_errors(self.final):
            usage = shutil.disk_usage(self.folder)
        return _Room(usage.free, usage.total)

    def room_left(self, needed_bytes: int) -> int | None:
        """Return how many bytes may still be written to a file of unknown size.

        Args:
            needed_bytes: Of the next piece.

        Returns:
            None when the volume does not report its size.

        Raises:
            TooLargeError: too few, and this file holds the volume's space.
            DiskError: too few, and other files hold it.
        """
        room = self._room()
        if not room.is_known:
            return None
        if room.spare >= needed_bytes:
            return room.spare
        if self.offset < room.kept_free:
            problem = f"{room.free} bytes free on the volume"
            raise DiskError(str(self.final.parent), problem)
        problem = (
            f"no size is known, {self.offset} bytes received and no end, "
            f"{room.free} of {room.total} bytes free on the volume"
        )
        raise TooLargeError(str(self.final), problem)

    def expect(self, size_bytes: int | None) -> None:
        """Choose how to write: big files in blocks, hashed in a thread of their own."""
        if self._outlet is not None and (size_bytes or 0) >= THREAD_MIN_BYTES:
            self._outlet = BlockOutlet(self._fd, self.algorithm)

    def write(self, piece: bytes) -> None:
        """Append and hash.

        Raises:
            DiskError: the disk does not take it.
        """
        assert self._outlet is not None  # noqa: S101 - only between enter and exit
        with local_errors(self.final):
            self._outlet.write(piece)
        self.offset += len(piece)

    def restart(self) -> None:
        """Throw away what was written and begin again at byte 0."""
        assert self._outlet is not None  # noqa: S101 - only between enter and exit
        self._outlet.close()
        with local_errors(self.final):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._outlet = type(self._outlet)(self._fd, self.algorithm)
        self.offset = 0

    # --- what dead attempts left ---------------------------------------------------------------

    def leftover(self) -> Path | None:
        """Find the longest part that another attempt at the same content left."""
        if self._is_first:
            return None
        others = list(self._others())
        parts = [path for path in others if path.name.endswith(".part")]
        found = [(size, path) for path in parts if (size := size_of(path)) >= ADOPT_MIN_BYTES]
        # One look is enough: what comes later is no dead attempt's.
        self._is_first = not others
        return max(found)[1] if found else None

    def _others(self) -> Iterator[Path]:
        """Name all that earlier attempts at the same content left."""
        with (
            local_errors(self.final),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.folder) as entries,
        ):
            for entry in entries:
                if entry.name.startswith(f"{self.stem}.") and self._is_older(entry.name):
                    yield self.folder / entry.name

    def _is_older(self, name: str) -> bool:
        # Tokens rise: an attempt that lost its lease must not rob the one that has it now.
        token, _, ending = name.removeprefix(f"{self.stem}.").partition(".")
        is_number = token.isascii() and token.isdigit()
        return ending in _ENDINGS and is_number and int(token) < self.token

    def etag_of(self, leftover: Path) -> str | None:
        """Give the validator that the server named when those bytes were fetched."""
        with contextlib.suppress(OSError):
            return _etag_path(leftover).read_text() or None
        return None

    def note_etag(self, etag: str | None) -> None:
        """Keep the validator of the bytes for a next attempt; small files are not worth it."""
        if etag and self._has_etag():
            with local_errors(self.final):
                _etag_path(self.path).write_text(etag)

    def _has_etag(self) -> bool:
        return isinstance(self._outlet, BlockOutlet)

    def adopt(self, leftover: Path, on_progress: Callable[[int], None]) -> None:
        """Take over the bytes of a dead attempt by copying them while hashing.

        The leftover is renamed first: whoever wrote it can no longer publish it, and if this
        attempt dies too, the next one finds both.
        """
        taken = self.path.with_name(self.path.name.removesuffix(".part") + ".adopted.part")
        with local_errors(self.final):
            try:
                leftover.rename(taken)
                with contextlib.suppress(FileNotFoundError):
                    _etag_path(leftover).rename(_etag_path(taken))
                with taken.open("rb", buffering=0) as stream:
                    self._copy(stream.fileno(), on_progress)
            except FileNotFoundError:
                return  # its owner, or another attempt, was faster
            _remove(taken)

    def _copy(self, source: int, on_progress: Callable[[int], None]) -> None:
        # Not beyond the size of this moment: its writer may be paused, not dead.
        remaining = os.fstat(source).st_size
        while remaining > 0:
            chunk = os.read(source, min(COPY_BYTES, remaining))
            if not chunk:
                return
            self.write(chunk)
            remaining -= len(chunk)
            on_progress(self.offset)

    def sweep(self) -> None:
        """Remove what earlier attempts at this download left."""
        for path in list(self._others()):
            _remove_any(path)

    # --- the end -------------------------------------------------------------------------------

    def digest(self) -> Checksum:
        """Give the digest of all bytes, which the file holds from now on.

        Raises:
            DiskError: the disk does not take the last of them.
        """
        assert self._outlet is not None  # noqa: S101 - only between enter and exit
        with local_errors(self.final):
            self._outlet.settle()
        return Checksum(self.algorithm, self._outlet.hexdigest())

    def sync(self) -> None:
        """Bring the bytes to the disk."""
        assert self._outlet is not None  # noqa: S101 - only between enter and exit
        with local_errors(self.final):
            self._outlet.sync()

    def publish(self) -> Proof:
        """Give the proven file its final name, in one step, and bring the name to the disk.

        Raises:
            LeaseLostError: another attempt has taken this part over.
            NotAFileError: the final name is a folder.
            DiskError: the folder does not take it.
        """
        with local_errors(self.final):
            try:
                self.path.replace(self.final)
            except FileNotFoundError as error:
                raise LeaseLostError(str(self.final)) from error
        return self._published()

    def publish_new(self, name: Path) -> Proof | None:
        """Publish under a name in the same folder that nothing has; None where something has it.

        What has the name stays as it is, also when it came at the last moment.

        Raises:
            LeaseLostError: another attempt has taken this part over.
            DiskError: the folder does not take it.
        """
        with local_errors(name):
            try:
                link_new(self.path, name)
            except FileExistsError:
                return None
            except FileNotFoundError as error:
                raise LeaseLostError(str(name)) from error
        return self._published()

    def _published(self) -> Proof:
        with local_errors(self.final):
            proof = Proof.of(os.fstat(self._fd))
            _sync_folder(self.final.parent)
        if self._has_etag():
            _remove(self.path)
        self._close()
        # An older attempt that was frozen may have made its part since the last look.
        with contextlib.suppress(DiskError):
            self.sweep()
        self._tidy()
        return proof

    def quarantine(self) -> Path:
        """Keep the bytes for inspection under a name that nobody takes for the file."""
        kept = self.folder / f"{self.stem}.quarantine"
        with local_errors(self.final):
            self.path.replace(kept)
            _etag_path(self.path).unlink(missing_ok=True)
        self._close()
        return kept

    def discard(self) -> None:
        """Remove the part file, and its folder when that is empty."""
        self._close()
        _remove(self.path)
        _remove_any(self.path.with_suffix(".folder"))
        self._tidy()

    def _tidy(self) -> None:
        # Not empty: other attempts are under way, of this process or of another.
        if self.folder not in _in_use:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


_in_use: Counter[Path] = Counter()
"""Folders with part files of this process that are open: nobody need try to remove them."""
_in_use_lock = threading.Lock()


def _count(folder: Path, change: int) -> None:
    with _in_use_lock:
        _in_use[folder] += change
        if not _in_use[folder]:
            del _in_use[folder]


def link_new(path: Path, name: Path) -> None:
    """Move a file to a name of the same volume that nothing has, whoever else wants that name.

    Raises:
        FileExistsError: something has the name; it and the file stay as they are.
        OSError: the folder does not take it.
    """
    try:
        os.link(path, name, follow_symlinks=False)
    except FileExistsError:
        # The answer to a link over NFS may be lost, and the client asks again: ours is there then.
        if not _is_same(path, name):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT, FAT and some FUSE file systems: the name is taken first, by an empty file.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            path.replace(name)
        except OSError:
            name.unlink(missing_ok=True)
            raise
        return
    path.unlink(missing_ok=True)


def warn_of_other_name(wanted: Path, what: str, final: Path) -> None:
    """Log that a file got another name than the one wanted, and why."""
    logger.warning(
        "%s exists and is not a proven copy of %s: it was not replaced; the new file is %s",
        wanted, what, final.name,
    )  # fmt: skip


def _is_same(path: Path, name: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(path.lstat(), name.lstat())
    return False


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 when it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _etag_path(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(".part") + ".etag")


def _remove_any(path: Path) -> None:
    """Remove a file, or the part folder of a product of many files."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # A folder; or it cannot be removed, and then it is left.
        shutil.rmtree(path, ignore_errors=True)


def _remove(part: Path) -> None:
    # What cannot be removed is left: the reason why it was to go matters more.
    for path in (part, _etag_path(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems do not sync folders; the rename itself is done.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
