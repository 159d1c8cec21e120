"""Check whether a successful response has the file, or a message in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from geodes_tasks.model.asset import Asset
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http.exchange import MAX_MESSAGE_BYTES
from geodes_tasks.transports.http.responses import media_type

SNIFFED_BYTES = 512
"""Bytes at the start of a body that are enough to see a page or a message."""

# Control characters that no text has: those in front of TAB, and from SO to SUB.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a]")
_PREFACE = re.compile(rb"\s*(<\?[^>]*>|<!--(?:[^-]|-(?!->))*-->)")
_HTML = re.compile(rb"\s*(<!doctype\s+html|<html|<head|<body)", re.IGNORECASE)
_JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\]])')
# What GEODES says in place of a file has this field (REGARDS: correlationId, type, message, time).
_MESSAGE = re.compile(rb'"message"\s*:')
_TEXT_SUFFIXES = {
    ".xml": "xml", ".kml": "xml", ".gml": "xml", ".safe": "xml", ".svg": "xml", ".html": "html",
    ".htm": "html", ".json": "json", ".geojson": "json", ".txt": "text", ".csv": "text",
    ".md5": "text", ".log": "text", ".dim": "xml", ".met": "text", ".mtl": "text",
}  # fmt: skip
"""Suffix of a file to the kind of text that it holds."""


def kind_of(first: bytes, media: str = "") -> str:
    """Return ``html``, ``xml``, ``json`` or ``text`` by the first bytes; empty for binary data."""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        first = first.decode("utf-16", "replace").encode()
    start = first.removeprefix(b"\xef\xbb\xbf")
    if is_binary(start):
        return ""
    while preface := _PREFACE.match(start):
        start = start[preface.end() :]
    if _HTML.match(start):
        return "html"
    if start.lstrip().startswith(b"<"):
        return "xml"
    if _JSON.match(start):
        return "json"
    is_text = media.startswith("text/") or media.endswith(("json", "xml"))
    return "text" if is_text and start.strip() else ""


def text_of(body: bytes) -> str:
    """Return a body as text; of binary data only how much there is."""
    if is_binary(body):
        return f"{len(body)} bytes of binary data"
    return body.decode("utf-8", "replace")


def is_binary(start: bytes) -> bool:
    """Return whether bytes hold control characters that no text has."""
    return _CONTROL.search(start, 0, SNIFFED_BYTES) is not None


def is_message(
    headers: Mapping[str, str],
    first: bytes,
    length: int | None,
    asset: Asset | None,
    *,
    of_portal: bool,
) -> bool:
    """Return whether the body of a response looks like a page or a message instead of the file.

    Args:
        headers: Headers of the response.
        first: At least ``SNIFFED_BYTES`` from the start of the body, or all of it.
        length: Bytes announced; None when unknown.
        asset: What is wanted; None when unknown.
        of_portal: Whether the portal was asked: it has no JSON or HTML files without a name.
    """
    media = media_type(headers)
    kind = kind_of(first, media)
    if not kind:
        return False
    if asset is not None and asset.size_bytes is not None and length is not None:
        return length != asset.size_bytes
    # GEODES marks every response for a file as an attachment (RFC 6266 section 4.2): JSON and HTML
    # files, and also its messages.
    shown = headers.get("Content-Disposition", "").strip().lower()
    is_attachment = shown.startswith("attachment")
    if asset is None:
        is_other = kind == "html" or (of_portal and (kind == "json" or media.endswith("json")))
        return is_other and not is_attachment
    wanted = _TEXT_SUFFIXES.get(PurePosixPath(asset.title).suffix.lower())
    if kind not in {"html", "json"}:
        return wanted is None and not is_attachment
    is_said = kind == "html" or not is_attachment or _MESSAGE.search(first) is not None
    return kind != wanted and is_said


def begin(
    reader: BodyReader, headers: Mapping[str, str], asset: Asset | None, *, of_portal: bool
) -> tuple[bytes, bool]:
    """Read the start of a body; return it, and whether it is a message in place of the file.

    The checksum decides, where there is one.

    Raises:
        GeodesTasksError: as :meth:`BodyReader.read`.
    """
    first = _start(reader, SNIFFED_BYTES)
    if not is_message(headers, first, reader.length, asset, of_portal=of_portal):
        return first, False
    if asset is None or asset.checksum is None:
        return first, True
    # No message is longer, so a longer body goes the way of all files: to its checksum.
    first += _start(reader, MAX_MESSAGE_BYTES)
    return first, len(first) <= MAX_MESSAGE_BYTES and not asset.checksum.is_of(first)


def _start(reader: BodyReader, least: int) -> bytes:
    """Read at least ``least`` bytes; fewer are the rest of the body."""
    start = piece = reader.read()
    while piece and len(start) < least:
        piece = reader.read()
        start += piece
    return start
