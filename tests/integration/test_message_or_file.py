"""The checksum decides what is the file; without one, no page or message is saved as a file."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import (
    ChecksumMismatchError,
    GeodesTasksError,
    QuotaError,
    SizeMismatchError,
    SourceRefusedError,
    UnexpectedAnswerError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.settings.config import load
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transports.http.transport import HttpTransport
from tests.integration.scripted import Scripted, answer

ZIP = b"PK\x03\x04" + bytes(range(256)) * 300
TIFF = b"II*\x00" + bytes(range(256)) * 300
QUOTA = b'{"type": "QUOTA", "message": "Download quota of 50 exceeded for user"}'
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>password</body></html>"


@pytest.fixture
def final(tmp_path: Path) -> Iterator[Path]:
    """Name the file, and check that no part file outlives a test that published it."""
    yield tmp_path / "out" / "file"
    if (tmp_path / "out" / "file").exists():
        assert not list((tmp_path / "out").rglob("*.part"))


def asset_for(
    content: bytes | None, title: str = "p.zip", size_bytes: int | None = None
) -> dict[str, Any]:
    """Return what the catalogue says; with ``content`` it has the MD5."""
    md5 = Checksum("md5", hashlib.md5(content).hexdigest()) if content is not None else None
    return {"title": title, "size_bytes": size_bytes, "checksum": md5}


def fetched(server: Scripted, final: Path, said: dict[str, Any]) -> bytes:
    """Download from a portal of scripted answers; return the file."""
    asset = Asset(
        item_id="urn:1", collection="C", key="k", hrefs={"geodes": f"{server.url}/f"}, **said
    )
    settings = load(
        portal_url=server.url, api_key="key-0123456789", stall_seconds=2, first_byte_seconds=5
    )
    transfer.download(asset, final, {"geodes": HttpTransport(settings)})
    return final.read_bytes()


@pytest.mark.parametrize("size_bytes", [None, 1, 0, len(ZIP) // 2, len(ZIP) + 1, 2 * len(ZIP)])
def test_a_wrong_size_beside_the_right_md5(final: Path, size_bytes: int | None) -> None:
    """Sizes in catalogues are empty, in other units or wrong; the MD5 proves the file."""
    with Scripted(answer(ZIP)) as server:
        assert fetched(server, final, asset_for(ZIP, size_bytes=size_bytes)) == ZIP
        assert fetched(server, final, asset_for(ZIP, size_bytes=size_bytes)) == ZIP

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Encoding: gzip", "Content-Type: application/x-hdf5"),
        ("Content-Encoding: aws-chunked",),
        ("Content-Type: text/html",),
        ("Content-Type: application/json",),
    ],
)
def test_headers_count_less_than_the_md5(final: Path, headers: tuple[str, ...]) -> None:
    """The bytes have the catalogue's MD5, so they are the file, whatever the headers say."""
    content = gzip.compress(b"leaf area index " * 3000, mtime=0)
    with Scripted(answer(content, *headers)) as server:
        assert fetched(server, final, asset_for(content)) == content


@pytest.mark.parametrize("content", [b'{"type": "Feature"}', HTML, b"<?xml version='1.0'?><a/>"])
@pytest.mark.parametrize("disposition", [(), ("Content-Disposition: attachment",)])
def test_first_words_count_less_than_the_md5(
    final: Path, content: bytes, disposition: tuple[str, ...]
) -> None:
    """A small file that looks like a message is the file when its MD5 is right."""
    with Scripted(answer(content, *disposition)) as server:
        assert fetched(server, final, asset_for(content, "a.json")) == content


def test_a_text_that_comes_in_pieces_is_proven_by_its_md5(final: Path) -> None:
    """The first piece alone looks like a message; the whole is the file."""
    content = b'{"type": "Feature", "bytes": "' + b"x" * 2000 + b'"}'
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (content[:700], content[700:], b"")
    )
    with Scripted(answer(chunks, "Transfer-Encoding: chunked", length=False)) as server:
        assert fetched(server, final, asset_for(content)) == content


def test_a_long_text_is_proven_by_its_md5(final: Path) -> None:
    """A text that is longer than any message streams to its end."""
    content = b'{"a": [' + b"1," * 300_000 + b"1]}"
    with Scripted(answer(content, "Content-Type: application/json")) as server:
        assert fetched(server, final, asset_for(content, "a.json")) == content


@pytest.mark.parametrize("proof", [ZIP, None])
def test_a_206_of_the_whole(final: Path, proof: bytes | None) -> None:
    """Some caches answer 206 with every byte to a request without a range."""
    whole = f"Content-Range: bytes 0-{len(ZIP) - 1}/{len(ZIP)}"
    with Scripted(answer(ZIP, whole, status="206 Partial Content")) as server:
        assert fetched(server, final, asset_for(proof, "p.bin")) == ZIP


def test_a_206_of_the_whole_without_its_size(final: Path) -> None:
    """Of a file with a checksum the size need not be in the range (RFC 9110 section 14.4)."""
    whole = f"Content-Range: bytes 0-{len(ZIP) - 1}/*"
    with Scripted(answer(ZIP, whole, status="206 Partial Content")) as server:
        assert fetched(server, final, asset_for(ZIP, "p.bin")) == ZIP


def test_a_206_of_the_beginning_is_no_whole(final: Path) -> None:
    """A server that answers with its first bytes does not make the catalogue wrong."""
    part = f"Content-Range: bytes 0-999/{len(ZIP)}"
    with Scripted(answer(ZIP[:1000], part, status="206 Partial Content")) as server:
        for _ in range(2):
            with pytest.raises(UnexpectedAnswerError):
                fetched(server, final, asset_for(ZIP, "p.bin"))


def test_other_bytes_are_no_file_whatever_the_size(final: Path) -> None:
    """The right size does not make up for a wrong MD5."""
    wrong = ZIP[:-1] + b"x"
    with Scripted(answer(wrong)) as server, pytest.raises(ChecksumMismatchError, match="md5"):
        fetched(server, final, asset_for(ZIP, size_bytes=len(ZIP)))

    assert not final.exists()


@pytest.mark.parametrize("known", [ZIP, None])
def test_a_quota_message_as_an_attachment_waits(final: Path, known: bytes | None) -> None:
    """A short JSON in the place of a large file is the quota, also when it says attachment."""
    header = "Content-Disposition: attachment; filename=p.zip"
    with Scripted(answer(QUOTA, header)) as server, pytest.raises(QuotaError, match="exceeded"):
        fetched(server, final, asset_for(known, size_bytes=len(ZIP)))


ATTACHED = "Content-Disposition: attachment; filename=p.tif"
"""What GEODES sends with every response for a file."""


@pytest.mark.parametrize("known", [TIFF, None])
def test_a_message_as_an_attachment_is_no_image(final: Path, known: bytes | None) -> None:
    """A portal that marks everything as an attachment marks its messages so, too."""
    said = asset_for(known, "p.tif")
    with Scripted(answer(QUOTA, ATTACHED)) as server, pytest.raises(QuotaError, match="exceeded"):
        fetched(server, final, said)
    page = HTML.replace(b"password", b"").replace(b"Sign in", b"Maintenance")
    with Scripted(answer(page, ATTACHED)) as server, pytest.raises(UnexpectedAnswerError):
        fetched(server, final, said)

    assert not final.exists()


def test_a_text_as_an_attachment_is_a_file(final: Path) -> None:
    """The header of an image has a suffix of its own, and nothing proves it."""
    header = b"ENVI\nsamples = 10\n"
    with Scripted(answer(header, ATTACHED, "Content-Type: text/plain")) as server:
        assert fetched(server, final, asset_for(None, "p.hdr")) == header


@pytest.mark.parametrize("title", ["p.xml", "p.txt", "p.csv", "p.tif"])
def test_a_quota_message_is_no_text_either(final: Path, title: str) -> None:
    """GEODES' messages have a field of that name; other JSON of any suffix is a file."""
    with Scripted(answer(QUOTA, ATTACHED)) as server, pytest.raises(QuotaError):
        fetched(server, final, asset_for(None, title))
    notebook = b'{"cells": [], "nbformat": 4}'
    with Scripted(answer(notebook, ATTACHED)) as server:
        assert fetched(server, final, asset_for(None, "p.ipynb")) == notebook


def test_an_empty_body_is_no_file_of_which_nothing_is_known(final: Path) -> None:
    """Without size and checksum an empty answer proves nothing."""
    with Scripted(answer(b"")) as server, pytest.raises(UnexpectedAnswerError, match="empty"):
        fetched(server, final, asset_for(None, "p.tif"))
    assert not final.exists()

    with Scripted(answer(b"")) as server:
        assert fetched(server, final, asset_for(b"", "p.tif", size_bytes=0)) == b""


ERRORS = {
    "S3": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    "OGC": b'<?xml version="1.0"?><!-- x --><ows:ExceptionReport></ows:ExceptionReport>',
    "BOM": b"\xef\xbb\xbf" + HTML,
    "comment": b"<!-- a -- b -->\n<html><body>down for maintenance</body></html>",
    "XHTML": b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0"><html></html>',
    "UTF-16": "\ufeff<html><body>down</body></html>".encode("utf-16-le"),
    "JSON": b'\xef\xbb\xbf {"message": "try later"}',
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("title", ["T.tif", "T.h5", "T"])
def test_no_error_page_is_saved(final: Path, kind: str, title: str) -> None:
    """Without size and MD5 a page, XML or JSON in the place of a binary file is refused."""
    page = answer(ERRORS[kind], "Content-Type: application/octet-stream")
    with Scripted(page) as server, pytest.raises(GeodesTasksError, match=r"HTTP 200|login|quota"):
        fetched(server, final, asset_for(None, title))

    assert not final.exists()


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "text/html; charset=utf-8"])
def test_no_plain_text_is_saved(final: Path, media: str) -> None:
    """Nor is a text that only its media type shows."""
    page = answer(b"Too many requests, try again later", f"Content-Type: {media}")
    with Scripted(page) as server, pytest.raises(UnexpectedAnswerError, match="try again later"):
        fetched(server, final, asset_for(None, "T.tif"))

    assert not final.exists()


@pytest.mark.parametrize(
    ("title", "content", "header"),
    [
        ("MTD.xml", b"<?xml version='1.0'?><metadata/>", "Content-Type: application/xml"),
        ("a.json", b'{"type": "Feature"}', "Content-Type: application/json"),
        ("md5.txt", b"d41d8cd98f00b204e9800998ecf8427e  x", "Content-Type: text/plain"),
        ("T.tif", TIFF, "Content-Type: text/html"),
        ("page.html", HTML, "Content-Type: text/html"),
    ],
)
def test_texts_and_files_of_any_type_are_saved(
    final: Path, title: str, content: bytes, header: str
) -> None:
    """A file whose name is that of a text, and binary data under any media type, are files."""
    with Scripted(answer(content, header)) as server:
        assert fetched(server, final, asset_for(None, title)) == content


def test_a_message_in_place_of_a_metadata_file(final: Path) -> None:
    """An HTML page is no XML file, and a quota message is none either."""
    for page in (HTML, QUOTA):
        with (
            Scripted(answer(page)) as server,
            pytest.raises(GeodesTasksError, match=r"login|quota"),
        ):
            fetched(server, final, asset_for(None, "MTD.xml"))


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oops", "403 Forbidden"])
def test_binary_data_is_never_quoted(final: Path, status: str) -> None:
    """A message holds no binary data; it says how much there was."""
    body = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    said = asset_for(ZIP, size_bytes=len(ZIP))
    with Scripted(answer(body, status=status)) as server, pytest.raises(GeodesTasksError) as caught:
        fetched(server, final, said)

    text = json.dumps(str(caught.value))
    assert "PNG" not in text
    assert "\\u" not in text


def test_another_hosts_xml_is_named(final: Path) -> None:
    """A mirror that refuses in XML is named with its reason; nothing is saved."""
    with Scripted(answer(ERRORS["S3"], status="403 Forbidden")) as server:
        asset = Asset(
            item_id="i", collection="C", key="k", hrefs={"geodes": f"{server.url}/f"},
            **asset_for(None, "T.tif"),
        )  # fmt: skip
        settings = load(portal_url="https://portal.example", allowed_hosts=("127.0.0.1",))
        with pytest.raises(SourceRefusedError, match="AccessDenied"):
            transfer.download(asset, final, {"geodes": HttpTransport(settings)})


@pytest.mark.parametrize("more", [-7, 7])
def test_a_wrong_size_without_a_checksum_is_named(final: Path, more: int) -> None:
    """The portal has all that it announces: the message has its size and that of the catalogue."""
    size = len(TIFF) + more
    with (
        Scripted(answer(TIFF)) as server,
        pytest.raises(SizeMismatchError, match=f"says {size} bytes, received {len(TIFF)}"),
    ):
        fetched(server, final, asset_for(None, "T.tif", size))

    assert not final.parent.exists() or not list(final.parent.rglob("*.part"))
