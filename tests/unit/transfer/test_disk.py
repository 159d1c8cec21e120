"""Errors and free space of the volume: named for the user before and during a transfer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from geodes_tasks.errors import DiskError, HostileNameError, NotAFileError, TooLargeError
from geodes_tasks.transfer import disk
from tests.unit.transfer.scene import MiB, files, part_of


def test_a_full_volume_is_said_before_the_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file cannot fit, no byte is asked for, and both numbers are in the message."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(free=20 * MiB))

    with part_of(tmp_path / "a.zip") as part:
        part.reserve(4 * MiB)
        with pytest.raises(DiskError, match=r"5242880 bytes needed, 20971520 bytes free"):
            part.reserve(5 * MiB)


def descriptors() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


class _Usage:
    def __init__(self, free: int) -> None:
        self.free, self.total = free, 10**12


VOLUME_ERRORS = [
    "ENOSPC", "EDQUOT", "EROFS", "ESTALE", "EIO", "ETIMEDOUT", "ENOMEM", "EREMOTEIO", "EINVAL",
]  # fmt: skip


@pytest.mark.parametrize("number", [getattr(errno, name) for name in VOLUME_ERRORS])
def test_what_the_disk_says_becomes_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Full, over quota, read-only and stale are about this worker's disk, and say so."""

    def refuse(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    with part_of(tmp_path / "a.zip") as part:
        monkeypatch.setattr("os.write", refuse)
        with pytest.raises(DiskError, match=os.strerror(number)):
            part.write(b"x")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ], ids=str)
def test_a_name_that_the_file_system_refuses_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It is that of one file, named by its final path; other files of the volume do not wait."""
    real = os.open

    def refuse(path: str, flags: int, *args: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *args, **more)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(HostileNameError, match=rf"/a\.zip: .*\({os.strerror(number)}\)") as caught:
        part_of(tmp_path / "a.zip").__enter__()

    assert "layout" in caught.value.hint


def test_a_folder_whose_name_is_refused_is_no_name_of_an_item(tmp_path: Path) -> None:
    """No layout mends it: another folder does."""
    with pytest.raises(DiskError, match="File name too long"):
        disk.probe(tmp_path / ("x" * 300))


def test_a_file_above_the_limit_of_the_file_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EFBIG ends the file by name, with the path and the limit to raise."""

    def refuse(descriptor: int, data: object) -> int:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    with part_of(tmp_path / "a.zip") as part:
        monkeypatch.setattr("os.write", refuse)
        with pytest.raises(TooLargeError, match=r"a\.zip: File too large: .*ulimit -f"):
            part.write(b"x")


def test_a_folder_at_the_final_name_is_named(tmp_path: Path) -> None:
    """A folder where the file should go is not replaced."""
    final = tmp_path / "a.zip"
    with part_of(final) as part:
        part.write(b"x")
        final.mkdir()
        with pytest.raises(NotAFileError, match="there is a folder of this name already"):
            part.publish()

    assert final.is_dir()


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """A file where a folder of the path should be is said to be one."""
    (tmp_path / "folder").write_bytes(b"")
    part = part_of(tmp_path / "folder" / "a.zip")

    with pytest.raises(NotAFileError, match="there is a file of this name already"):
        part.__enter__()


def test_probing_a_folder_leaves_nothing(tmp_path: Path) -> None:
    """Whether a folder takes files is found out without leaving one."""
    disk.probe(tmp_path / "new" / "folder")

    assert files(tmp_path) == []
    assert (tmp_path / "new" / "folder").is_dir()


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A FIFO, a folder and a link are as good as nothing, and no descriptor stays open."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(__file__)
    before = descriptors()

    for name in ("fifo", "link", "none", ""):
        with pytest.raises(FileNotFoundError):
            disk.open_file(tmp_path / name)

    assert descriptors() == before


@pytest.mark.parametrize("missing", ["a", "a/b"])
def test_no_descriptor_stays_open_on_the_way(tmp_path: Path, missing: str) -> None:
    """Whether all folders are there or one is missing or a link."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "link").symlink_to(tmp_path)
    top = os.open(tmp_path, os.O_RDONLY)
    before = descriptors()

    for names in (["x", *missing.split("/")], ["x", "link"]):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            disk.open_below(top, names)
    os.close(disk.open_below(top, ["x", "y"]))
    os.close(disk.open_below(top, ["x", *missing.split("/")], make=True))

    assert descriptors() == before
    assert (tmp_path / "x" / missing).is_dir()
    os.close(top)


def test_the_nearest_folder_of_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    """A name that is too long, as a folder that this user may not search, is not there."""
    assert disk.nearest(tmp_path / ("x" * 300) / "a") == tmp_path
    assert disk.nearest(tmp_path / "a" / "b") == tmp_path
    assert disk.nearest(tmp_path) == tmp_path
