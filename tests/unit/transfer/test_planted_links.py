"""Links planted in a shared folder: nothing elsewhere is read, written or removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from geodes_tasks.errors import DiskError, NotAFileError
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.leftovers import Leftovers, etag_path, read_etag
from geodes_tasks.transfer.partfile import THREAD_MIN_BYTES
from tests.conftest import MemoryTransport
from tests.unit.transfer.scene import (
    ASSET,
    CONTENT,
    Recorder,
    broken,
    fetch,
    left_by,
    names,
    part_of,
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder to which nothing may be written."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("replace", [True, False])
def test_the_folder_of_part_files_is_no_link(final: Path, outside: Path, replace: bool) -> None:
    """A link in its place is refused by name; files there are not swept up either."""
    with part_of(outside / final.name) as part:
        part.write(b"x")
    kept = part.path.rename(outside / part.path.name)
    final.parent.mkdir()
    (final.parent / PART_FOLDER).symlink_to(outside)

    with pytest.raises(NotAFileError, match=PART_FOLDER):
        download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, token="9", replace=replace)

    assert kept.read_bytes() == b"x"
    assert not [path for path in outside.iterdir() if path.name not in {kept.name, PART_FOLDER}]


def test_no_validator_is_written_through_a_link(final: Path, outside: Path) -> None:
    """The names of part files can be seen, so their neighbours can be taken first."""
    victim = outside / "victim"
    victim.write_text("precious")
    with part_of(final) as part:
        part.expect(THREAD_MIN_BYTES)
        etag_path(part.path).symlink_to(victim)
        part.note_etag('"injected"')
        part.write(b"x")

    assert victim.read_text() == "precious"
    assert read_etag(part.path) == '"injected"'


def test_no_validator_is_read_through_a_link(final: Path, outside: Path) -> None:
    """The first line of a secret would go to the server, in If-Range."""
    (outside / "secret").write_text("hush")
    old = left_by(1, final, etag='"a"')
    etag_path(old).unlink()
    etag_path(old).symlink_to(outside / "secret")

    assert read_etag(old) is None


def test_no_bytes_are_adopted_through_a_link(final: Path, outside: Path) -> None:
    """A link in place of a leftover: the file comes whole from the server, the target stays."""
    broken(final)
    (part,) = (final.parent / PART_FOLDER).glob("*.part")
    secret = part.rename(outside / "secret")
    part.symlink_to(secret)
    before = secret.read_bytes()

    result = fetch(final, MemoryTransport(CONTENT), token=2)

    assert (result.outcome, result.bytes_transferred) == (Outcome.DOWNLOADED, len(CONTENT))
    assert secret.read_bytes() == before
    assert names(final) == [final.name]


def test_no_product_grows_behind_a_link(final: Path, outside: Path) -> None:
    """A link that is named like the folder of an earlier attempt is not adopted."""
    leftovers = Leftovers(final, "md5:x", 2)
    leftovers.folder.mkdir(parents=True)
    (leftovers.folder / f"{leftovers.stem}.1.folder").symlink_to(outside)

    assert leftovers.folders() == []


def link_beside(final: Path, outside: Path) -> None:
    """Exchange the folder for a link to another one that looks the same."""
    moved = final.parent.rename(final.parent.with_name("moved"))
    shutil.copytree(moved / PART_FOLDER, outside / PART_FOLDER)
    final.parent.symlink_to(outside)


def other_folder(final: Path, outside: Path) -> None:
    """Exchange the folder for a new one."""
    final.parent.rename(outside / "moved")
    final.parent.mkdir()


@pytest.mark.parametrize("exchange", [link_beside, other_folder])
@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_exchanged_during_the_transfer(
    final: Path, outside: Path, exchange: Callable[[Path, Path], None], replace: bool
) -> None:
    """Nothing is published, neither behind the link nor in the folder that was moved away."""

    class Exchanged(Recorder):
        def confirm(self) -> None:
            exchange(final, outside)

    transports = {"geodes": MemoryTransport(CONTENT)}
    with pytest.raises(DiskError, match="exchanged during the transfer"):
        download(ASSET, final, transports, token="1", callbacks=Exchanged(), replace=replace)

    assert not list(outside.parent.rglob(final.name))
