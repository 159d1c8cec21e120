"""The last step of a download: in which order bytes, lease and names reach the disk."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import (
    CatalogueMismatchError,
    ChecksumMismatchError,
    DiskError,
    LeaseLostError,
    TruncatedBodyError,
)
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.partfile import COPY_BYTES, THREAD_MIN_BYTES
from tests.conftest import MemoryTransport, asset_of, some_bytes
from tests.unit.transfer.scene import (
    ASSET,
    BYTES,
    CONTENT,
    WRONG,
    Recorder,
    broken,
    fetch,
    files,
    ignore,
    left_by,
    names,
    part_of,
)


class Journal(Recorder):
    """Callbacks and calls of the operating system, written down in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch the calls that make a file and its name durable."""
        super().__init__()
        self.steps: list[str] = []
        fsync, replace, link = os.fsync, os.replace, os.link

        def watched_fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self.steps.append("fsync folder" if is_folder else "fsync file")
            fsync(descriptor)

        def watched_replace(source: Path, target: Path, **folders: int) -> None:
            self.steps.append("name")
            replace(source, target, **folders)

        def watched_link(source: Path, target: Path, **options: Any) -> None:
            self.steps.append("name")
            link(source, target, **options)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        monkeypatch.setattr(os, "link", watched_link)

    def confirm(self) -> None:
        """Write down that the lease was confirmed."""
        self.steps.append("confirm")
        super().confirm()


BOTH = asset_of(CONTENT, hrefs={"geodes": "https://portal.invalid/a", "s3": "s3://bucket/a"})
ORDER = ["fsync file", "confirm", "name", "fsync folder"]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("size", [1000, THREAD_MIN_BYTES])
def test_bytes_are_on_the_disk_before_the_name(
    final: Path, monkeypatch: pytest.MonkeyPatch, size: int, replace: bool
) -> None:
    """The order: the file is synced, the lease confirmed, the file renamed, the folder synced."""
    content = some_bytes(size)
    journal = Journal(monkeypatch)

    result = download(
        asset_of(content),
        final,
        {"geodes": MemoryTransport(content)},
        callbacks=journal,
        replace=replace,
    )

    assert result.outcome is Outcome.DOWNLOADED
    assert journal.steps == ORDER


def test_adopted_bytes_are_on_the_disk_before_the_name(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed file is made durable like one that came whole."""
    broken(final)
    journal = Journal(monkeypatch)

    transports = {"geodes": MemoryTransport(CONTENT)}
    result = download(ASSET, final, transports, callbacks=journal, token="2")

    assert result.outcome is Outcome.RESUMED
    assert journal.steps == ORDER


def test_a_sync_that_fails_publishes_nothing(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that reports an error at the last fsync gives no file a name."""

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(DiskError, match="Input/output error"):
        fetch(final, MemoryTransport(CONTENT))

    assert not final.exists()


def test_after_a_sync_that_failed_bytes_without_a_checksum_are_fetched_again(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may have lost what it could not write, and no later attempt would see that."""
    asset = asset_of(CONTENT, "a.tif", checksum=None)
    with monkeypatch.context() as patch:

        def refuse(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DiskError, match="Input/output error"):
            fetch(final, MemoryTransport(CONTENT), asset)

    result = fetch(final, MemoryTransport(CONTENT), asset, token=2)

    assert (result.outcome, result.bytes_transferred) == (Outcome.DOWNLOADED, len(CONTENT))


def test_a_changed_file_without_a_checksum_is_fetched_again(final: Path) -> None:
    """The proof of a file is void once the file changed, also when no checksum can decide."""
    content = zip_of(b"old")
    asset = asset_of(content, checksum=None)
    first = download(asset, final, {"geodes": MemoryTransport(content)})
    final.write_bytes(content[:-1] + b"?")

    again = download(asset, final, {"geodes": MemoryTransport(content)}, proof=first.proof)

    assert again.outcome is Outcome.DOWNLOADED
    assert final.read_bytes() == content


def zip_of(content: bytes) -> bytes:
    """Return a zip archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("member", content)
    return buffer.getvalue()


def test_bytes_of_a_dead_attempt_are_no_whole_copy(final: Path) -> None:
    """A wrong part of full length is not one of the two copies that accuse the catalogue."""
    left_by(1, final, WRONG, identity=str(ASSET.checksum))

    with pytest.raises(ChecksumMismatchError, match="received") as caught:
        fetch(final, MemoryTransport(CONTENT), token=2)

    assert not isinstance(caught.value, CatalogueMismatchError)
    assert caught.value.whole is False


@pytest.mark.parametrize("error", [DiskError("/d", "full"), LeaseLostError("/d/a.zip")])
def test_a_disk_or_a_lost_lease_ends_the_attempt(final: Path, error: Exception) -> None:
    """No other source is opened for a fault that is none of the source's."""
    recorder = Recorder(progress_error=error)
    s3 = MemoryTransport(CONTENT)

    with pytest.raises(type(error), match="/d"):
        download(BOTH, final, {"geodes": MemoryTransport(CONTENT), "s3": s3}, callbacks=recorder)

    assert s3.opened == []


def test_bytes_that_were_wrong_are_not_adopted_again(final: Path) -> None:
    """After a wrong checksum the next source starts at byte 0, whatever dead attempts left."""
    left_by(1, final, WRONG[: len(WRONG) // 2], identity=str(ASSET.checksum))
    s3 = MemoryTransport(CONTENT)

    result = download(BOTH, final, {"geodes": MemoryTransport(WRONG), "s3": s3}, token="2")

    assert s3.opened == [(0, None)]
    assert result.source == "s3"
    assert final.read_bytes() == CONTENT


def test_a_suspended_attempt_cannot_publish_what_was_adopted(final: Path) -> None:
    """The adopted part is renamed first: its writer wakes up to a lost lease, not to a file."""
    with part_of(final, 1) as old:
        old.write(BYTES)
        with part_of(final, 2) as new:
            new.adopt(old.path, ignore)
            with pytest.raises(LeaseLostError):
                old.publish()
            new.publish()

    assert final.read_bytes() == BYTES
    assert files(final.parent) == ["a.zip"]


def test_a_copy_does_not_follow_a_writer_that_is_alive(final: Path) -> None:
    """Bytes that a suspended attempt writes while it is copied are not taken."""
    with part_of(final, 1) as old:
        old.write(some_bytes(COPY_BYTES + 1000))

        def goes_on(done_bytes: int) -> None:
            os.write(old._fd, b"later")

        with part_of(final, 2) as new:
            new.adopt(old.path, goes_on)

            assert new.offset == COPY_BYTES + 1000


def test_the_folder_of_parts_stays_while_another_download_uses_it(final: Path) -> None:
    """The end of one download never removes the folder in which another one writes."""
    with part_of(final.with_name("b.zip")) as other:
        fetch(final, MemoryTransport(CONTENT))

        assert other.path.exists()
        other.write(BYTES)
        other.publish()

    assert names(final) == ["a.zip", "b.zip"]


def test_an_attempt_that_breaks_keeps_its_part(final: Path) -> None:
    """The bytes that came before the break are there for the next attempt."""
    with pytest.raises(TruncatedBodyError, match="announced"):
        fetch(final, MemoryTransport(CONTENT, cuts=[len(CONTENT) // 2]))

    (part,) = (final.parent / ".geodes-tasks").glob("*.part")
    assert part.stat().st_size == len(CONTENT) // 2


def test_a_folder_that_cannot_be_removed_is_no_error(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EBUSY: a shared file system may hold the empty folder of part files for a while."""
    seen: list[Path] = []

    def busy(path: Path) -> None:
        seen.append(path)
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    monkeypatch.setattr(Path, "rmdir", busy)
    result = fetch(final, MemoryTransport(CONTENT))

    assert seen
    assert result.outcome is Outcome.DOWNLOADED
    assert names(final) == [final.name]
    assert final.read_bytes() == CONTENT


def test_a_sync_that_is_interrupted_publishes_nothing(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EINTR: the bytes may not be on the disk; they stay for the next attempt."""
    with monkeypatch.context() as patch:

        def interrupted(_: int) -> None:
            raise InterruptedError(errno.EINTR, "Interrupted system call")

        patch.setattr(os, "fsync", interrupted)
        patch.setattr(os, "fdatasync", interrupted)
        with pytest.raises(DiskError, match="Interrupted system call"):
            fetch(final, MemoryTransport(CONTENT))
        assert not final.exists()

    result = fetch(final, MemoryTransport(CONTENT), token=2)

    assert (result.outcome, result.bytes_transferred) == (Outcome.RESUMED, 0)
    assert final.read_bytes() == CONTENT
