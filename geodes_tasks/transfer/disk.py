"""The volume of the download folder: its free space, a probe, and errors of the system."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from geodes_tasks.errors import DiskError, HostileNameError, NotAFileError, TooLargeError
from geodes_tasks.transfer.destination import PART_FOLDER

RESERVE_BYTES = 16 * 1024 * 1024
"""Number of bytes that are left free on the volume; 1 % of the volume where that is less."""

FolderCheck = Callable[[int], None]
"""Called with the descriptor of an open folder; raises where it may not be written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""Flags of open(2) for a folder that is no link."""
_MOUNTS = set[str]()
"""Mount points seen so far: a file below one that is gone would be on another file system."""
_NAME_ERRNOS = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})
"""Errors of the name of one file, where the system names one: of writing they are the volume's."""


class disk_errors:  # noqa: N801 - read as a verb, like those of contextlib
    """Context that turns the operating system's errors about a file into errors of this package.

    Raises:
        DiskError: full, over quota, read-only, no permission, stale handle, timed out, or any
            other error.
        HostileNameError: the file system does not take the name.
        TooLargeError: the file system or a limit of the process takes no file of this size.
        NotAFileError: there is a file where a folder should be, a folder in place of the file, or
            a file that this user may not read or replace.
    """

    # A class and not a generator: it is entered for each chunk of a transfer, and
    # contextlib.contextmanager would make a generator each time.
    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        """Take the path that an error names where the system names none."""
        self._path = path

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise an error of this package for one of the system."""
        kind, path = "", self._path
        if isinstance(error, PermissionError):
            path = path.parent / str(error.filename2 or error.filename or "")
            what = "write-protected" if error.filename2 else "read-protected"
            kind = f"{what} file" if _is_protected(path) else ""
        elif isinstance(error, IsADirectoryError):
            kind = "folder"
        elif isinstance(error, NotADirectoryError | FileExistsError):
            kind = "file"
        elif isinstance(error, OSError) and error.errno == errno.ELOOP:
            kind = "link that leads to itself"
        if kind and isinstance(error, OSError):
            # Below an open folder the system knows the last name only (openat(2)).
            is_whole = isinstance(error.filename, str) and error.filename.startswith(os.sep)
            raise NotAFileError(error.filename if is_whole else str(path), kind) from error
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            # write(2): EFBIG is the limit of the file system or RLIMIT_FSIZE, not a full volume.
            limit = "the file system or this process (`ulimit -f`) takes no file of this size"
            raise TooLargeError(str(self._path), f"{error.strerror}: {limit}") from error
        if isinstance(error, OSError) and error.errno in _NAME_ERRNOS and error.filename:
            problem = f"the file system does not take this name ({error.strerror})"
            raise HostileNameError(str(self._path), problem) from error
        if isinstance(error, OSError):
            raise DiskError(str(self._path), error.strerror or str(error)) from error


def _is_protected(path: Path) -> bool:
    """Return whether a permission that is missing is that of a file, and not of its folder."""
    is_file = os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - never raises
    return is_file and os.access(path.parent, os.W_OK)


class closing:  # noqa: N801 - as disk_errors, and a class for the same reason
    """Context that closes a descriptor at its end."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        """Take an open descriptor."""
        self._descriptor = descriptor

    def __enter__(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._descriptor)


def open_folder(folder: Path) -> int:
    """Return a descriptor of a folder that is no link.

    In a product that grows in a folder of part files no link is followed on the way from there.

    Raises:
        OSError: there is none, or a name is that of a link: ENOTDIR, as open(2) has it.
    """
    top, below = outside_part_folders(folder.parent)
    if not below:
        return os.open(folder, _FOLDER)
    with closing(os.open(top, os.O_RDONLY | os.O_DIRECTORY)) as parent:
        return open_below(parent, (*below, folder.name))


def outside_part_folders(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Return where the last folder of part files of a path is, and the names from there on.

    Example:
        >>> outside_part_folders(Path("/data/.geodes-tasks/a.folder"))
        (PosixPath('/data'), ('.geodes-tasks', 'a.folder'))
    """
    parts = folder.parts
    hidden = [at for at, name in enumerate(parts) if name == PART_FOLDER]
    return (Path(*parts[: hidden[-1]]), parts[hidden[-1] :]) if hidden else (folder, ())


def open_below(folder: int, names: Iterable[str], *, make: bool = False) -> int:
    """Return a descriptor of a folder below an open one; no link on the way is followed.

    Args:
        folder: Descriptor of the open folder.
        names: Names of the folders on the way.
        make: Create those that are missing.

    Raises:
        OSError: as :func:`open_folder`.
    """
    descriptor = folder
    for name in names:
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            below = os.open(name, _FOLDER, dir_fd=descriptor)
        finally:
            if descriptor != folder:
                os.close(descriptor)
        descriptor = below
    return os.dup(folder) if descriptor == folder else descriptor


def create(name: str, folder: int) -> int:
    """Create a file in an open folder for reading and writing; no link of that name is followed.

    Raises:
        OSError: it cannot be created, or something has its name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(name, flags, 0o666, dir_fd=folder)


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading; neither a link is followed nor a FIFO waited for.

    Raises:
        FileNotFoundError: there is none, or something else has its name.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:  # open(2), O_NOFOLLOW: it is a link
            raise FileNotFoundError(errno.ENOENT, "a link", str(path)) from error
        raise
    # FileIO would raise for a folder and leave the descriptor open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    return FileIO(descriptor)


def check_mounted(folder: str) -> None:
    """Check that a folder is on the file system that it was on, and remember its mount point.

    Raises:
        DiskError: that one is not mounted any more.
    """
    # autofs(5): a name that ends with a slash mounts again what was unmounted as idle.
    os.path.exists(os.path.join(folder, ""))  # noqa: PTH110, PTH118 - Path has no slash at its end
    device = device_of(folder)
    # Not os.path.ismount, which resolves the parent of each level: one second has many folders.
    while folder != "/":
        above = os.path.dirname(folder)  # noqa: PTH120
        device_above = device_of(above)
        if device not in {None, device_above}:
            break
        if folder in _MOUNTS:
            problem = "the file system that was there is not mounted any more"
            raise DiskError(folder, problem) from OSError(errno.ENODEV, problem)
        folder, device = above, device_above
    _MOUNTS.add(folder)


def device_of(path: str) -> object:
    """Return the device of a path, which is no link; None where nothing has it."""
    try:
        return os.lstat(path).st_dev
    except OSError:
        return None


def nearest(path: Path) -> Path:
    """Return a path where something has it, else the nearest folder above it that is there."""
    # os.path: no error for a name that is too long, or a folder that this user may not search.
    return next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110


def probe(folder: Path) -> None:
    """Check that files can be written in a folder; the folder is created if it does not exist.

    Raises:
        DiskError: full, over quota, read-only, no permission, stale handle, not mounted.
        NotAFileError: something that is no folder has its name.
    """
    check_mounted(os.path.realpath(folder))
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".geodes-tasks-probe-", dir=folder) as stream:
                stream.write(b"\0" * 4096)
                stream.flush()
                # NFS and file systems with quotas report a full volume only here (fsync(2)).
                os.fsync(stream.fileno())
    except HostileNameError as error:
        raise DiskError(str(folder), error.problem) from error


@dataclass(frozen=True, slots=True)
class Space:
    """The space of a volume."""

    free_bytes: int
    """Bytes that this user may still write."""
    total_bytes: int
    """Size of the volume in bytes; 0 where the volume does not report it."""

    @property
    def is_known(self) -> bool:
        """Return whether the volume reports its size; some FUSE file systems report 0."""
        return self.total_bytes > 0

    @property
    def reserved_bytes(self) -> int:
        """Bytes that downloads leave free."""
        return min(RESERVE_BYTES, self.total_bytes // 100)

    @property
    def usable_bytes(self) -> int:
        """Bytes that downloads may still write; negative when too little is free already."""
        return self.free_bytes - self.reserved_bytes

    def check_capacity(self, final: Path, size_bytes: int) -> None:
        """Check that the empty volume can take what a download writes.

        Raises:
            TooLargeError: it never can; the final path is named.
        """
        if self.is_known and size_bytes > self.total_bytes - self.reserved_bytes:
            problem = (
                f"{size_bytes} bytes needed, the whole volume has {self.total_bytes} bytes, "
                f"of which {self.reserved_bytes} are kept free"
            )
            raise TooLargeError(str(final), problem)


def space_of(folder: Path) -> Space:
    """Return the space of the volume that a folder is on.

    Raises:
        OSError: it cannot be read.
    """
    usage = shutil.disk_usage(folder)
    return Space(usage.free, usage.total)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 when it cannot be read."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def sync_folder(folder: int) -> None:
    """Write the names in an open folder to the disk: a rename survives a power cut only after this.

    Source: fsync(2), "Calling fsync() does not necessarily ensure that the entry in the directory
    containing the file has also reached disk."
    """
    # Some network file systems refuse to sync a folder (EINVAL); the rename itself is done.
    with contextlib.suppress(OSError):
        os.fsync(folder)
