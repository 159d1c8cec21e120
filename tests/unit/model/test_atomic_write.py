"""Files that are replaced: whole, by one of several writers, and through no link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geodes_tasks.model.atomic_write import replacing


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    """The file is that of the last one that ended, at each moment."""
    file = tmp_path / "items.json"
    with replacing(file) as slow:
        slow.write("slow, ")
        with replacing(file) as quick:
            quick.write("quick")
        between = file.read_text()
        slow.write("whole")

    assert (between, file.read_text()) == ("quick", "slow, whole")
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Nothing is left of what was written until then."""
    file = tmp_path / "items.json"
    file.write_text("before")

    with pytest.raises(ZeroDivisionError, match="division"), replacing(file) as stream:
        stream.write(str(1 / 0))

    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_bytes_are_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename leaves no empty file (fsync before rename)."""
    file, there, sync = tmp_path / "password", list[tuple[int, bool]](), os.fsync

    def fsync(descriptor: int) -> None:
        there.append((os.fstat(descriptor).st_size, file.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    with replacing(file, permissions=0o400) as stream:
        stream.write("secret")

    assert there == [(6, False)]
    assert file.stat().st_mode & 0o777 == 0o400
