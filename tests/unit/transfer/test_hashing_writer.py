"""Bytes on their way into a file: none lost, none twice, hashed, in large blocks."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.transfer import hashing_writer
from geodes_tasks.transfer.hashing_writer import BLOCK_BYTES, BlockWriter, HashingWriter
from tests.conftest import some_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 5 * BLOCK_BYTES // 2


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """Open an empty file."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def held(fd: int) -> bytes:
    """Read all that a file holds."""
    return os.pread(fd, 1 << 30, 0)


def pieces(content: bytes, size: int) -> list[bytes]:
    """Cut bytes as a network would."""
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize("kind", [HashingWriter, BlockWriter])
@pytest.mark.parametrize("size", [4099, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])
def test_every_byte_once(fd: int, kind: type[HashingWriter], size: int) -> None:
    """However the network cuts them, the file holds the bytes and the digest is theirs."""
    content = some_bytes(SIZE)
    out = kind(fd, "md5")

    for piece in pieces(content, size):
        out.write(piece)
    out.flush()
    out.sync()
    out.close()

    assert held(fd) == content
    assert out.hexdigest() == hashlib.md5(content).hexdigest()


def test_big_files_are_written_in_blocks(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small pieces make a few large writes."""
    sizes: list[int] = []
    real = os.write

    def counted(to: int, data: memoryview) -> int:
        sizes.append(len(data))
        return real(to, data)

    monkeypatch.setattr(os, "write", counted)
    out = BlockWriter(fd, "md5")

    for piece in pieces(some_bytes(SIZE), 16384):
        out.write(piece)
    out.flush()

    assert sizes == [BLOCK_BYTES, BLOCK_BYTES, SIZE - 2 * BLOCK_BYTES]
    assert out.hexdigest() == hashlib.md5(some_bytes(SIZE)).hexdigest()
    out.close()


def test_a_slow_transfer_is_not_held_back(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come slowly are in the file soon: a killed worker loses little."""
    now = [100.0]
    monkeypatch.setattr("geodes_tasks.transfer.hashing_writer.time.monotonic", lambda: now[0])
    out = BlockWriter(fd, "md5")

    out.write(b"one")
    early = held(fd)
    now[0] += hashing_writer.GATHER_S
    out.write(b"two")

    assert early == b""
    assert held(fd) == b"onetwo"
    out.close()


def test_what_is_gathered_stays_for_the_next_attempt(fd: int) -> None:
    """An attempt that ends early leaves all that it took."""
    out = BlockWriter(fd, "md5")

    out.write(b"some")
    out.close()

    assert held(fd) == b"some"


def test_no_thread_is_left(fd: int) -> None:
    """However often it is closed, nothing goes on beside."""
    before = threading.active_count()
    out = BlockWriter(fd, "md5")
    out.write(bytes(SIZE))
    out.flush()

    out.close()
    out.close()

    assert threading.active_count() == before


@pytest.mark.parametrize("size", [SIZE, BLOCK_BYTES // 3, 5000])
def test_a_disk_that_takes_a_part_is_asked_again(
    fd: int, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A short write, as on a disk that is nearly full, loses and repeats nothing."""
    real, rolls = os.write, random.Random(1)

    def some(to: int, data: bytes) -> int:
        return real(to, data[: rolls.randint(1, len(data))])

    monkeypatch.setattr(os, "write", some)
    monkeypatch.setattr(os, "writev", lambda to, data: some(to, b"".join(data)))
    content = some_bytes(SIZE)
    out = BlockWriter(fd, "md5")

    for piece in pieces(content, size):
        out.write(piece)
    out.flush()

    assert held(fd) == content
    out.close()


def test_a_full_disk_is_told_and_ends(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block may be the one that does not fit: that is an error, closing is none."""

    def full(to: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = BlockWriter(fd, "md5")
    out.write(b"some")
    monkeypatch.setattr(os, "write", full)

    with pytest.raises(OSError, match="No space"):
        out.flush()
    out.close()


def test_a_failed_flush_is_told_at_the_end(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells of a lost write once only: the last sync says it again."""

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashing_writer, "FLUSH_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(os, "fdatasync", broken)
    out = BlockWriter(fd, "md5")
    out.write(bytes(SIZE))
    out.flush()

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        out.sync()
    out.close()


def in_page_cache(fd: int, at: int) -> bool:
    """Tell whether a byte of a file can be had without the disk."""
    try:
        os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    return True


def keeps_its_cache(fd: int) -> bool:
    """Tell whether the file system here takes no such advice, as one in memory does not."""
    os.write(fd, bytes(BLOCK_BYTES))
    os.fsync(fd)
    try:
        os.posix_fadvise(fd, 0, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
        return in_page_cache(fd, 0)
    except OSError:
        return True
    finally:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)


def test_what_the_disk_has_leaves_the_page_cache(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file pushes nothing out that others read; its bytes are all there."""
    if keeps_its_cache(fd):
        pytest.skip("the file system of the tests takes no advice about its cache")
    monkeypatch.setattr(hashing_writer, "FLUSH_BYTES", BLOCK_BYTES)
    content = some_bytes(8 * BLOCK_BYTES)
    out = BlockWriter(fd, "md5")

    for piece in pieces(content, BLOCK_BYTES):
        out.write(piece)
        out._flusher.wait()
    out.flush()
    out.sync()
    out.close()

    assert not any(in_page_cache(fd, at) for at in range(0, 7 * BLOCK_BYTES, BLOCK_BYTES))
    assert held(fd) == content


def test_a_file_system_without_advice_does(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be dropped stays; nothing is wrong with the file."""

    def refused(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(hashing_writer, "FLUSH_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(os, "posix_fadvise", refused)
    content = some_bytes(SIZE)
    out = BlockWriter(fd, "md5")
    out.write(content)
    out.flush()
    out.sync()
    out.close()

    assert held(fd) == content


def test_an_error_of_a_flush_under_way_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux reports a failed write once: the last sync after it would succeed."""
    reported = threading.Event()

    def fail_late(_: int) -> None:
        reported.wait(10)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail_late)
    with (tmp_path / "file").open("wb") as stream:
        flusher = hashing_writer._Flusher(stream.fileno())
        flusher.written(hashing_writer.FLUSH_BYTES)
        threading.Timer(0.2, reported.set).start()

        with pytest.raises(OSError, match="Input/output error"):
            flusher.finish()
