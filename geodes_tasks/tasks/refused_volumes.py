"""Volumes and folders that this process cannot write to: only what needs them waits."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geodes_tasks.errors import DiskError, NotAFileError, OutsideRootsError
from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.tasks.stop_signal import StopSignal
from geodes_tasks.transfer import disk

logger = logging.getLogger(__name__)

CHECK_S = 10.0
"""Seconds after a refusal until one download tries the volume again."""
LOOK_S = 30.0
"""Seconds between two looks at what was refused: perhaps no download comes for it any more."""
OF_FOLDER = frozenset({errno.EACCES, errno.EPERM, errno.ENODEV})
"""Errors of one folder: no permission, or the mount point of a file system that is gone."""
IN_A_ROW = 4
"""Number of downloads refused in a row after which the worker takes no message for ``CHECK_S``:
what is left is for the same volume, or comes to the head of the queue meanwhile."""


@dataclass(slots=True)
class VolumeRefusal:
    """One refusal of a volume or a folder."""

    error: DiskError
    cause: BaseException | None
    """Error of the system; None where the file did not fit."""
    least_bytes: int
    """Size of the smallest file that did not fit; 0 where nothing can be written."""
    until: float
    """Time of ``time.monotonic`` at which it is tried again."""
    folder: Path


class RefusedVolumes:
    """The refusals of volumes, as one process knows them. Safe to use from many threads."""

    def __init__(self, stop: StopSignal, publish: Callable[[str | None], None]) -> None:
        """Begin with no refusal.

        Args:
            stop: Of the worker.
            publish: Called with a folder when it is refused, and when another can be written to
                again; with None when all can.
        """
        self._stop, self._publish = stop, publish
        self._refusals: dict[object, VolumeRefusal] = {}
        self._of_others = set[str]()
        """Folders into which only other workers may write: nothing is tried there."""
        self._in_a_row = 0
        self._lock = threading.Lock()
        self._guard = LoopGuard(logger, "looking at refused folders", expected=(OSError,))
        self._is_watched = False

    def check(self, path: Path, size_bytes: int | None) -> None:
        """Check that the volume of a file did not refuse it, or a smaller one, a moment ago.

        After a while a test file is written first: a request to the portal costs quota.

        Raises:
            DiskError: the error of then, or of the test file.
        """
        if not self._refusals:
            return
        # Without the lock: a stale mount can block any of this, and other volumes continue.
        for key in (path.parent, volume_of(path)):
            refusal = self._refusals.get(key)
            if refusal is None:
                continue
            if time.monotonic() >= refusal.until:
                if not refusal.least_bytes:
                    disk.probe(path.parent)
                continue
            if not refusal.least_bytes or (size_bytes or 0) >= refusal.least_bytes:
                # A new one: the end of an attempt cuts the causes off the error it had.
                raise replace(refusal.error) from refusal.cause

    def refused(self, path: Path, size_bytes: int | None, error: DiskError) -> None:
        """Record that a file could not be written."""
        cause, now = error.__cause__, time.monotonic()
        is_folder = getattr(cause, "errno", 0) in OF_FOLDER
        key = path.parent if is_folder else volume_of(path)
        # Without an error of the system it is a size that does not fit into what is free now.
        least = 0 if cause is not None else size_bytes or 0
        with self._lock:
            before = self._refusals.get(key)
            # Until it is tried again a refusal says something new only about a smaller file.
            if before is None or now >= before.until or least < before.least_bytes:
                least = min(least, before.least_bytes) if before else least
                self._refusals[key] = VolumeRefusal(error, cause, least, now + CHECK_S, path.parent)
            self._count()
        if before is None:
            what = "folder" if is_folder else "volume"
            logger.error(
                "this worker takes no more work for the %s of %s: %s. %s",
                what, path.parent, error, error.hint,
            )  # fmt: skip
            self._publish(str(path.parent))
        with self._guard:
            if not self._is_watched:
                threading.Thread(target=self._watch, name="refused folders", daemon=True).start()
                self._is_watched = True

    def left_to_others(self, folder: str, error: OutsideRootsError) -> None:
        """Record that a download is for a folder into which only other workers may write."""
        with self._lock:
            is_new = folder not in self._of_others
            self._of_others.add(folder)
            self._count()
        if is_new:
            logger.error(
                "this worker takes no work for %s: this worker writes below %s only. %s",
                folder, error.roots, error.hint,
            )  # fmt: skip

    def _count(self) -> None:
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            self._stop.rest(CHECK_S)
            self._in_a_row = 0

    def written(self, path: Path) -> None:
        """Record that a file was written: its volume takes files."""
        self._in_a_row = 0
        if self._refusals:
            self._forget((path.parent, volume_of(path)), path.parent)

    def look(self) -> None:
        """Forget the refusals of what can be written to by now, whether or not a download comes."""
        for key, refusal in tuple(self._refusals.items()):
            with contextlib.suppress(DiskError, NotAFileError, OSError):
                # Its folder may be gone, with the batch, and is not made for this.
                folder = disk.nearest(refusal.folder)
                space = disk.space_of(folder)
                is_full = space.is_known and space.usable_bytes <= refusal.least_bytes
                # A download that comes tries more than a test file can.
                if is_full or time.monotonic() < refusal.until + LOOK_S:
                    continue
                disk.probe(folder)
                self._forget((key,), refusal.folder)

    def _forget(self, keys: Sequence[object], folder: Path) -> None:
        with self._lock:
            known = [self._refusals.pop(key) for key in keys if key in self._refusals]
            left = [str(one.folder) for one in self._refusals.values()]
        if known:
            logger.warning("%s can be written to again: this worker takes work", folder)
            self._publish(left[-1] if left else None)

    def _watch(self) -> None:
        """Look now and then, until nothing is refused."""
        while True:
            time.sleep(LOOK_S)
            with self._guard:
                self.look()
            with self._lock:
                if not self._refusals:
                    self._is_watched = False
                    return


def volume_of(path: Path) -> object:
    """Return the device that a file would be on; the folder itself where that is not known."""
    for folder in path.parents:
        try:
            return os.stat(folder).st_dev  # noqa: PTH116 - one call a file
        except FileNotFoundError:
            continue
        except OSError:
            break
    return path.parent
