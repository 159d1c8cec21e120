"""Links planted in a shared folder: nothing elsewhere is read, written or removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import DiskError, GeodesTasksError, HostileNameError, NotAFileError
from geodes_tasks.model.asset import Unpack
from geodes_tasks.model.checksum import hash_file
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import manifest, members
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.leftovers import Leftovers, etag_path, read_etag
from geodes_tasks.transfer.partfile import THREAD_MIN_BYTES
from geodes_tasks.transfer.unpack import Unpacked, extract_file
from tests.conftest import MemoryTransport, asset_of, md5
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
from tests.unit.transfer.test_edges import FILES, PRODUCT, FolderTransport
from tests.unit.transfer.test_unpack import MEMBERS, zipped


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


ZIP = zipped(MEMBERS)
ARCHIVE = asset_of(ZIP, "S2A.zip", unpack=Unpack.DROP)


def plant(folder: Path, name: str, target: Path) -> None:
    """Put a link to a target in the place of a file or folder of an archive's folder."""
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", [".", "S2A.SAFE", "S2A.SAFE/GRANULE"])
@pytest.mark.parametrize("wanted", [(), ("*.jp2",)], ids=["whole", "members"])
def test_no_member_is_published_through_a_link(
    tmp_path: Path, outside: Path, name: str, wanted: tuple[str, ...]
) -> None:
    """A folder that lost files gets them back; a link in it, or in its place, leads to none."""
    folder = tmp_path / "downloads" / "S2A"
    asset = asset_of(ZIP, "S2A.zip", unpack=Unpack.DROP, members=wanted)
    download(asset, folder, {"geodes": MemoryTransport(ZIP)})
    plant(folder, name, outside)

    with pytest.raises(NotAFileError, match="S2A"):
        download(asset, folder, {"geodes": MemoryTransport(ZIP)}, token="2")

    assert not list(outside.iterdir())


def test_no_archive_grows_behind_a_link(tmp_path: Path, outside: Path) -> None:
    """The name of the growing folder can be computed: a link of that name is not followed."""
    folder = tmp_path / "downloads" / "S2A"
    growing = Leftovers(folder, ARCHIVE.content, 1)

    class Planted(Recorder):
        def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
            path = growing.folder / f"{growing.stem}.1.folder"
            if not path.exists():
                path.symlink_to(outside)

    download(ARCHIVE, folder, {"geodes": MemoryTransport(ZIP)}, token="1", callbacks=Planted())

    assert not list(outside.iterdir())
    assert (folder / "S2A.SAFE/GRANULE/B04.jp2").is_file()


def test_an_archive_folder_exchanged_during_the_transfer(tmp_path: Path, outside: Path) -> None:
    """A link in place of the growing folder gets no further member."""
    folder = tmp_path / "downloads" / "S2A"
    seen: list[Path] = []

    class Exchanged(Recorder):
        def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
            for path in folder.parent.glob(f"{PART_FOLDER}/*.folder"):
                if not path.is_symlink():
                    seen.append(path.rename(path.with_name("moved")))
                    path.symlink_to(outside)

    callbacks = Exchanged()
    with pytest.raises(DiskError, match="exchanged during the transfer"):
        download(ARCHIVE, folder, {"geodes": MemoryTransport(ZIP)}, token="1", callbacks=callbacks)

    assert seen
    assert not list(outside.iterdir())


def test_no_list_of_members_is_written_or_read_through_a_link(
    tmp_path: Path, outside: Path
) -> None:
    """Its name holds no token, so a link can be there long before."""
    folder, victim = tmp_path / "downloads" / "S2A", outside / "victim"
    victim.write_text("precious")
    unpacked = Unpacked(folder, ARCHIVE.content)
    plant(folder.parent, f"{PART_FOLDER}/{unpacked.list_path.name}.part", victim)
    plant(folder.parent, f"{PART_FOLDER}/{unpacked.list_path.name}", victim)

    download(ARCHIVE, folder, {"geodes": MemoryTransport(ZIP)})

    assert victim.read_text() == "precious"
    assert not unpacked.list_path.is_symlink()
    assert unpacked.proof(None, lambda: None)


def test_a_list_of_members_that_is_no_file_is_none(tmp_path: Path) -> None:
    """A FIFO, on which reading would wait for ever, and a list of gigabytes."""
    unpacked = Unpacked(tmp_path / "S2A", "md5:x")
    unpacked.list_path.parent.mkdir()
    os.mkfifo(unpacked.list_path)
    assert unpacked.members() is None

    unpacked.list_path.unlink()
    unpacked.list_path.touch()
    os.truncate(unpacked.list_path, 1 << 40)
    assert unpacked.members() is None


@pytest.mark.parametrize("name", ["", "a"])
def test_no_object_of_a_product_grows_behind_a_link(final: Path, outside: Path, name: str) -> None:
    """Neither the growing folder nor one in it may be a link, whenever it was planted."""
    growing = Leftovers(final, PRODUCT.content, 1)

    class Planted(Recorder):
        def before_open(self, source: str) -> None:
            super().before_open(source)
            plant(growing.folder, f"{growing.stem}.1.folder/{name}", outside)

    with pytest.raises(NotAFileError, match="there is a file of this name already"):
        download(PRODUCT, final, {"geodes": FolderTransport(FILES)}, token="1", callbacks=Planted())

    assert not list(outside.iterdir())


def test_no_member_is_extracted_through_a_link(tmp_path: Path, outside: Path) -> None:
    """``geodes-tasks`` and ``Item.extract`` write into the named folder only."""
    (tmp_path / "S2A.zip").write_bytes(ZIP)
    plant(tmp_path / "here", "S2A.SAFE", outside)

    with (
        members.local(tmp_path / "S2A.zip") as archive,
        pytest.raises(HostileNameError, match="link"),
    ):
        members.extract(archive, archive.namelist(), tmp_path / "here")

    assert not list(outside.iterdir())


def test_no_member_is_extracted_through_a_link_that_comes_later(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a member is exchanged for a link while the member is read."""
    (tmp_path / "S2A.zip").write_bytes(ZIP)
    here = tmp_path / "here"
    read = extract_file

    def read_and_plant(*args: Any) -> None:
        read(*args)
        if not (here / "S2A.SAFE").is_symlink():
            plant(here, "S2A.SAFE", outside)

    monkeypatch.setattr(members, "extract_file", read_and_plant)
    with members.local(tmp_path / "S2A.zip") as archive, pytest.raises(GeodesTasksError):
        members.extract(archive, archive.namelist(), here)

    assert not list(outside.iterdir())


@pytest.mark.parametrize("planted", ["link", "fifo", "huge"])
def test_a_manifest_that_was_exchanged_gives_no_checksum(
    tmp_path: Path, outside: Path, planted: str
) -> None:
    """A link to a file elsewhere, a FIFO that would be waited for, a file of terabytes."""
    path = tmp_path / "md5sum.txt"
    (outside / "sums").write_text(f"{'0' * 32}  secret.tif\n")
    if planted == "link":
        path.symlink_to(outside / "sums")
    elif planted == "fifo":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 1 << 40)

    found: object = {}
    with contextlib.suppress(FileNotFoundError):
        found = manifest.checksums_of(tmp_path, path.name, 50)

    assert found == {}


def test_a_fifo_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """It can take the place of the file between its stat and its reading."""
    os.mkfifo(tmp_path / "a.tif")

    assert hash_file(tmp_path / "a.tif", "md5") == md5(b"")
