"""Archives that become folders: whole and proven, or not at all; hostile ones leave nothing."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import (
    ArchiveError,
    DownloadCancelledError,
    GeodesTasksError,
    HostileNameError,
    NotAFileError,
    TooLargeError,
)
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import archive_directory, members
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer.audit import Expected, Finding, audit, audit_opened
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER
from tests.conftest import KiB, MemoryTransport, asset_of, some_bytes

MEMBERS = {
    "S2A.SAFE/manifest.safe": b"<xfdu/>",
    "S2A.SAFE/GRANULE/B04.jp2": some_bytes(300 * KiB),
    "S2A.SAFE/GRANULE/empty.txt": b"",
}


def zipped(contents: dict[Any, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of names, or of ZipInfos, with their contents."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target.getvalue()


def info(name: str, mode: int = 0, **fields: Any) -> zipfile.ZipInfo:
    """Return a member with a Unix mode."""
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of the folder that the archive becomes."""
    return tmp_path / "downloads" / "S2A"


def fetched(
    content: bytes, folder: Path, how: Unpack = Unpack.DROP, **options: Any
) -> tuple[Any, MemoryTransport]:
    """Download an archive that becomes a folder; return the result, and where it came from."""
    transport = MemoryTransport(content)
    asset = asset_of(content, "S2A.zip", unpack=how)
    return transfer.download(asset, folder, {"geodes": transport}, **options), transport


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def beside(folder: Path) -> list[str]:
    """Return what is beside a folder, part files included, but for the list of its files."""
    names = [path.name for path in folder.parent.iterdir() if path.name != PART_FOLDER]
    hidden = folder.parent / PART_FOLDER
    parts = [path.name for path in hidden.rglob("*")] if hidden.exists() else []
    return sorted(names + [name for name in parts if not name.endswith(".members")])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("how", [Unpack.DROP, Unpack.KEEP])
def test_an_archive_becomes_a_folder(folder: Path, how: Unpack, compression: int) -> None:
    """Every file is there; the archive is removed, or stays under its own name; no part is left."""
    content = zipped(MEMBERS, compression)

    result, _ = fetched(content, folder, how)

    assert files(folder) == MEMBERS
    assert beside(folder) == (["S2A", "S2A.zip"] if how is Unpack.KEEP else ["S2A"])
    assert (result.outcome, result.path) == (Outcome.DOWNLOADED, str(folder))
    assert result.verified
    assert result.size_bytes == len(content)


@pytest.mark.parametrize("folders", [(), ("S2A/", "S2A/deep/")])
def test_a_top_folder_of_the_same_name_is_not_doubled(
    folder: Path, folders: tuple[str, ...]
) -> None:
    """``S2A.zip`` of ``S2A/...`` becomes ``S2A/...``, not ``S2A/S2A/...``; empty folders stay."""
    fetched(zipped(dict.fromkeys(folders, b"") | {"S2A/a.tif": b"a", "S2A/b/c.tif": b"c"}), folder)

    assert files(folder) == {"a.tif": b"a", "b/c.tif": b"c"}
    assert (folder / "deep").is_dir() is bool(folders)


def test_a_folder_that_is_there_is_not_unpacked_again(folder: Path) -> None:
    """With its proof a stat is enough; without it the list of its files proves it, no request."""
    content = zipped(MEMBERS)
    first, _ = fetched(content, folder)

    known, silent = fetched(content, folder, proof=first.proof)
    unknown, mute = fetched(content, folder)

    assert known.outcome is unknown.outcome is Outcome.ALREADY_PRESENT
    assert known.proof == unknown.proof == first.proof
    assert known.size_bytes == unknown.size_bytes == len(content)
    assert silent.opened == mute.opened == []


@pytest.mark.parametrize("harm", ["changed", "missing", "truncated"])
def test_a_damaged_member_is_found_and_repaired(folder: Path, harm: str) -> None:
    """The audit names it; the next download brings it back, and leaves what a user added."""
    content = zipped(MEMBERS)
    fetched(content, folder)
    band, own = folder / "S2A.SAFE/GRANULE/B04.jp2", folder / "S2A.SAFE/GRANULE/B04.jp2.aux.xml"
    own.write_bytes(b"<gdal/>")
    asset = asset_of(content, "S2A.zip")
    expected = Expected(str(folder), asset.size_bytes, asset.checksum)
    assert audit(expected).finding is Finding.RIGHT
    if harm == "missing":
        band.unlink()
    else:
        band.write_bytes(b"x" * (300 * KiB if harm == "changed" else 10))

    found = audit(expected)
    again, transport = fetched(content, folder)

    assert found.finding is (Finding.MISSING if harm == "missing" else Finding.CHANGED)
    assert "B04.jp2" in found.detail
    assert len(transport.opened) == 1
    assert again.outcome is Outcome.DOWNLOADED
    assert files(folder) == MEMBERS | {"S2A.SAFE/GRANULE/B04.jp2.aux.xml": b"<gdal/>"}
    assert audit(expected).finding is Finding.RIGHT


def test_a_folder_without_its_list_cannot_be_proven(folder: Path) -> None:
    """Where the folder of part files was removed nothing proves the files: they are not wrong."""
    content = zipped(MEMBERS)
    fetched(content, folder)
    shutil.rmtree(folder.parent / PART_FOLDER)
    asset = asset_of(content, "S2A.zip")

    found = audit(Expected(str(folder), asset.size_bytes, asset.checksum))

    assert found.finding is Finding.UNPROVABLE


def test_an_archive_that_is_there_is_used_and_stays(folder: Path) -> None:
    """What was downloaded before without unpacking costs no request, and is not removed."""
    content = zipped(MEMBERS)
    folder.parent.mkdir()
    folder.with_name("S2A.zip").write_bytes(content)

    _, transport = fetched(content, folder)

    assert transport.opened == []
    assert files(folder) == MEMBERS
    assert beside(folder) == ["S2A", "S2A.zip"]


CASES: list[tuple[str, dict[Any, bytes], type[GeodesTasksError], str]] = [
    ("parent", {"a.tif": b"a", "../evil": b"x"}, HostileNameError, "another folder"),
    ("absolute", {"a.tif": b"a", "/etc/evil": b"x"}, HostileNameError, "absolute"),
    ("backslash", {"a.tif": b"a", "..\\evil": b"x"}, HostileNameError, "path separator"),
    ("link", {"a.tif": b"a", info("l", stat.S_IFLNK | 0o777): b"/etc"}, HostileNameError, "a link"),
    ("device", {info("d", stat.S_IFCHR | 0o666): b""}, HostileNameError, "special file"),
    ("own folder", {f"{PART_FOLDER}/x.part": b"x"}, HostileNameError, "folder of part files"),
    ("case", {"A.tif": b"a", "a.TIF": b"b"}, HostileNameError, "name of another"),
    ("composed", {"\u00e9.tif": b"a", "e\u0301.tif": b"b"}, HostileNameError, "name of another"),
    ("file as folder", {"a": b"a", "a/b": b"b"}, HostileNameError, "name of another"),
    ("folder as file", {"a/b": b"b", "A": b"a"}, HostileNameError, "name of another"),
    ("long", {"x" * 300: b"a"}, HostileNameError, "bytes"),
    ("escape", {"a\x1b[2J.tif": b"a"}, HostileNameError, "control characters"),
    ("nothing", {"only/": b""}, ArchiveError, "has no files"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("hostile", "kind", "words"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_a_hostile_archive_leaves_nothing(
    folder: Path, hostile: dict[Any, bytes], kind: type[GeodesTasksError], words: str
) -> None:
    """A member that would leave the folder, or is no file, ends the item: nothing is written."""
    with pytest.raises(kind, match=words):
        fetched(zipped(hostile), folder)

    assert list(folder.parent.iterdir()) == []
    assert not (folder.parent.parent / "evil").exists()


def test_a_bomb_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members far larger than the archive, or more of them than any product has."""
    monkeypatch.setattr(archive_directory, "FREE_RATIO_BYTES", 1000)
    with pytest.raises(ArchiveError, match="it is a bomb"):
        fetched(zipped({"zeros": bytes(3_000_000)}), folder)
    monkeypatch.setattr(archive_directory, "MAX_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="more than 2 members"):
        fetched(zipped(MEMBERS), folder)

    assert beside(folder) == []


def test_a_directory_that_would_fill_the_memory_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is known before it is read, and its members are counted before they are objects."""
    monkeypatch.setattr(archive_directory, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(ArchiveError, match="more than 100 bytes"):
        fetched(zipped(MEMBERS), folder)

    assert beside(folder) == []


def test_a_path_of_thousands_of_folders_costs_little(folder: Path) -> None:
    """Each path can name 99 folders: a few longer ones would name all the memory has room for."""
    names = [f"{number}/" + "d/" * 98 + "f" for number in range(20)]
    content = zipped(dict.fromkeys([*names, "d/" * 32_000 + "f"], b""))
    tracemalloc.start()
    with pytest.raises(HostileNameError, match="the most is 4095"):
        fetched(content, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 40_000 * KiB
    assert beside(folder) == []


def test_a_member_in_too_many_folders_is_refused(folder: Path) -> None:
    """Python cannot remove or list folders nested a thousand deep: none appears on the disk."""
    with pytest.raises(HostileNameError, match="1501 parts, the most is 100") as caught:
        fetched(zipped({"a": b"1", "d/" * 1500 + "f": b"1"}), folder)

    assert len(str(caught.value)) < 400
    assert beside(folder) == []


def test_more_folders_than_any_product_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few members can name many folders."""
    monkeypatch.setattr(archive_directory, "MAX_MEMBERS", 10)

    with pytest.raises(ArchiveError, match="more than 10 folders"):
        fetched(zipped({"a/" * 30 + "f": b"", "b": b""}), folder)

    assert beside(folder) == []


def test_an_offset_before_the_start_is_damage(folder: Path, tmp_path: Path) -> None:
    """A directory that would begin before the archive: an error of the item, not of the disk."""
    content = zipped(MEMBERS)
    content = content[:-6] + (0xFFFF_FFF0).to_bytes(4, "little") + content[-2:]
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(ArchiveError, match="sound zip"):
        fetched(content, folder)
    with (
        pytest.raises(ArchiveError, match=r"sound zip archive: .S2A"),
        members.local(tmp_path / "a.zip") as archive,
    ):
        members.extract(archive, archive.namelist(), tmp_path / "here")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_could_fill_the_memory_is_not_decompressed(
    folder: Path, tmp_path: Path, method: int
) -> None:
    """Python decompresses bzip2 and LZMA at once: a kilobyte of them takes gigabytes of memory."""
    content = zipped({"a": b"a" * 100}, method)
    whole = tmp_path / "a.zip"
    whole.write_bytes(content)

    with pytest.raises(ArchiveError, match=f"'a' is compressed by method {method}, which is not"):
        fetched(content, folder)
    with members.local(whole) as opened, pytest.raises(ArchiveError, match="by method"):
        members.extract(opened, ["a"], tmp_path / "out")

    assert beside(folder) == []
    assert audit_opened(Expected(str(whole))).finding is Finding.UNPROVABLE


def test_an_offset_that_no_file_has_is_damage(folder: Path) -> None:
    """A field of zip64 has 64 bits, one more than a position in a file."""
    with zipfile.ZipFile(target := io.BytesIO(), "w") as archive:
        archive.writestr("a", b"a" * 100)
        archive.filelist[0].header_offset = (1 << 64) - 1

    with pytest.raises(ArchiveError, match="beyond the end of any file"):
        fetched(target.getvalue(), folder)

    assert beside(folder) == []


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xed\xa0\x80"])
def test_a_name_that_is_no_text_is_damage(folder: Path, name: bytes) -> None:
    """The flag says UTF-8, and the bytes are none."""
    content = zipped({"\u00e9" * (len(name) // 2) + "a" * (len(name) % 2): b"x"})
    right = ("\u00e9" * (len(name) // 2) + "a" * (len(name) % 2)).encode()

    with pytest.raises(ArchiveError, match="is no sound zip archive: 'utf-8' codec"):
        fetched(content.replace(right, name), folder)

    assert beside(folder) == []


def test_members_larger_than_the_volume_are_refused(folder: Path) -> None:
    """A directory that claims exabytes is refused before a byte is written."""
    content = bytearray(zipped({"a": b"a" * 100}, zipfile.ZIP_STORED))
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = (100).to_bytes(4, "little") + (0xFFFF_FFF0).to_bytes(4, "little")

    with pytest.raises((ArchiveError, TooLargeError)):
        fetched(bytes(content), folder)

    assert beside(folder) == []


def test_an_encrypted_member_is_refused(folder: Path) -> None:
    """With the reason: no password is known here."""
    content = bytearray(zipped({"a": b"a" * 100}, zipfile.ZIP_STORED))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1

    with pytest.raises(ArchiveError, match="'a' is encrypted"):
        fetched(bytes(content), folder)

    assert beside(folder) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_archive_leaves_nothing(folder: Path, seed: int) -> None:
    """The catalogue's checksum agrees and the archive is broken all the same: one clear error."""
    chance, content = random.Random(seed), bytearray(zipped(MEMBERS))
    for _ in range(3):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)

    try:
        fetched(bytes(content), folder)
    except (ArchiveError, HostileNameError):
        assert beside(folder) == []
    else:
        # What was hit is a time or an attribute: the bytes agree with their CRCs.
        assert sorted(map(len, files(folder).values())) == sorted(map(len, MEMBERS.values()))


def test_a_cut_archive_is_refused(folder: Path) -> None:
    """A product that was restored short has its own MD5 and no directory at its end."""
    with pytest.raises(ArchiveError, match="no sound zip archive"):
        fetched(zipped(MEMBERS)[:-30], folder)

    assert beside(folder) == []


def test_a_file_has_the_name_of_the_folder(folder: Path) -> None:
    """A user's own file is neither replaced nor a reason to fetch an archive."""
    folder.parent.mkdir()
    folder.write_bytes(b"mine")
    transport = MemoryTransport(content := zipped(MEMBERS))
    asset = asset_of(content, "S2A.zip", unpack=Unpack.DROP)

    with pytest.raises(NotAFileError, match="there is a file of this name already"):
        transfer.download(asset, folder, {"geodes": transport})

    assert folder.read_bytes() == b"mine"
    assert transport.opened == []


class Stopped(Callbacks):
    """Callbacks of a download that is stopped while it unpacks."""

    def __init__(self, size: int) -> None:
        """Stop at the second piece after ``size`` bytes have come."""
        self._size, self._left = size, 2

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Stop."""
        if done_bytes == self._size and not received_bytes:
            self._left -= 1
            if not self._left:
                raise DownloadCancelledError(str(self._size))


def test_a_stop_while_unpacking_keeps_the_archive_for_the_next_attempt(folder: Path) -> None:
    """No half folder is there; the verified archive is not fetched again."""
    content = zipped({f"{n}.tif": os.urandom(2000) for n in range(9)})
    with pytest.raises(DownloadCancelledError):
        fetched(content, folder, callbacks=Stopped(len(content)), token="1")
    assert not folder.exists()

    _, transport = fetched(content, folder, token="2")

    assert transport.opened == []
    assert len(files(folder)) == 9
    assert beside(folder) == ["S2A"]


def test_a_cancelled_download_leaves_nothing(folder: Path) -> None:
    """Discarding removes the archive that waits to be unpacked."""
    content = zipped({f"{n}.tif": os.urandom(2000) for n in range(9)})
    with pytest.raises(DownloadCancelledError):
        fetched(content, folder, callbacks=Stopped(len(content)), token="1")

    transfer.discard(asset_of(content, "S2A.zip", unpack=Unpack.DROP), folder, "1")

    assert beside(folder) == []


def test_the_wish_to_unpack_survives_the_ledger() -> None:
    """The record of an asset keeps it; records without it are those of plain files."""
    asset = asset_of(b"x", unpack=Unpack.KEEP)
    plain = asset_of(b"x").to_dict()

    assert Asset.from_dict(asset.to_dict()) == asset
    assert "unpack" not in plain
    assert Asset.from_dict(plain).unpack is Unpack.NO


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\x1b[2J.tif", "control characters"),
        ("AUX.tif", "a device on Windows"),
        ("trail. ", "ends in a space or a dot"),
        (f"{PART_FOLDER}/q.part", "folder of part files"),
        ("x" * 300, "bytes, the most is 255"),
    ],
)
def test_single_members_have_the_names_of_files(tmp_path: Path, name: str, words: str) -> None:
    """A member that is fetched alone goes through the rules for names as a file of its own."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({name: b"x"}))

    with members.local(archive) as opened, pytest.raises(HostileNameError, match=words):
        members.extract(opened, [name], tmp_path / "out")

    assert files(tmp_path / "out") == {}


def test_a_single_encrypted_member_is_an_archive_error(tmp_path: Path) -> None:
    """Where zipfile raises a RuntimeError, the error has a name and a reason."""
    content = bytearray(zipped({"a": b"a" * 100}, zipfile.ZIP_STORED))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)

    with pytest.raises(ArchiveError, match="is encrypted"), members.local(archive) as opened:
        members.extract(opened, ["a"], tmp_path / "out")
