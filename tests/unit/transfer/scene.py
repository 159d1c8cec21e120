"""Parts that the tests of this room share: a recorder of callbacks, first attempts, part files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from geodes_tasks.errors import GeodesTasksError, TruncatedBodyError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.leftovers import ADOPT_MIN_BYTES
from geodes_tasks.transfer.partfile import THREAD_MIN_BYTES, PartFile
from tests.conftest import KiB, MemoryTransport, asset_of, some_bytes

MiB = 1024 * 1024
BYTES = some_bytes(ADOPT_MIN_BYTES * 2)
CONTENT = some_bytes(200 * KiB)
ASSET = asset_of(CONTENT)
WRONG = some_bytes(200 * KiB, seed=1)
HALF = 100 * KiB


@dataclass
class Recorder(Callbacks):
    """Callbacks that record each call, and raise the errors that a test sets."""

    progress_error: Exception | None = None
    open_error: Exception | None = None
    confirm_error: Exception | None = None
    done: list[int] = field(default_factory=list)
    received: int = 0
    sources: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    confirmed: int = 0

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Record the bytes."""
        self.done.append(done_bytes)
        self.received += received_bytes
        if self.progress_error:
            raise self.progress_error

    def before_open(self, source: str) -> None:
        """Record the source."""
        self.sources.append(source)
        if self.open_error:
            raise self.open_error

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Record which source failed, and how."""
        self.refusals.append(f"{source}: {type(error).__name__}")

    def confirm(self) -> None:
        """Count the call."""
        self.confirmed += 1
        if self.confirm_error:
            raise self.confirm_error


def fetch(
    final: Path, transport: MemoryTransport, asset: Asset = ASSET, token: int = 1
) -> DownloadResult:
    """Download from one source as the attempt with this token."""
    return download(asset, final, {"geodes": transport}, token=str(token))


def broken(
    final: Path, bytes_come: int = HALF, asset: Asset = ASSET, content: bytes = CONTENT
) -> None:
    """Run a first attempt that breaks after some bytes."""
    transport = MemoryTransport(content, cuts=[bytes_come])
    with pytest.raises(TruncatedBodyError, match="bytes announced"):
        fetch(final, transport, asset)


def names(final: Path) -> list[str]:
    """Return the names in the download folder, part files included."""
    folder = final.parent
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def never_read(*_: object) -> Checksum:
    """Raise where a test expects that no file is read."""
    raise AssertionError("a file was read")


def part_of(final: Path, token: int = 1, content: str = "md5:x") -> PartFile:
    """Return the part file of an attempt."""
    return PartFile(final, content, str(token), "md5")


def left_by(
    token: int,
    final: Path,
    content: bytes = BYTES,
    etag: str | None = None,
    identity: str = "md5:x",
) -> Path:
    """Leave the part of an attempt that died."""
    with part_of(final, token, identity) as part:
        if etag:
            part.expect(THREAD_MIN_BYTES)
            part.note_etag(etag)
        part.write(content)
    return part.path


def ignore(done_bytes: int) -> None:
    """Ignore progress."""


def files(folder: Path) -> list[str]:
    """Return the names of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
