"""Addresses of the datalake that are folders: the one file within, or a product of many files."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import (
    ChecksumMismatchError,
    FolderError,
    HostileNameError,
    NotAFileError,
    NotFoundError,
    SourceUnavailableError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.states import Outcome
from geodes_tasks.pygeodes.download_queue import DownloadQueue, Problem
from geodes_tasks.settings.config import load
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer.audit import Expected, Finding, audit
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.manifest import checksums_in
from geodes_tasks.transports import Member, Transport
from geodes_tasks.transports.s3.transport import MOST_PAGES, S3Transport
from tests.conftest import MemoryTransport, md5, some_bytes
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.scripted import Scripted, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "S2A_MSIL1C_20250402.SAFE"
PREFIX = f"14/U/LD/{NAME}"
FILES = {
    "GRANULE/B02.jp2": some_bytes(200_000, seed=2),
    "GRANULE/B03 with space.jp2": some_bytes(100_000, seed=3),
    "INSPIRE.xml": b"<xml/>",
    "empty": b"",
}


def manifest_of(files: dict[str, bytes]) -> bytes:
    """Write a SAFE manifest for some files."""
    objects = "".join(
        f'<dataObject><byteStream mimeType="x" size="{len(content)}">'
        f'<fileLocation locatorType="URL" href="./{name}"/>'
        f'<checksum checksumName="MD5">{hashlib.md5(content).hexdigest().upper()}</checksum>'
        "</byteStream></dataObject>"
        for name, content in files.items()
    )
    return f"<xfdu><dataObjectSection>{objects}</dataObjectSection></xfdu>".encode()


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """Start a datalake with one product of many files, a manifest among them."""
    with S3Server() as server:
        for name, content in FILES.items():
            server.put(f"{PREFIX}/{name}", content)
        server.put(f"{PREFIX}/manifest.safe", manifest_of(FILES))
        yield server


def transport_to(server: S3Server | Scripted) -> S3Transport:
    """Make a transport with credentials for a server."""
    secrets: dict[str, Any] = {"aws_access_key_id": "key-id", "aws_secret_access_key": "secret"}
    return S3Transport(load(s3_endpoint_url=server.url, **secrets))


def product(server: S3Server, end: str = "", **fields: Any) -> Asset:
    """Make the asset of the product; its only address is that of the folder."""
    known: dict[str, Any] = {
        "item_id": "urn", "collection": "c", "key": "k", "title": NAME,
        "hrefs": {"s3": f"{server.url}/{BUCKET}/{PREFIX}{end}"},
    }  # fmt: skip
    return Asset(**known | fields)


def names_in(folder: Path) -> dict[str, bytes]:
    """Give every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("end", ["", "/"])
def test_a_product_of_many_files(s3: S3Server, tmp_path: Path, end: str) -> None:
    """All objects are below one folder, named by the title, each proven by the manifest."""
    final = tmp_path / NAME

    result = transfer.download(product(s3, end), final, {"s3": transport_to(s3)})

    assert names_in(final) == FILES | {"manifest.safe": manifest_of(FILES)}
    assert (result.verified, result.outcome) == (True, Outcome.DOWNLOADED)
    assert result.size_bytes == sum(map(len, names_in(final).values()))
    assert result.sources == {"s3": result.size_bytes}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_what_is_there_is_not_fetched_again(s3: S3Server, tmp_path: Path) -> None:
    """The proof of a folder is that of all its files; a changed one is not overwritten."""
    final, transports = tmp_path / NAME, {"s3": transport_to(s3)}
    proof = transfer.download(product(s3), final, transports).proof
    s3.seen.clear()

    again = transfer.download(product(s3), final, transports, proof=proof)

    assert (again.outcome, s3.seen) == (Outcome.ALREADY_PRESENT, [])
    (final / "INSPIRE.xml").write_bytes(b"changed")
    with pytest.raises(NotAFileError, match="folder of this name"):
        transfer.download(product(s3), final, transports, proof=proof)


@pytest.mark.parametrize(
    ("damage", "finding", "detail"),
    [
        (lambda _: None, Finding.RIGHT, ""),
        (lambda folder: damaged(folder / "GRANULE/B02.jp2"), Finding.CHANGED, "GRANULE/B02.jp2: "),
        (lambda folder: (folder / "INSPIRE.xml").unlink(), Finding.WRONG_SIZE, " expected"),
        (lambda folder: (folder / "more").write_bytes(b"x"), Finding.WRONG_SIZE, " expected"),
        (lambda folder: shutil.rmtree(folder), Finding.MISSING, ""),
    ],
)
def test_a_folder_is_audited(
    s3: S3Server,
    tmp_path: Path,
    damage: Callable[[Path], object],
    finding: Finding,
    detail: str,
) -> None:
    """A changed, missing or strange file in a product of many is found, as in one of one."""
    final = tmp_path / NAME
    result = transfer.download(product(s3), final, {"s3": transport_to(s3)})
    damage(final)

    found = audit(Expected(str(final), result.size_bytes))

    assert found.finding is finding
    assert detail in found.detail


def test_check_integrity_reads_every_file_of_a_product(tmp_path: Path) -> None:
    """A queue reports the changed file of a product of many, as ``verify`` does."""
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.0.0", "id": "P", "collection": "C", "geometry": None,
        "properties": {"datetime": "2026-01-01T00:00:00Z"}, "links": [],
        "assets": {"data": {"href": "https://s3.invalid/b/P", "roles": ["data"], "title": NAME}},
    }  # fmt: skip
    for name, content in (FILES | {"manifest.safe": manifest_of(FILES)}).items():
        (tmp_path / NAME / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / NAME / name).write_bytes(content)
    queue = DownloadQueue([item], tmp_path, conf=load(), quiet=True)
    assert queue.check_integrity() == []
    damaged(tmp_path / NAME / "GRANULE/B02.jp2")

    (problem,) = queue.check_integrity()

    assert problem.problem is Problem.CHANGED
    assert problem.detail.startswith("GRANULE/B02.jp2: md5:")


def test_a_folder_without_manifest_is_not_provable(tmp_path: Path) -> None:
    """Sizes alone prove nothing; nor do they where the manifest does not say all."""
    (tmp_path / "a").write_bytes(b"content")
    assert audit(Expected(str(tmp_path), 7)).finding is Finding.UNPROVABLE

    (tmp_path / "sums.md5").write_text(f"{md5(b'content').digest}  a\n")
    assert audit(Expected(str(tmp_path))).finding is Finding.RIGHT

    (tmp_path / "b").write_bytes(b"")
    assert audit(Expected(str(tmp_path))).finding is Finding.UNPROVABLE


def damaged(path: Path) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_wrong_file_keeps_the_folder_away(s3: S3Server, tmp_path: Path) -> None:
    """One file that the manifest does not agree with, and nothing bears the final name."""
    final, transports = tmp_path / NAME, {"s3": transport_to(s3)}
    s3.put(f"{PREFIX}/GRANULE/B02.jp2", some_bytes(200_000, seed=9))

    with pytest.raises(ChecksumMismatchError, match=r"B02\.jp2"):
        transfer.download(product(s3), final, transports, token="1")

    assert not final.exists()
    s3.put(f"{PREFIX}/GRANULE/B02.jp2", FILES["GRANULE/B02.jp2"])
    s3.seen.clear()
    result = transfer.download(product(s3), final, transports, token="2")
    asked = len(s3.seen)
    assert names_in(final) == FILES | {"manifest.safe": manifest_of(FILES)}
    assert result.outcome is Outcome.RESUMED
    # What the first attempt had proven is not fetched again.
    assert result.bytes_transferred < result.size_bytes
    assert asked > 0
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_cancelled_products_leave_nothing(s3: S3Server, tmp_path: Path) -> None:
    """Discarding a download removes the folder that it was growing in."""
    final = tmp_path / NAME
    s3.put(f"{PREFIX}/INSPIRE.xml", b"other")
    with pytest.raises(ChecksumMismatchError, match="INSPIRE"):
        transfer.download(product(s3), final, {"s3": transport_to(s3)}, token="1")
    assert list((tmp_path / PART_FOLDER).iterdir())

    transfer.discard(product(s3), final, "1")

    assert list(tmp_path.iterdir()) == []


def test_the_file_within_a_folder(s3: S3Server, tmp_path: Path) -> None:
    """Where the address is that of a directory with the archive inside, the archive is taken."""
    content = some_bytes(150_000, seed=7)
    s3.put("SPOT/2001/DIR/scene.zip", content)
    s3.put("SPOT/2001/DIR/scene.xml", b"<xml/>")
    asset = product(
        s3, title="scene.zip", size_bytes=len(content), checksum=md5(content),
        hrefs={"s3": f"{s3.url}/{BUCKET}/SPOT/2001/DIR", "geodes": "https://portal.invalid/a"},
    )  # fmt: skip
    portal = MemoryTransport(content)

    result = transfer.download(
        asset, tmp_path / "scene.zip", {"s3": transport_to(s3), "geodes": portal}
    )

    assert (result.source, result.verified, portal.opened) == ("s3", True, [])


def test_an_archive_that_is_a_folder_there_comes_from_the_portal(
    s3: S3Server, tmp_path: Path
) -> None:
    """An unpacked product cannot be the archive that the catalogue proves."""
    content = some_bytes(150_000, seed=7)
    asset = product(
        s3, title="a.zip", size_bytes=len(content), checksum=md5(content),
        hrefs={"s3": f"{s3.url}/{BUCKET}/{PREFIX}", "geodes": "https://portal.invalid/a"},
    )  # fmt: skip
    ways: dict[str, Transport] = {"s3": transport_to(s3), "geodes": MemoryTransport(content)}

    assert transfer.download(asset, tmp_path / "a.zip", ways).source == "geodes"
    only_s3 = product(s3, checksum=md5(content), size_bytes=len(content))
    with pytest.raises(FolderError, match="it is a folder there"):
        transfer.download(only_s3, tmp_path / "b.zip", {"s3": ways["s3"]})


def test_a_prefix_without_objects(s3: S3Server, tmp_path: Path) -> None:
    """Neither object nor folder is no such file."""
    with pytest.raises(NotFoundError, match="no such file"):
        transfer.download(product(s3, "-other"), tmp_path / "x", {"s3": transport_to(s3)})


def test_an_object_that_would_leave_the_folder(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key with ``..`` in it is refused before anything is written there."""
    transport = transport_to(s3)
    hostile = [Member("../../evil", f"{s3.url}/{BUCKET}/{PREFIX}/empty", 0)]
    monkeypatch.setattr(transport, "members", lambda _: hostile)

    with pytest.raises(HostileNameError, match="another folder"):
        transfer.download(product(s3), tmp_path / NAME, {"s3": transport})

    assert not (tmp_path.parent / "evil").exists()


def test_lists_of_md5_sums() -> None:
    """Both forms of md5sum are read; names are below the folder of the list."""
    digest = "0" * 32
    text = f"{digest}  a.tif\n{digest.upper()} *./b c.tif\nno digest  x\n"

    assert set(checksums_in(text, "MD5SUMS")) == {"a.tif", "b c.tif"}
    assert set(checksums_in(text, "sub/md5sum.txt")) == {"sub/a.tif", "sub/b c.tif"}


def test_a_list_without_an_end() -> None:
    """A page is never the last and holds one object, or none: a fixed number of them is read."""
    for objects in ("", "<Contents><Key>k/a</Key><Size>1</Size></Contents>"):
        pages = [
            answer(f"<L>{objects}<NextContinuationToken>{n}</NextContinuationToken></L>".encode())
            for n in range(MOST_PAGES + 50)
        ]
        with Scripted(*pages) as server:
            transport = transport_to(server)
            with pytest.raises(SourceUnavailableError, match=f"over {MOST_PAGES} pages"):
                transport.members("s3://b/k")

        assert len(server.requests) == MOST_PAGES


@pytest.mark.parametrize("size", ["-5", "many", "9" * 30, "9" * 5000])
def test_a_size_that_no_object_has(size: str) -> None:
    """It would be announced, reserved on the disk, and added to the bytes of the batch."""
    page = f"<L><Contents><Key>k/a</Key><Size>{size}</Size></Contents></L>".encode()
    with Scripted(answer(page)) as server:
        transport = transport_to(server)
        with pytest.raises(SourceUnavailableError, match="its list cannot be read"):
            transport.members("s3://b/k")


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>t</NextContinuationToken>"])
def test_a_list_that_ends_before_its_end(token: str) -> None:
    """A server that knows no ListObjectsV2, or gives a page twice: no part passes for the whole."""
    page = f"<L><IsTruncated>true</IsTruncated>{token}"
    page += "<Contents><Key>k/a</Key><Size>1</Size></Contents></L>"
    with Scripted(answer(page.encode())) as server:
        transport = transport_to(server)
        with pytest.raises(SourceUnavailableError, match="its list ends before its end"):
            transport.members("s3://b/k")

    assert len(server.requests) == (2 if token else 1)
