"""Part files: bytes that are not yet verified, and never have the final name.

Part files are in ``.geodes-tasks/`` in the folder of the final file, on the same volume. A part
file belongs to one attempt and carries its token; no two attempts ever write to one file, so a
worker that was only suspended can continue at any time and do no harm. A next attempt adopts the
bytes of a dead one: it renames the dead one's part, so that it cannot be published any more, and
copies it while hashing. No lock is used: ``flock`` is not to be trusted on Lustre, GPFS or NFS.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from geodes_tasks.errors import DiskError, LeaseLostError, TooLargeError
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import Proof
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.disk import FolderCheck, disk_errors, size_of, space_of, sync_folder
from geodes_tasks.transfer.hashing_writer import BlockWriter, HashingWriter
from geodes_tasks.transfer.leftovers import (
    Leftovers,
    etag_path,
    part_folder,
    remove,
    remove_any,
    write_etag,
)
from geodes_tasks.transfer.publish import link_new, parent_of

COPY_BYTES = 1024 * 1024
"""Number of bytes of a leftover that are copied and hashed at once."""
THREAD_MIN_BYTES = 8 * 1024 * 1024
"""Size in bytes from which a file is hashed in a thread of its own, in parallel to the transfer."""


class PartFile:
    """The bytes of one attempt, hashed as they are written."""

    def __init__(
        self,
        final: Path,
        content: str,
        token: str,
        algorithm: str,
        check: FolderCheck = lambda _: None,
    ) -> None:
        """Compute the name of the part file; nothing is created yet.

        Args:
            final: Path of the file once it is verified.
            content: Identity of the content; parts of other content are never adopted.
            token: Token of the attempt, a number higher than that of all attempts before it.
            algorithm: Name of the hash, as hashlib knows it.
            check: Called with the open folder of the final file before something is created or
                published in it; raises where that may not be.
        """
        self.final, self.algorithm, self._check = final, algorithm, check
        self.leftovers = Leftovers(final, content, int(token))
        """Part files of earlier attempts at the same content."""
        self.folder = self.leftovers.folder
        self.path = self.folder / f"{self.leftovers.stem}.{token}.part"
        self.offset = 0
        """Number of bytes written."""
        self._fd = self._folder_fd = -1
        self._writer: HashingWriter  # only between enter and exit

    def __enter__(self) -> Self:
        """Create the file, and the folders above it.

        Raises:
            DiskError, NotAFileError: it cannot be created.
            GeodesTasksError: what the check of its folder raises.
        """
        with disk_errors(self.final):
            self._fd = self._create()
        self._writer = HashingWriter(self._fd, self.algorithm)
        return self

    def _create(self) -> int:
        # An attempt that ends removes the empty folder, possibly just after we opened it.
        for _ in range(100):
            self._folder_fd = part_folder(self.folder, self._check)
            self.leftovers.descriptor = self._folder_fd
            with contextlib.suppress(FileNotFoundError):
                return disk.create(self.path.name, self._folder_fd)
            self._close()
        raise DiskError(str(self.folder), "the folder vanishes as soon as it is made")

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close; the bytes stay for the next attempt, unless no attempt can use them."""
        self._close()
        # The attempt that has the lease scans for leftovers before it publishes, not later: what
        # an attempt without a lease leaves after that would stay for ever.
        is_late = isinstance(error, LeaseLostError) and self.final.exists()
        if self.offset == 0 or is_late or isinstance(error, TooLargeError):
            self.discard()

    def _close(self) -> None:
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = self.leftovers.descriptor = -1
        if self._fd >= 0:
            self._writer.close()
            os.close(self._fd)
            self._fd = -1

    # --- space -----------------------------------------------------------------------------------

    def reserve(self, size_bytes: int, *, resumes: bool = False) -> None:
        """Check that the whole file fits on the volume.

        Leftovers of dead attempts are removed when only that makes room.

        Args:
            size_bytes: Size of the whole file, in bytes.
            resumes: Keep the leftover when there is room to copy it and to fetch the rest.

        Raises:
            TooLargeError: it does not fit on the empty volume.
            DiskError: it does not fit now.
        """
        with disk_errors(self.final):
            space = space_of(self.folder)
        missing = size_bytes - self.offset
        if not space.is_known or space.usable_bytes >= missing:
            return
        space.check_capacity(self.final, size_bytes)
        longest = size_of(leftover) if (leftover := self.leftovers.longest()) else 0
        if resumes and longest > 0 and space.usable_bytes >= max(longest, size_bytes - longest):
            return
        left = [size_of(path) for path in self.leftovers]
        if left and space.usable_bytes + sum(left) >= missing:
            self.leftovers.sweep()
            with disk_errors(self.final):
                space = space_of(self.folder)
        if space.usable_bytes < missing:
            problem = f"{missing} bytes needed, {space.free_bytes} bytes free on the volume"
            raise DiskError(str(self.final.parent), problem)

    def room_left(self, needed_bytes: int) -> int | None:
        """Return how many bytes may still be written to a file of unknown size.

        Args:
            needed_bytes: Size of the next chunk, in bytes.

        Returns:
            None when the volume does not report its size.

        Raises:
            TooLargeError: too few, and this file uses the volume's space.
            DiskError: too few, and other files use it.
        """
        with disk_errors(self.final):
            space = space_of(self.folder)
        if not space.is_known:
            return None
        if space.usable_bytes >= needed_bytes:
            return space.usable_bytes
        if self.offset < space.reserved_bytes:
            problem = f"{space.free_bytes} bytes free on the volume"
            raise DiskError(str(self.final.parent), problem)
        problem = (
            f"no size is known, {self.offset} bytes received and no end, "
            f"{space.free_bytes} of {space.total_bytes} bytes free on the volume"
        )
        raise TooLargeError(str(self.final), problem)

    # --- write -----------------------------------------------------------------------------------

    def expect(self, size_bytes: int | None) -> None:
        """Choose how to write by the expected size: large files in blocks, hashed in a thread."""
        if (size_bytes or 0) >= THREAD_MIN_BYTES:
            self._writer = BlockWriter(self._fd, self.algorithm)

    def write(self, chunk: bytes) -> None:
        """Append a chunk and hash it.

        Raises:
            DiskError: the disk does not take it.
        """
        with disk_errors(self.final):
            self._writer.write(chunk)
        self.offset += len(chunk)

    def restart(self) -> None:
        """Remove all bytes and start again at byte 0."""
        self._writer.close()
        with disk_errors(self.final):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._writer = type(self._writer)(self._fd, self.algorithm)
        self.offset = 0

    def note_etag(self, etag: str) -> None:
        """Record the validator of the bytes ("": none) for a next attempt; not for small files."""
        if self._has_etag():
            with disk_errors(self.final):
                write_etag(self.path, etag, self._folder_fd)

    def _has_etag(self) -> bool:
        # A second file for each small one would double the operations on the folder.
        return isinstance(self._writer, BlockWriter)

    def adopt(self, leftover: Path, on_progress: Callable[[int], None]) -> None:
        """Copy the bytes of a dead attempt into this file while hashing them.

        The leftover is renamed first: its attempt can no longer publish it, and if this attempt
        dies too, the next one finds both. Nothing is copied when another attempt was faster.

        Args:
            leftover: Part file of an earlier attempt.
            on_progress: Called after each block with the bytes in this file. May raise to stop.

        Raises:
            DiskError: it cannot be copied.
        """
        adopted = self.path.with_name(self.path.name.removesuffix(".part") + ".adopted.part")
        with disk_errors(self.final):
            try:
                leftover.rename(adopted)
                with contextlib.suppress(FileNotFoundError):
                    etag_path(leftover).rename(etag_path(adopted))
                with disk.open_file(adopted) as stream:
                    # Not beyond its size now: its writer may be suspended, not dead.
                    remaining = os.fstat(stream.fileno()).st_size
                    while chunk := stream.read(min(COPY_BYTES, remaining)):
                        self.write(chunk)
                        remaining -= len(chunk)
                        on_progress(self.offset)
            except (FileNotFoundError, PermissionError):
                pass  # PermissionError: of another user who shares the folder
            remove(adopted)

    # --- the end ---------------------------------------------------------------------------------

    def digest(self) -> Checksum:
        """Return the digest of all bytes, after all of them were written to the file.

        Raises:
            DiskError: the disk does not take the last of them.
        """
        with disk_errors(self.final):
            self._writer.flush()
        return Checksum(self.algorithm, self._writer.hexdigest())

    def sync(self) -> None:
        """Wait until the disk has all bytes.

        Raises:
            DiskError: the disk does not take them.
        """
        with disk_errors(self.final):
            self._writer.sync()

    def publish(self) -> Proof:
        """Rename the verified file to its final name, in one step, and sync the folder.

        Raises:
            LeaseLostError: another attempt has adopted this part file.
            NotAFileError: the final name is a folder.
            DiskError: the folder does not take it.
        """
        with disk_errors(self.final):
            try:
                # rename(2) replaces in one step: a reader sees the old file or the whole new one.
                with parent_of(self._folder_fd, self.final, self._check) as parent:
                    names = self.path.name, self.final.name
                    os.replace(*names, src_dir_fd=self._folder_fd, dst_dir_fd=parent)
                    return self._published(parent)
            except FileNotFoundError as error:
                raise LeaseLostError(str(self.final)) from error

    def publish_new(self, name: Path) -> Proof | None:
        """Publish under a free name in the same folder; None when the name is taken.

        A file that has the name is not replaced, even if it was created at the last moment.

        Raises:
            LeaseLostError: another attempt has adopted this part file.
            DiskError: the folder does not take it.
        """
        with disk_errors(name):
            try:
                with parent_of(self._folder_fd, self.final, self._check) as parent:
                    link_new(self.path.name, self._folder_fd, name.name, parent)
                    return self._published(parent)
            except FileExistsError:
                return None
            except FileNotFoundError as error:
                raise LeaseLostError(str(name)) from error

    def _published(self, parent: int) -> Proof:
        """Sync the open folder that has the file now, and remove what is left of all attempts."""
        proof = Proof.of(os.fstat(self._fd))
        sync_folder(parent)
        if self._has_etag():
            remove(self.path)
        # An older attempt that was suspended may have created its part since the last scan.
        with contextlib.suppress(DiskError):
            self.leftovers.sweep()
        self._close()
        self._remove_folder()
        return proof

    def quarantine(self) -> Path:
        """Keep the bytes for inspection under a name that is not taken for the file's.

        Raises:
            DiskError: it cannot be renamed.
        """
        kept = self.folder / f"{self.leftovers.stem}.quarantine"
        with disk_errors(self.final):
            self.path.replace(kept)
            etag_path(self.path).unlink(missing_ok=True)
        self._close()
        return kept

    def discard(self) -> None:
        """Remove the part file, and its folder when that is empty."""
        self._close()
        remove(self.path)
        remove_any(self.path.with_suffix(".folder"))
        self._remove_folder()

    def _remove_folder(self) -> None:
        # rmdir(2) fails while other attempts, of this process or another, have files in it.
        with contextlib.suppress(OSError):
            self.folder.rmdir()
