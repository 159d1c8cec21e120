"""Answers to ``Range`` requests, right and wrong (RFC 9110 section 14)."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.standin.answers import Answer, error
from tests.standin.bodies import BytesBody, GeneratedBody, read
from tests.standin.modes import RangeBehaviour

INVITING = {
    RangeBehaviour.GOOD, RangeBehaviour.WRONG_CONTENT_RANGE, RangeBehaviour.LYING_CONTENT_RANGE,
    RangeBehaviour.UNSATISFIABLE, RangeBehaviour.CHANGED, RangeBehaviour.MULTIPART,
}  # fmt: skip


def etag(md5: str, version: str = "1") -> str:
    """Return a validator that nobody can take for the file's digest."""
    return f'"{md5[:12]}-{version}"'


def parse(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end (exclusive) a ``Range`` header asks for, or None."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not found or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def ranged(
    whole: Answer, behaviour: RangeBehaviour, md5: str, wanted: str | None, if_range: str | None
) -> Answer:
    """Return what a request gets, whether or not it asks for a range.

    Args:
        whole: The answer that sends the whole file.
        behaviour: How the server deals with ranges.
        md5: The file's digest, from which its validator is made.
        wanted: The ``Range`` header, if any.
        if_range: The ``If-Range`` header, if any.
    """
    if behaviour in INVITING:
        whole = whole.with_headers(("ETag", etag(md5)), ("Accept-Ranges", "bytes"))
    if wanted is None or behaviour is RangeBehaviour.IGNORE:
        return whole
    if behaviour is RangeBehaviour.ERROR_500:
        return error(500, "Internal Server Error", "INTERNAL_SERVER_ERROR")
    span = parse(wanted, whole.content.size)
    if span is None:
        return whole
    if behaviour is RangeBehaviour.UNSATISFIABLE or span[0] >= whole.content.size:
        return error(416, "Range Not Satisfiable").with_headers(
            ("Content-Range", f"bytes */{whole.content.size}")
        )
    if behaviour is RangeBehaviour.GOOD and if_range not in (None, etag(md5)):
        return whole
    return _partial(whole, behaviour, md5, *span)


def _partial(whole: Answer, behaviour: RangeBehaviour, md5: str, start: int, stop: int) -> Answer:
    """Return the 206 of one behaviour for the bytes asked for."""
    if behaviour is RangeBehaviour.MULTIPART:
        return _multipart(whole, start, stop)
    if behaviour is RangeBehaviour.WRONG_CONTENT_RANGE:
        return _labelled(whole, start // 2, stop)
    if behaviour is RangeBehaviour.LYING_CONTENT_RANGE:
        shifted = _labelled(whole, start, stop)
        return replace(shifted, start=start // 2, stop=start // 2 + stop - start)
    if behaviour in (RangeBehaviour.CHANGED, RangeBehaviour.CHANGED_NO_ETAG):
        whole = replace(whole, content=GeneratedBody(f"changed/{md5}", whole.content.size))
    if behaviour is RangeBehaviour.CHANGED:
        whole = whole.with_headers(("ETag", etag(md5, "2")))
    return _labelled(whole, start, stop)


def _labelled(whole: Answer, start: int, stop: int) -> Answer:
    """Return a 206 with the bytes it says it has."""
    label = ("Content-Range", f"bytes {start}-{stop - 1}/{whole.content.size}")
    return replace(whole, status=206, start=start, stop=stop).with_headers(label)


def _multipart(whole: Answer, start: int, stop: int) -> Answer:
    """Return a 206 whose body is a multipart document with a single part."""
    kind = whole.header("Content-Type") or "application/octet-stream"
    label = f"bytes {start}-{stop - 1}/{whole.content.size}"
    head = f"\r\n--standin\r\nContent-Type: {kind}\r\nContent-Range: {label}\r\n\r\n".encode()
    body = head + read(whole.content, start, stop) + b"\r\n--standin--\r\n"
    outer = ("Content-Type", "multipart/byteranges; boundary=standin")
    return replace(whole, status=206, content=BytesBody(body)).with_headers(outer)
