"""What a volume refused is not tried again for a while, and nothing else waits for it."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from geodes_tasks.errors import DiskError, NotAFileError, OutsideRootsError
from geodes_tasks.tasks import refused_volumes, task
from geodes_tasks.tasks.refused_volumes import IN_A_ROW, RefusedVolumes, volume_of
from geodes_tasks.tasks.stop_signal import StopSignal
from geodes_tasks.transfer import disk
from tests.servers import wait_until

MiB = 1 << 20


@pytest.fixture
def published() -> list[str | None]:
    """Collect what monitors are shown."""
    return []


@pytest.fixture
def volumes(published: list[str | None]) -> RefusedVolumes:
    """Give a process that has met no refusal."""
    return RefusedVolumes(StopSignal(), published.append)


def error_of(number: int) -> DiskError:
    """Return the error for one of the system, as the transfer raises it."""
    error = DiskError("/data", os.strerror(number))
    error.__cause__ = OSError(number, os.strerror(number))
    return error


def test_what_needs_the_volume_waits(
    volumes: RefusedVolumes, tmp_path: Path, published: list[str | None]
) -> None:
    """Every file of the volume, whatever its size and folder; files of another volume do not."""
    volumes.refused(tmp_path / "a" / "1", MiB, error_of(errno.EIO))

    with pytest.raises(DiskError, match="Input/output"):
        volumes.check(tmp_path / "b" / "2", None)
    volumes.check(Path("/proc/elsewhere/3"), MiB)
    volumes.written(tmp_path / "b" / "2")
    volumes.check(tmp_path / "b" / "2", None)
    assert published == [str(tmp_path / "a"), None]


def test_a_test_file_that_hangs_holds_up_its_own_volume_only(
    volumes: RefusedVolumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale mount blocks without end, and the worker's other volumes continue."""
    monkeypatch.setattr(refused_volumes, "CHECK_S", 0.0)
    stale, begun, end = tmp_path / "1", threading.Event(), threading.Event()
    volumes.refused(stale, MiB, error_of(errno.ESTALE))

    def hang(_: Path) -> None:
        begun.set()
        end.wait(30)

    monkeypatch.setattr(disk, "probe", hang)
    hung = threading.Thread(target=volumes.check, args=(stale, MiB))
    hung.start()
    begun.wait(10)

    other = threading.Thread(target=volumes.check, args=(Path("/proc/elsewhere/2"), MiB))
    other.start()
    other.join(5)

    assert not other.is_alive()
    end.set()
    for one in (hung, other):
        one.join()


def test_a_folder_is_no_volume(volumes: RefusedVolumes, tmp_path: Path) -> None:
    """Without the permission for one folder the others of the volume take files."""
    error = DiskError("/data", "Permission denied")
    error.__cause__ = PermissionError(errno.EACCES, "Permission denied")
    volumes.refused(tmp_path / "a" / "1", MiB, error)

    with pytest.raises(DiskError, match="Permission"):
        volumes.check(tmp_path / "a" / "2", MiB)
    volumes.check(tmp_path / "b" / "2", MiB)


def test_a_folder_that_is_met_again_closes_no_volume(
    volumes: RefusedVolumes, tmp_path: Path, published: list[str | None]
) -> None:
    """The end of each attempt cuts the causes off its error: the refusal keeps what it is of."""
    error: DiskError = error_of(errno.EACCES)
    for name in "123":
        volumes.refused(tmp_path / "a" / name, MiB, error)
        task._free(error)
        with pytest.raises(DiskError, match="Permission") as caught:
            volumes.check(tmp_path / "a" / "4", MiB)
        error = caught.value

    volumes.check(tmp_path / "b" / "2", MiB)
    assert published == [str(tmp_path / "a")]


def test_smaller_files_fit(volumes: RefusedVolumes, tmp_path: Path) -> None:
    """A file that does not fit into what is free keeps back its size and more only."""
    volumes.refused(tmp_path / "1", 10 * MiB, DiskError("/data", "10 MiB needed, 5 MiB free"))

    volumes.check(tmp_path / "2", 4 * MiB)
    with pytest.raises(DiskError, match="needed"):
        volumes.check(tmp_path / "3", 11 * MiB)


def test_it_is_tried_again(
    volumes: RefusedVolumes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a while one download tries; a refusal that lasts is one line in the log."""
    monkeypatch.setattr(refused_volumes, "CHECK_S", 0.0)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            volumes.check(tmp_path / "1", MiB)
            volumes.refused(tmp_path / "1", MiB, error_of(errno.ENOSPC))

    assert len(caplog.records) == 1


def test_a_test_file_is_written_first(
    volumes: RefusedVolumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be written, no request is spent to find that out."""
    monkeypatch.setattr(refused_volumes, "CHECK_S", 0.0)
    volumes.refused(tmp_path / "folder" / "1", MiB, error_of(errno.EIO))
    (tmp_path / "folder").write_bytes(b"no folder can be made here")

    with pytest.raises(NotAFileError):
        volumes.check(tmp_path / "folder" / "2", MiB)
    (tmp_path / "folder").unlink()
    volumes.check(tmp_path / "folder" / "2", MiB)


def test_what_was_repaired_is_shown_without_a_download(
    volumes: RefusedVolumes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    published: list[str | None],
) -> None:
    """Its batch may have been cancelled: a test file is written; a folder that is gone is not made.

    Another refused folder, which is still none, is the one that is shown then.
    """
    gone, broken = tmp_path / "gone", tmp_path / "broken"
    for folder in (broken, gone):
        error = DiskError(str(folder), "Permission denied")
        error.__cause__ = PermissionError(errno.EACCES, "Permission denied")
        volumes.refused(folder / "1", MiB, error)
    full = DiskError("/data", "10 EiB needed")
    volumes.refused(tmp_path / "1", 10 << 60, full)
    volumes.look()
    early = list(published)
    now = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def probe(folder: Path) -> None:
        if folder == broken:
            raise DiskError(str(folder), "Permission denied")

    broken.mkdir()
    monkeypatch.setattr(disk, "probe", probe)
    volumes.look()
    volumes.written(tmp_path / "2")

    assert early == [str(broken), str(gone), str(tmp_path)]
    assert published[3:] == [str(tmp_path), str(broken)]
    assert not gone.exists()
    monkeypatch.setattr(disk, "probe", lambda _: None)
    volumes.look()
    assert published[-1] is None


def test_no_test_file_is_written_where_only_other_workers_may_write(
    volumes: RefusedVolumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of another worker is left to it, and nothing is tried there."""
    volumes.left_to_others(str(tmp_path), OutsideRootsError(str(tmp_path / "1"), "/b"))
    now = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(disk, "probe", lambda folder: pytest.fail(f"tried {folder}"))

    volumes.look()


def test_somebody_looks_at_what_was_refused(
    volumes: RefusedVolumes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    published: list[str | None],
) -> None:
    """A thread does, from the first refusal on, and one error does not end it."""
    monkeypatch.setattr(refused_volumes, "LOOK_S", 0.01)
    monkeypatch.setattr(refused_volumes, "CHECK_S", 0.0)
    errors = [OSError(errno.ESTALE, "stale"), ZeroDivisionError()]

    def probe(_: Path) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(disk, "probe", probe)
    volumes.refused(tmp_path / "1", MiB, error_of(errno.EIO))

    wait_until(lambda: published == [str(tmp_path), None])


def test_a_worker_without_other_work_rests(tmp_path: Path) -> None:
    """After some refusals in a row no message is read for a while; a file in between ends that."""
    stop = StopSignal()
    volumes = RefusedVolumes(stop, lambda _: None)
    for number in range(2 * IN_A_ROW):
        volumes.refused(tmp_path / "1", MiB, error_of(errno.ENOSPC))
        if number % 2:
            volumes.written(Path("/proc/elsewhere/3"))
    rested = stop.takes_none
    for _ in range(IN_A_ROW):
        volumes.refused(tmp_path / "1", MiB, error_of(errno.ENOSPC))

    assert (rested, stop.takes_none) == (False, True)


def test_a_path_whose_folders_are_missing_is_on_a_volume(tmp_path: Path) -> None:
    """The folders of a download are made when it starts."""
    assert volume_of(tmp_path / "a" / "b" / "c") == tmp_path.stat().st_dev
