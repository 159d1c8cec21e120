"""Hostile manifests, descriptions and messages: none holds the interpreter for a second."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.model.checksum import Checksum
from geodes_tasks.monitoring import wording
from geodes_tasks.stac import asset_proof
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.transfer.manifest import checksums_in
from geodes_tasks.transports.http import responses

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
SHA3 = hashlib.sha3_256(b"x").hexdigest()
MD5 = "0" * 32


def filled(piece: str) -> str:
    """Return 1 MB of one piece."""
    return piece * (MB // len(piece))


def seconds(parse: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    begin = time.process_time()
    parse()
    return time.process_time() - begin


def stream(name: str, algorithm: str, digest: str) -> str:
    """Return the element of one object, as ESA writes it."""
    return (
        f'<dataObject ID="x"><byteStream mimeType="text/xml"><fileLocation locatorType="URL" '
        f'href="./{name}"/><checksum checksumName="{algorithm}">{digest}</checksum></byteStream>'
        "</dataObject>"
    )


MANIFESTS = [
    filled("<byteStream "),
    filled('<byteStream ><fileLocation href="a">'),
    "<a>" + filled(stream("a", "SHA3-256", SHA3)) + "</a>",
    "<a>" + filled(stream("a", "other", SHA3)) + "</a>",
    '<a b="' + filled(" ") + '"/>',
    "<a>" + filled("<checksum checksumName='MD5'>") + "</a>",
    f"{MD5}  a{filled(' ')}b",
    filled(f"{MD5}  a{' ' * 1000}\x0b"),
    filled("\n"),
    filled("\\"),
]


@pytest.mark.parametrize("name", ["manifest.safe", "MD5SUMS"])
@pytest.mark.parametrize("text", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_hostile_manifest_takes_no_time(text: str, name: str) -> None:
    """1 MB of any manifest is read within a second."""
    assert seconds(lambda: checksums_in(text, name)) < 1


@pytest.mark.parametrize(
    ("algorithm", "digest", "checksum"),
    [("MD5", MD5, Checksum("md5", MD5)), ("SHA3-256", SHA3.upper(), Checksum("sha3_256", SHA3))],
)
def test_a_safe_manifest_names_its_checksums(
    algorithm: str, digest: str, checksum: Checksum
) -> None:
    """MD5 and SHA3-256 of a SAFE manifest are known; another algorithm is not."""
    text = f"<x>{stream('a/b.xml', algorithm, digest)}{stream('c', 'CRC32', '1')}</x>"

    assert checksums_in(text, "P.SAFE/manifest.safe") == {"P.SAFE/a/b.xml": checksum}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no manifest",
        "<x>" + stream("a", "MD5", MD5),
        f"<x>{stream('a', 'MD5', MD5)}\x00</x>",
        "<x>" + stream("a", "MD5", MD5) + "\ud800</x>",
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;'
        + stream("a", "MD5", MD5)
        + "</x>",
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x>' + stream("a", "MD5", MD5) + "</x>",
        "<x>" + stream("a", "MD5", "no digest") + "</x>",
    ],
    ids=range(8),
)
def test_a_broken_manifest_has_no_checksums(text: str) -> None:
    """Broken XML, entities and wrong digests raise nothing."""
    assert checksums_in(text, "manifest.safe") == {}


@pytest.mark.parametrize(
    "text",
    [
        filled("http://"),
        filled("'http://a"),
        filled(" \t"),
        filled("checksum a"),
        filled("file size"),
    ],
    ids=range(5),
)
def test_hostile_texts_of_others_take_no_time(text: str) -> None:
    """1 MB of a message, a description, an address or a page is read within a second."""
    readers: list[Callable[[], object]] = [
        lambda: wording.without_addresses(text),
        lambda: asset_proof._SIZE_LINE.search(text),
        lambda: asset_proof._CHECKSUM_LINE.findall(text),
        lambda: asset_proof.HREF_TAIL.match(text),
        lambda: stac_assets._SUFFIX.search(text),
        lambda: stac_assets._NO_DATA_NAME.search(text),
        lambda: stac_assets._NO_DATA_TYPE.match(text),
        lambda: stac_assets._XML_TYPE.search(text),
        lambda: responses.gist(text),
        lambda: responses.gist("<title" * (MB // 6)),
    ]

    assert max(seconds(reader) for reader in readers) < 1
