"""Sets of members: only their bytes are fetched, each is proven, and they appear one by one."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import (
    ArchiveError,
    HostileNameError,
    LeaseLostError,
    NoMemberError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.model.asset import Asset, Unpack, download_id
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import members
from geodes_tasks.transfer.audit import Expected, Finding, audit
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.remote_archive import RemoteArchive, facts_of
from geodes_tasks.transports import Source
from tests.conftest import KiB, MemoryTransport, asset_of, some_bytes

BANDS = ("*_B04_10m.jp2", "*_B08_10m.jp2")
IMAGE = "S2A.SAFE/GRANULE/L2A/IMG_DATA/R10m/T31TCJ_20250401"
CONTENTS = {
    "S2A.SAFE/manifest.safe": b"<xfdu/>" * 100,
    f"{IMAGE}_B02_10m.jp2": some_bytes(300 * KiB, seed=2),
    f"{IMAGE}_B04_10m.jp2": some_bytes(200 * KiB, seed=4),
    f"{IMAGE}_B08_10m.jp2": b"eight" * 40 * KiB,
    f"{IMAGE}_B11_20m.jp2": some_bytes(300 * KiB, seed=11),
}
WANTED = {name: content for name, content in CONTENTS.items() if "_B04" in name or "_B08" in name}


def zipped(
    contents: dict[str, bytes] = CONTENTS,
    compression: int = zipfile.ZIP_DEFLATED,
    kind: str = "plain",
) -> bytes:
    """Return an archive: streamed (data descriptors) or with the fields of zip64."""
    target: Any = _Pipe() if kind == "streamed" else io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in contents.items():
            with archive.open(name, "w", force_zip64=kind == "zip64") as member:
                member.write(content)
    result: bytes = target.getvalue()
    return result


class _Pipe:
    """A target that cannot seek, so that sizes come behind the data."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self.write, self.flush, self.getvalue = (
            self._buffer.write, self._buffer.flush, self._buffer.getvalue,
        )  # fmt: skip


class Counted(Callbacks):
    """Callbacks that count requests, and end the attempt before a publication."""

    def __init__(self, lost_at: int = 0) -> None:
        self.requests: list[str] = []
        self.failed: dict[str, Exception] = {}
        self.confirmed, self._lost_at = 0, lost_at

    def before_open(self, source: str) -> None:
        """Count a request."""
        self.requests.append(source)

    def source_failed(self, source: str, error: Exception) -> None:
        """Keep the error."""
        self.failed[source] = error

    def confirm(self) -> None:
        """Raise at the given publication, the first is 1."""
        self.confirmed += 1
        if self.confirmed == self._lost_at:
            raise LeaseLostError("killed")


class Kept:
    """Directories of one archive."""

    content = b""

    def find(self, asset: Asset) -> bytes:
        """Return what was kept."""
        return self.content

    def keep(self, asset: Asset, content: bytes) -> None:
        """Keep it."""
        self.content = content


def set_of(content: bytes, *patterns: str, **fields: Any) -> Asset:
    """Return the asset of a set of members, on S3 and on the portal."""
    values: dict[str, Any] = {
        "hrefs": {"s3": "s3://b/S2A.zip", "geodes": "https://p/S2A.zip"},
        "unpack": Unpack.DROP,
        "members": tuple(sorted(patterns or BANDS)),
    }
    return asset_of(content, "S2A.zip", **values | fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the set."""
    return tmp_path / "downloads" / "S2A"


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", ["plain", "streamed", "zip64"])
def test_only_the_members_are_fetched(folder: Path, compression: int, kind: str) -> None:
    """Two requests: the directory, and one range for two neighbours; the record names each file."""
    content = zipped(compression=compression, kind=kind)
    s3, callbacks = MemoryTransport(content), Counted()

    result = transfer.download(set_of(content), folder, {"s3": s3}, callbacks=callbacks)

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        packed = sum(archive.getinfo(name).compress_size for name in WANTED)
    assert files(folder) == WANTED
    assert callbacks.requests == ["s3"] * 2
    assert result.bytes_transferred == s3.sent_bytes <= 1.05 * packed + 32 * KiB
    assert (result.outcome, result.verified, result.source) == (Outcome.DOWNLOADED, "crc32", "s3")
    assert {one.path: (one.size_bytes, one.crc32) for one in result.members} == {
        name: (len(data), f"{zlib.crc32(data):08x}") for name, data in WANTED.items()
    }
    assert result.size_bytes == sum(map(len, WANTED.values()))


def test_the_first_member_comes_by_a_range(folder: Path) -> None:
    """Its header is at byte 0 of the archive."""
    content = zipped()
    s3 = {"s3": MemoryTransport(content)}

    result = transfer.download(set_of(content, "manifest.safe"), folder, s3)

    assert files(folder) == {SAFE: CONTENTS[SAFE]}
    assert result.bytes_transferred < 40 * KiB


def test_a_set_that_is_there_is_not_fetched_again(folder: Path) -> None:
    """With its proof a stat of each file is enough; without it their CRC-32s are computed."""
    content = zipped()
    asset, s3 = set_of(content), MemoryTransport(content)
    first = transfer.download(asset, folder, {"s3": s3})
    requests = len(s3.opened)

    known = transfer.download(asset, folder, {"s3": s3}, proof=first.proof)
    unknown = transfer.download(asset, folder, {"s3": s3})

    assert known.outcome is unknown.outcome is Outcome.ALREADY_PRESENT
    assert known.members == unknown.members == first.members
    assert len(s3.opened) == requests


def test_an_archive_that_is_there_whole_gives_its_members(folder: Path) -> None:
    """No source is asked for them, and the archive stays."""
    content = zipped()
    folder.parent.mkdir()
    folder.with_name("S2A.zip").write_bytes(content)
    s3 = MemoryTransport(content)

    transfer.download(set_of(content), folder, {"s3": s3})

    assert s3.opened == []
    assert (files(folder), folder.with_name("S2A.zip").read_bytes()) == (WANTED, content)


def test_two_sets_of_one_archive_share_a_folder(folder: Path) -> None:
    """They are two downloads, whatever the order of their patterns; neither disturbs the other."""
    content = zipped()
    red, both = set_of(content, "*_B04_*"), set_of(content, *reversed(BANDS))
    s3 = MemoryTransport(content)

    transfer.download(red, folder, {"s3": s3})
    second = transfer.download(both, folder, {"s3": s3})

    assert files(folder) == WANTED
    assert second.outcome is Outcome.RESUMED
    assert len({download_id(str(folder), one) for one in (red, both, set_of(content))}) == 2


@pytest.mark.parametrize("kind", ["plain", "zip64"])
def test_a_directory_that_is_kept_is_not_requested(folder: Path, kind: str) -> None:
    """The second set of an archive costs the range of its members alone."""
    content = zipped(kind=kind)
    s3, callbacks, kept = MemoryTransport(content), Counted(), Kept()
    options: Any = {"callbacks": callbacks}
    callbacks.directories = kept
    transfer.download(set_of(content, BANDS[0]), folder, {"s3": s3}, **options)
    before = s3.sent_bytes

    transfer.download(set_of(content, BANDS[1]), folder, {"s3": s3}, **options)

    assert files(folder) == WANTED
    assert callbacks.requests == ["s3"] * 3
    assert s3.sent_bytes - before < 2 * KiB
    assert len(kept.content) < 1 * KiB


@pytest.mark.parametrize("harm", ["damaged", "of another archive", "longer than the archive"])
def test_a_wrong_directory_that_is_kept_is_requested_anew(folder: Path, harm: str) -> None:
    """The members prove it wrong; then the archive's own directory is read, and kept."""
    content, callbacks, kept = zipped(), Counted(), Kept()
    options: Any = {"callbacks": callbacks}
    callbacks.directories = kept
    s3 = MemoryTransport(content)
    transfer.download(set_of(content, BANDS[1]), folder, {"s3": s3}, **options)
    right = kept.content
    other = zipped(dict.fromkeys(CONTENTS, b"other"))
    start = other.index(b"PK\x01\x02")
    kept.content = {
        "damaged": right[:-9] + b"?" * 9,
        "of another archive": other[start:],
        "longer than the archive": right * 2000,
    }[harm]

    transfer.download(set_of(content, BANDS[0]), folder, {"s3": s3}, **options)

    assert files(folder) == WANTED
    assert kept.content == right
    assert callbacks.failed == {}


def test_a_directory_with_a_comment_is_not_kept(folder: Path) -> None:
    """A comment of 64 KiB, and bytes in front of the archive, change nothing of the members."""
    target = io.BytesIO(b"#!/bin/sh\n" * 20 + zipped())
    with zipfile.ZipFile(target, "a") as archive:
        archive.comment = b"c" * 65_535
    content, kept, callbacks = target.getvalue(), Kept(), Counted()
    callbacks.directories = kept

    transfer.download(
        set_of(content), folder, {"s3": MemoryTransport(content)}, callbacks=callbacks
    )

    assert files(folder) == WANTED
    assert kept.content == b""


def test_a_killed_set_continues(folder: Path) -> None:
    """Members that were published stay, and only the others are fetched."""
    content = zipped()
    asset, s3 = set_of(content), MemoryTransport(content)
    with pytest.raises(LeaseLostError):
        transfer.download(asset, folder, {"s3": s3}, callbacks=Counted(lost_at=2))
    assert list(files(folder)) == [f"{IMAGE}_B04_10m.jp2"]
    before = s3.sent_bytes

    result = transfer.download(asset, folder, {"s3": s3})

    assert files(folder) == WANTED
    assert result.outcome is Outcome.RESUMED
    assert s3.sent_bytes - before < 100 * KiB


def test_a_damaged_member_is_found_and_fetched_alone(folder: Path) -> None:
    """The audit of a record, or of a report, names it."""
    content = zipped()
    asset, s3 = set_of(content), MemoryTransport(content)
    result = transfer.download(asset, folder, {"s3": s3})
    expected = Expected(str(folder), result.size_bytes, asset.checksum, "", result.members)
    assert audit(expected).finding is Finding.RIGHT
    (folder / f"{IMAGE}_B08_10m.jp2").write_bytes(b"\0" * (200 * KiB))

    found, before = audit(expected), s3.sent_bytes
    transfer.download(asset, folder, {"s3": s3})

    assert (found.finding, "_B08_" in found.detail) == (Finding.CHANGED, True)
    assert files(folder) == WANTED
    assert s3.sent_bytes - before < 100 * KiB


def test_the_portal_gives_the_whole_archive_for_one_unit(folder: Path) -> None:
    """Without --portal-ranges one request, proven by MD5; the archive is dropped, or kept."""
    content = zipped()
    callbacks = Counted()
    portal = {"geodes": MemoryTransport(content)}

    result = transfer.download(set_of(content), folder, portal, callbacks=callbacks)
    kept = set_of(content, unpack=Unpack.KEEP)
    transfer.download(kept, folder.with_name("K"), portal)

    assert files(folder) == WANTED
    assert callbacks.requests == ["geodes"]
    assert result.bytes_transferred == len(content)
    assert (result.verified, len(result.members)) == ("crc32", 2)
    assert not folder.with_name("S2A.zip").exists()
    assert folder.with_name("K.zip").read_bytes() == content


@pytest.mark.parametrize("has_ranges", [True, False])
def test_portal_ranges(folder: Path, has_ranges: bool) -> None:
    """Ranges are used where the portal proves them, else one request fetches the whole archive."""
    content, callbacks = zipped(), Counted()
    portal = {"geodes": MemoryTransport(content, resumes=has_ranges)}

    result = transfer.download(
        set_of(content, portal_ranges=True), folder, portal, callbacks=callbacks
    )

    assert files(folder) == WANTED
    assert (result.bytes_transferred < len(content)) is has_ranges
    # A range that is known to fail would cost a unit of quota.
    assert has_ranges or (len(portal["geodes"].opened), callbacks.requests) == (1, ["geodes"])


def test_s3_without_ranges_or_out_of_reach_is_not_the_end(folder: Path) -> None:
    """The portal gives the archive."""
    content = zipped()
    sources = {"s3": MemoryTransport(content, resumes=False), "geodes": MemoryTransport(content)}

    transfer.download(set_of(content), folder, sources)

    assert files(folder) == WANTED


@pytest.mark.parametrize("pattern", ["*_B05_*", "IMG_DATA", "*/"])
def test_a_pattern_without_a_match(folder: Path, pattern: str) -> None:
    """The error names what is there; nothing is written."""
    content = zipped()

    with pytest.raises(NoMemberError, match=r"manifest\.safe"):
        transfer.download(set_of(content, pattern), folder, {"s3": MemoryTransport(content)})

    assert not folder.exists()


def test_a_member_damaged_at_one_source_comes_from_the_other(folder: Path) -> None:
    """Its CRC-32 is wrong on S3; the whole archive of the portal has the right MD5."""
    content = zipped(compression=zipfile.ZIP_STORED)
    at = content.index(CONTENTS[f"{IMAGE}_B04_10m.jp2"])
    damaged = content[: at + 9] + b"\xff\xff" + content[at + 11 :]
    callbacks = Counted()
    sources = {"s3": MemoryTransport(damaged), "geodes": MemoryTransport(content)}

    transfer.download(set_of(content), folder, sources, callbacks=callbacks)

    assert files(folder) == WANTED
    assert "CRC" in str(callbacks.failed["s3"])


def test_an_archive_that_changes_meanwhile_is_retried(folder: Path) -> None:
    """The validator of the first range holds for all: no member of two versions is made."""
    content = zipped()

    class Changing(Counted):
        def before_open(self, source: str) -> None:
            super().before_open(source)
            if len(self.requests) == 2:
                s3.etag = '"v2"'

    s3 = MemoryTransport(content)

    with pytest.raises(TransferError, match="changed while"):
        transfer.download(set_of(content), folder, {"s3": s3}, callbacks=Changing())

    assert not folder.exists()
    transfer.download(set_of(content), folder, {"s3": s3})
    assert files(folder) == WANTED


def test_a_cut_range_is_an_error_of_the_transfer(folder: Path) -> None:
    """What was complete before the cut stays."""
    content = zipped(compression=zipfile.ZIP_STORED)
    s3 = MemoryTransport(content, cuts=[32 * KiB, 300 * KiB])

    with pytest.raises(TruncatedBodyError):
        transfer.download(set_of(content), folder, {"s3": s3})

    assert list(files(folder)) == [f"{IMAGE}_B04_10m.jp2"]


def test_an_archive_that_lies(folder: Path) -> None:
    """A directory with a wrong size, a wrong place, a hostile name or a password is refused."""
    honest = zipped(compression=zipfile.ZIP_STORED)
    name = f"{IMAGE}_B04_10m.jp2".encode()
    entry = honest.rindex(name) - 46

    def lying(at: int, value: int, size: int) -> bytes:
        field = slice(entry + at, entry + at + size)
        changed = bytearray(honest)
        changed[field] = value.to_bytes(size, "little")
        return bytes(changed)

    # Offsets of APPNOTE.TXT 4.3.12: flags 8, sizes 20 and 24, first byte 42.
    archives = {
        "encrypted": lying(8, 1, 2),
        "sound zip": lying(42, 7, 4),
        "directory says": lying(24, 201 * KiB, 4),
        "a bomb": lying(20, 900 * KiB, 4),
    }
    for words, content in archives.items():
        with pytest.raises(ArchiveError, match=words):
            transfer.download(set_of(content), folder, {"s3": MemoryTransport(content)})
    hostile = zipped({"../x_B04_10m.jp2": b"x"})
    with pytest.raises(HostileNameError):
        transfer.download(set_of(hostile, BANDS[0]), folder, {"s3": MemoryTransport(hostile)})

    assert files(folder.parent) == {}


def test_what_cannot_be_decompressed_is_refused_with_its_reason(folder: Path) -> None:
    """Deflate64 and encrypted members end the item; others of the same archive can be had."""
    content = bytearray(zipped())
    entry = content.rindex(f"{IMAGE}_B04_10m.jp2".encode()) - 46
    content[entry + 10] = 9  # the method: APPNOTE.TXT 4.3.12
    s3 = MemoryTransport(bytes(content))

    with pytest.raises(ArchiveError, match=r"B04_10m.jp2' is compressed by method 9"):
        transfer.download(set_of(bytes(content)), folder, {"s3": s3})
    transfer.download(set_of(bytes(content), BANDS[1]), folder, {"s3": s3})

    assert list(files(folder)) == [f"{IMAGE}_B08_10m.jp2"]
    assert s3.sent_bytes < 100 * KiB


def test_an_archive_that_is_split_cut_or_empty(folder: Path) -> None:
    """The last part of a split archive, half an archive, and one of nothing: one error each."""
    whole = zipped(compression=zipfile.ZIP_STORED)
    half = whole[len(whole) // 2 :]
    split = bytearray(whole)
    split[whole.rindex(f"{IMAGE}_B04_10m.jp2".encode()) - 46 + 34] = 1  # APPNOTE.TXT 4.3.12
    empty = b"PK\x05\x06" + bytes(18)

    with pytest.raises(ArchiveError, match="one part of a split archive"):
        transfer.download(set_of(bytes(split)), folder, {"s3": MemoryTransport(bytes(split))})
    with pytest.raises(ArchiveError, match="it was cut, or is a bomb"):
        transfer.download(set_of(half), folder, {"s3": MemoryTransport(half)})
    with pytest.raises(NoMemberError, match="it has no files"):
        transfer.download(set_of(empty), folder, {"s3": MemoryTransport(empty)})

    assert files(folder.parent) == {}


def test_names_in_the_code_of_dos_and_in_unicode(folder: Path) -> None:
    """Without the flag of APPNOTE.TXT appendix D a name is in CP437."""
    content = zipped({"caf\u00e9_B04_10m.jp2": b"unicode", "caf!_B08_10m.jp2": b"dos"})
    content = content.replace(b"caf!_B08", b"caf\x82_B08")

    transfer.download(set_of(content), folder, {"s3": MemoryTransport(content)})

    assert files(folder) == {"caf\u00e9_B04_10m.jp2": b"unicode", "caf\u00e9_B08_10m.jp2": b"dos"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a_B04_10m.jp2", "A_b04_10M.JP2"])
def test_two_members_of_one_name(folder: Path, second: str) -> None:
    """They would be one file, here or on a file system that folds case: neither is written."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a_B04_10m.jp2", b"one")
        archive.writestr(second, b"two")
    content = target.getvalue()

    with pytest.raises(HostileNameError, match="name of another member"):
        transfer.download(set_of(content, "*"), folder, {"s3": MemoryTransport(content)})

    assert files(folder.parent) == {}


B04, SAFE = f"{IMAGE}_B04_10m.jp2", "S2A.SAFE/manifest.safe"
GLOBS: list[tuple[str, list[str]]] = [
    ("**/*_B04_10m.jp2", [B04]),
    ("**/S2A.SAFE/manifest.safe", [SAFE]),
    ("S2A.SAFE/**/*_B04_10m.jp2", [B04]),
    ("/S2A.SAFE/*.safe", [SAFE]),
    ("*_B0[!28]_10m.jp2", [B04]),
    ("T31TCJ_20250401_B?4_10m.jp2", [B04]),
    ("manifest.safe", [SAFE]),
    (B04, [B04]),
    ("*_b04_10m.jp2", []),
    ("/manifest.safe", [SAFE]),
    ("IMG_DATA/*", []),
    ("S2A.SAFE", []),
    ("?manifest.safe", []),
]


@pytest.mark.parametrize(("pattern", "expected"), GLOBS, ids=[glob for glob, _ in GLOBS])
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    """They match the whole path or the whole name, with its case; a folder matches nothing."""
    content = zipped()
    asset, s3 = set_of(content, pattern), {"s3": MemoryTransport(content)}

    if expected:
        transfer.download(asset, folder, s3)
    else:
        with pytest.raises(NoMemberError):
            transfer.download(asset, folder, s3)

    assert list(files(folder)) == expected


def test_what_a_set_would_cost(folder: Path) -> None:
    """Of an archive in which no pattern has a match nothing is fetched, and each is named."""
    content = zipped()
    source = Source("s3", MemoryTransport(content), "s3://b/S2A.zip")

    some = facts_of(set_of(content, *BANDS, "*.tif"), "S2A", source, Callbacks())
    none = facts_of(set_of(content, "*.tif"), "S2A", source, Callbacks())

    assert (some.ranges, set(some.unmatched)) == (1, {"*.tif"})
    assert 0 < some.fetched_bytes < len(content) == some.archive_bytes
    assert (none.ranges, none.fetched_bytes, set(none.unmatched)) == (0, 0, {"*.tif"})


@pytest.mark.parametrize("end", [0, 1])
def test_bytes_outside_the_members_are_not_fetched(folder: Path, end: int) -> None:
    """A member that is not where the directory says is damage, not a request for other bytes."""
    content = zipped()
    s3 = MemoryTransport(content)

    with (
        RemoteArchive(set_of(content), Source("s3", s3, "s3://b/S2A.zip"), Callbacks()) as remote,
        zipfile.ZipFile(remote) as archive,
    ):
        (span,) = remote.plan(archive, [archive.getinfo(f"{IMAGE}_B04_10m.jp2")])
        requests = len(s3.opened)
        remote.seek(span[end] - (1 - end))
        with pytest.raises(zipfile.BadZipFile, match="not where"):
            remote.read(1)

    assert len(s3.opened) == requests


def test_patterns_of_pygeodes() -> None:
    """A regular expression or else a glob of whole names; without a match the error has names."""
    with zipfile.ZipFile(io.BytesIO(zipped())) as archive:
        assert members.matching(archive, r".+_B0[48]_.+\.jp2", "S2A.zip") == list(WANTED)
        assert members.matching(archive, "*.safe", "S2A.zip") == [SAFE]
        for pattern in ("manifest.safe", r".+\.tif", "(*"):
            with pytest.raises(NoMemberError, match=r"manifest\.safe"):
                members.matching(archive, pattern, "S2A.zip")


def test_members_for_a_user_who_waits_share_a_range(folder: Path) -> None:
    """`download_item_files` requests the directory and one range, and nothing for what is there."""
    content = zipped()
    asset, s3 = set_of(content), MemoryTransport(content)
    names = [f"{IMAGE}_B08_10m.jp2", f"{IMAGE}_B04_10m.jp2"]

    for _ in range(2):
        with members.remote(asset, {"s3": s3}) as archive:
            paths = members.extract(archive, names, folder)

    assert [path.relative_to(folder).as_posix() for path in paths] == names
    assert files(folder) == WANTED
    assert len(s3.opened) == 3


@pytest.mark.parametrize("is_late", [False, True])
def test_a_member_whose_name_is_taken_gets_another_one_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """The file that was there, or came a moment ago, stays, and the log names both."""
    if is_late:
        monkeypatch.setattr(os.path, "lexists", lambda _: False)
    content, name = zipped(), f"{IMAGE}_B04_10m.jp2"
    taken = folder / name
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"of the user")

    with members.remote(set_of(content), {"s3": MemoryTransport(content)}) as archive:
        (path,) = members.extract(archive, [name], folder)

    assert (taken.read_bytes(), path.read_bytes()) == (b"of the user", WANTED[name])
    assert f"{taken} exists" in caplog.text
    assert path.name in caplog.text


def test_memory_does_not_depend_on_the_size_of_members(folder: Path) -> None:
    """A member of 64 MB is inflated piece by piece."""
    content = zipped({"a_B04_10m.jp2": bytes(64_000 * KiB)})
    asset = set_of(content, BANDS[0])
    tracemalloc.start()

    transfer.download(asset, folder, {"s3": MemoryTransport(content)})

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / "a_B04_10m.jp2").stat().st_size == 64_000 * KiB
    assert peak < 12_000 * KiB


def test_the_form_of_the_ledger() -> None:
    """A set survives the ledger; the order of its patterns is no part of its identity."""
    asset = set_of(b"x", *BANDS, portal_ranges=True)

    assert Asset.from_dict(json.loads(json.dumps(asset.to_dict()))) == asset
