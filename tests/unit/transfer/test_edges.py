"""Rare turns of a transfer: folders, long files, archives, foreign files among the parts."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from geodes_tasks.errors import (
    DiskError,
    FolderError,
    LeaseLostError,
    NoRangesError,
    NotAFileError,
    SourceUnavailableError,
    TransferError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import audit, members
from geodes_tasks.transfer.audit import Expected, Finding
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.fallback import GAIN_BYTES
from geodes_tasks.transfer.fetch import LENGTH_MODULUS, Fetch
from geodes_tasks.transports import Body, Member
from tests.conftest import MemoryTransport, asset_of, md5, some_bytes
from tests.unit.transfer.scene import (
    ASSET,
    BYTES,
    CONTENT,
    Recorder,
    fetch,
    ignore,
    left_by,
    names,
    part_of,
)

FILES = {"a/one.tif": b"1" * 100, "two.xml": b"2" * 50}
PRODUCT = asset_of(b"", name="product", checksum=None, size_bytes=None)


@dataclass
class FolderTransport:
    """A source that has a folder of files in place of one object."""

    files: dict[str, bytes]

    def serves_ranges(self, href: str) -> bool:
        """Return False: there is no archive."""
        return False

    def open_range(
        self, href: str, first: int, length: int, *, etag: str | None, asset: Asset
    ) -> AbstractContextManager[Body]:
        """Refuse: nothing is read in parts."""
        raise NoRangesError(asset.title)

    @contextmanager
    def open(
        self, href: str, *, offset: int = 0, etag: str | None = None, asset: Asset | None = None
    ) -> Iterator[Body]:
        """Open one file of the folder; the address of the folder itself opens nothing."""
        name = href.partition("product/")[2]
        if name not in self.files:
            raise FolderError("geodes", href, "is a folder")
        content = self.files[name]
        yield Body(0, len(content), None, iter([content]))

    def members(self, href: str) -> list[Member]:
        """Return all files."""
        return [Member(n, f"x/product/{n}", len(c)) for n, c in self.files.items()]

    def abort(self, thread: int) -> None:
        """Do nothing: these bytes are in memory."""


def product_at(final: Path) -> Proof:
    """Download the product, and return its proof."""
    result = download(PRODUCT, final, {"geodes": FolderTransport(FILES)})
    assert result.outcome is Outcome.DOWNLOADED
    assert result.proof is not None
    return result.proof


def test_a_product_folder_is_present_by_its_proof(final: Path) -> None:
    """A folder without checksums is not fetched again while nothing in it changed."""
    proof = product_at(final)

    again = download(PRODUCT, final, {"geodes": FolderTransport({})}, proof=proof)

    assert again.outcome is Outcome.ALREADY_PRESENT
    assert again.size_bytes == 150


@pytest.mark.parametrize("change", ["a/one.tif", "three"])
def test_a_product_folder_that_changed_is_no_file_to_replace(final: Path, change: str) -> None:
    """A folder that a user changed is named and stays."""
    proof = product_at(final)
    (final / change).write_bytes(b"mine")

    with pytest.raises(NotAFileError, match="folder"):
        download(PRODUCT, final, {"geodes": FolderTransport(FILES)}, proof=proof)

    assert (final / change).read_bytes() == b"mine"


def test_a_product_whose_name_a_file_has_is_not_fetched(final: Path) -> None:
    """The file is named and stays."""
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(b"mine")
    source, callbacks = FolderTransport(FILES), Recorder()

    with pytest.raises(NotAFileError, match="folder"):
        download(PRODUCT, final, {"geodes": source}, callbacks=callbacks)

    assert (final.read_bytes(), callbacks.received) == (b"mine", 0)


def test_a_product_that_another_attempt_took_over_is_not_published(final: Path) -> None:
    """An attempt that was suspended finds its folder without the files that it fetched."""

    class Robbed(Callbacks):
        def confirm(self) -> None:
            for path in final.parent.rglob("one.tif"):
                path.unlink()

    with pytest.raises(LeaseLostError):
        download(PRODUCT, final, {"geodes": FolderTransport(FILES)}, callbacks=Robbed())

    assert not final.exists()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_a_sparse_file_of_terabytes_is_replaced_unread(final: Path, size_bytes: int | None) -> None:
    """Whoever may write to the folder can plant one for nothing; reading it would take hours."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with final.open("wb") as planted:
        planted.truncate(3 << 40)
    asset = replace(ASSET, size_bytes=size_bytes)

    result = download(asset, final, {"geodes": MemoryTransport(CONTENT)})

    assert (result.outcome, final.read_bytes()) == (Outcome.DOWNLOADED, CONTENT)


def test_a_file_of_thrice_the_size_in_the_catalogue_is_read(final: Path) -> None:
    """Sizes in catalogues are wrong at times: it has few holes, so its checksum decides."""
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(CONTENT)
    source = MemoryTransport(CONTENT)

    result = download(replace(ASSET, size_bytes=len(CONTENT) // 3), final, {"geodes": source})

    assert (result.outcome, source.opened) == (Outcome.ALREADY_PRESENT, [])


def test_a_folder_where_a_checksum_promises_a_file(final: Path) -> None:
    """With a checksum a folder is never present, whatever proof there is."""
    proof = product_at(final)

    with pytest.raises(NotAFileError, match="folder"):
        download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, proof=proof)


def test_a_folder_that_cannot_be_renamed_is_the_disks_refusal(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the rename is never taken for success."""
    rename = os.rename

    def refuse(source: str, target: str, **folders: int) -> None:
        if target == final.name:
            raise PermissionError(13, "Permission denied")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", refuse)

    with pytest.raises(DiskError, match="Permission denied"):
        download(PRODUCT, final, {"geodes": FolderTransport(FILES)})

    assert not final.exists()


@pytest.mark.parametrize("loss", ["adopted", "a file less", "a file cut"])
def test_a_product_that_lost_a_file_is_not_published(final: Path, loss: str) -> None:
    """What another attempt adopted or changed before the rename is not this attempt's any more."""

    class Loses(Callbacks):
        def confirm(self) -> None:
            """Lose something, after the last check of the lease."""
            (folder,) = (final.parent / PART_FOLDER).glob("*.folder")
            if loss == "adopted":
                folder.rename(folder.with_name("adopted"))
            elif loss == "a file less":
                (folder / "two.xml").unlink()
            else:
                (folder / "two.xml").write_bytes(b"2")

    with pytest.raises(LeaseLostError):
        download(PRODUCT, final, {"geodes": FolderTransport(FILES)}, callbacks=Loses())

    assert not final.exists()


def test_a_file_where_the_folder_of_parts_should_be_is_named(final: Path) -> None:
    """A user's file called like the folder of part files is an error of that name, and stays."""
    final.parent.mkdir()
    (final.parent / PART_FOLDER).write_bytes(b"mine")

    with pytest.raises(NotAFileError, match=PART_FOLDER):
        fetch(final, MemoryTransport(CONTENT))

    assert (final.parent / PART_FOLDER).read_bytes() == b"mine"


def test_foreign_files_among_the_parts_hide_no_leftover(final: Path) -> None:
    """A leftover is found whatever else is in the folder, before and after it."""
    left_by(1, final, BYTES)
    folder = final.parent / PART_FOLDER
    for name in ("aaa", "zzz", f"{final.name}.other.1.part", ".nfs0001"):
        (folder / name).write_bytes(b"x")

    found = part_of(final, 2).leftovers.longest()

    assert found is not None
    assert found.stat().st_size == len(BYTES)


@pytest.mark.parametrize(
    ("catalogue", "announced", "lengthened"),
    [
        (LENGTH_MODULUS + 1000, 1000, True),
        (2 * LENGTH_MODULUS + 1000, 1000, True),
        (LENGTH_MODULUS + 1001, 1000, False),
        (1000, 1000, False),
        (900, 1000, False),
        (None, 1000, False),
    ],
)
def test_a_length_of_32_bits_is_completed_from_the_catalogue(
    final: Path, catalogue: int | None, announced: int, lengthened: bool
) -> None:
    """Only where the difference is a multiple of 2**32, so never for a file that just differs."""
    seen: list[int] = []
    asset = asset_of(b"", size_bytes=catalogue)
    body = Body(0, announced, None, iter([]), seen.append)

    total = Fetch(asset, part_of(final), Recorder())._total_of(body)

    assert seen == ([catalogue] if lengthened else [])
    assert total == (catalogue if lengthened else announced)


def test_a_rest_is_never_lengthened(final: Path) -> None:
    """A body that resumes proves its total by Content-Range, which has no 32 bits."""
    seen: list[int] = []
    asset = asset_of(b"", size_bytes=LENGTH_MODULUS + 1000)

    total = Fetch(asset, part_of(final), Recorder())._total_of(
        Body(10, 1000, None, iter([]), seen.append)
    )

    assert (total, seen) == (1000, [])


class Breaking(MemoryTransport):
    """A source whose connection breaks after some bytes, each time."""

    step_bytes = 2 * GAIN_BYTES

    @contextmanager
    def open(
        self, href: str, *, offset: int = 0, etag: str | None = None, asset: Asset | None = None
    ) -> Iterator[Body]:
        """Send some bytes from the offset, then break."""
        self.opened.append((offset, etag))
        yield Body(offset, len(self.content), None, self._some(offset))

    def _some(self, offset: int) -> Iterator[bytes]:
        yield self.content[offset : offset + self.step_bytes]
        if offset + self.step_bytes < len(self.content):
            raise TransferError("s3://bucket/a", "reset")


def test_a_source_that_gains_is_opened_again_before_another(final: Path) -> None:
    """S3 breaks every 2 MiB: it is continued there; the portal's quota is not touched."""
    content = some_bytes(7 * GAIN_BYTES)
    both = asset_of(content, hrefs={"s3": "s3://bucket/a", "geodes": "https://portal.invalid/a"})
    s3, portal = Breaking(content), MemoryTransport(content)

    result = download(both, final, {"s3": s3, "geodes": portal})

    assert [offset for offset, _ in s3.opened] == [n * Breaking.step_bytes for n in range(4)]
    assert portal.opened == []
    assert result.source == "s3"


def test_a_source_that_gains_too_little_gives_way(final: Path) -> None:
    """S3 breaks after less than a MiB: the portal continues at that byte."""
    content = some_bytes(3 * GAIN_BYTES)
    both = asset_of(content, hrefs={"s3": "s3://bucket/a", "geodes": "https://portal.invalid/a"})
    s3, portal = Breaking(content), MemoryTransport(content)
    s3.step_bytes = GAIN_BYTES // 2

    result = download(both, final, {"s3": s3, "geodes": portal})

    assert len(s3.opened) == 1
    assert portal.opened == [(GAIN_BYTES // 2, None)]
    assert result.source == "geodes"


def test_the_last_source_that_breaks_is_not_opened_for_ever(final: Path) -> None:
    """Without another source the attempt ends at the break: the queue retries it."""
    content = some_bytes(7 * GAIN_BYTES)
    only = asset_of(content, hrefs={"s3": "s3://bucket/a"})
    s3 = Breaking(content)

    with pytest.raises(TransferError, match="reset"):
        download(only, final, {"s3": s3})

    assert len(s3.opened) == 1


def test_a_folder_in_s3_is_no_product_when_the_portal_has_the_file(final: Path) -> None:
    """With another source the folder is one of several answers, not the asset itself."""
    both = asset_of(
        CONTENT,
        name="a.tif",
        hrefs={"s3": "x/product/", "geodes": "https://portal.invalid/a"},
        checksum=None,
    )

    result = download(
        both, final, {"s3": FolderTransport(FILES), "geodes": MemoryTransport(CONTENT)}
    )

    assert result.source == "geodes"
    assert final.read_bytes() == CONTENT


def test_the_one_file_of_a_folder_that_is_the_asset_is_taken(final: Path) -> None:
    """A folder with the asset's own name in it: that object is opened."""
    asset = asset_of(b"1" * 100, name="one.tif", hrefs={"geodes": "x/product/"})
    source = FolderTransport({"one.tif": b"1" * 100, "two.xml": b"2"})

    result = download(asset, final, {"geodes": source})

    assert result.outcome is Outcome.DOWNLOADED
    assert final.read_bytes() == b"1" * 100


def test_a_folder_without_the_asset_is_an_error(final: Path) -> None:
    """No object of the folder is the asset: the error names the folder, and nothing is there."""
    asset = asset_of(b"3" * 7, name="three.tif", hrefs={"geodes": "x/product/"})

    with pytest.raises(SourceUnavailableError, match="is a folder"):
        download(asset, final, {"geodes": FolderTransport(FILES)})

    assert not final.exists()


# --- audit ---------------------------------------------------------------------------------------


def manifest_of(files: dict[str, bytes]) -> bytes:
    """Return a SAFE manifest with the MD5 of each file."""
    rows = "".join(
        f'<dataObject ID="d{n}"><byteStream size="{len(content)}"><fileLocation href="./{name}"/>'
        f'<checksum checksumName="MD5">{str(md5(content)).removeprefix("md5:")}</checksum>'
        "</byteStream></dataObject>"
        for n, (name, content) in enumerate(files.items())
    )
    return f"<xfdu><dataObjectSection>{rows}</dataObjectSection></xfdu>".encode()


@pytest.mark.parametrize(
    ("damage", "finding"), [(None, Finding.RIGHT), ("a/one.tif", Finding.CHANGED)]
)
def test_each_file_of_a_folder_is_audited_by_its_manifest(
    tmp_path: Path, damage: str | None, finding: Finding
) -> None:
    """One flipped byte in one file of a product is found and the file named."""
    folder = tmp_path / "product.SAFE"
    for name, content in {**FILES, "manifest.safe": manifest_of(FILES)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if damage:
        (folder / damage).write_bytes(b"9" + FILES[damage][1:])

    found = audit.audit(Expected(str(folder), None, None))

    assert found.finding is finding
    assert (damage or "") in found.detail


def test_a_report_keeps_the_ids_of_its_downloads(tmp_path: Path) -> None:
    """A repair finds the download of a damaged file by the id in the report."""
    row = {"state": "SUCCESS", "path": "a", "size_bytes": 1, "checksum": None}
    report = tmp_path / "report.jsonl"
    report.write_text(f"{json.dumps(row | {'download_id': 'id-1'})}\n{json.dumps(row)}\n")

    found = audit.of_file(report)

    assert [one.download_id for one in found] == ["id-1", ""]


# --- members -------------------------------------------------------------------------------------


def archive_of(**files: str) -> zipfile.ZipFile:
    """Return an archive with a folder and some files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        writer.writestr("top/", "")
        for name, text in files.items():
            writer.writestr(f"top/{name}.tif", text)
    return zipfile.ZipFile(buffer)


@pytest.mark.parametrize("pattern", [r"top/B0[24]\.tif", "top/B0[24].tif", "*B0[24].tif"])
def test_members_are_chosen_by_pattern_or_glob(pattern: str) -> None:
    """The names that match as a whole, in the order of the archive."""
    archive = archive_of(B02="2", B03="3", B04="4")

    assert members.matching(archive, pattern, "a.zip") == ["top/B02.tif", "top/B04.tif"]


def test_folders_among_the_names_are_skipped(tmp_path: Path) -> None:
    """The files come out whole; a folder's own entry makes none."""
    archive = archive_of(B02="2", B03="3")

    found = members.extract(archive, archive.namelist(), tmp_path)

    assert [path.read_text() for path in found] == ["2", "3"]
    assert names(tmp_path / "x") == ["top/B02.tif", "top/B03.tif"]


def test_an_attempt_that_was_overtaken_adopts_nothing(final: Path) -> None:
    """Another attempt took the leftover at the last moment: nothing is resumed, nothing is lost."""
    leftover = left_by(1, final, BYTES)
    with part_of(final, 3) as part:
        leftover.unlink()
        part.adopt(leftover, ignore)

        assert part.offset == 0
