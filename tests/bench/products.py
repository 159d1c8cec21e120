"""Sentinel-2 products with the names of real ones, made while they are served, and an S3 server."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
import zipfile
from bisect import bisect_left
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from tests.servers import HOST
from tests.standin.bodies import BLOCK, GeneratedBody

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE = b"T00000"
"""Tile in the names of the first product; each other one has its own, of the same length."""
SAFE = "S2A_MSIL2A_20250401T105031_N0511_R051_T00000_20250401T150112.SAFE"
GRANULE = f"{SAFE}/GRANULE/L2A_T00000_A050123_20250401T105031"
RESOLUTIONS = {
    10: (0.08, "AOT B02 B03 B04 B08 TCI WVP"),
    20: (0.02, "AOT B01 B02 B03 B04 B05 B06 B07 B11 B12 B8A SCL TCI WVP"),
    60: (0.0025, "AOT B01 B02 B03 B04 B05 B06 B07 B09 B11 B12 B8A SCL TCI WVP"),
}
"""Share of the archive that a band has, and the bands, by metres of a pixel."""
MASKS = 60
"""Number of quality masks, of a thousandth of the archive each."""


def names_and_sizes(size: int) -> dict[str, int]:
    """Return the members of a product of some bytes, with theirs."""
    found = {f"{SAFE}/manifest.safe": 60_000, f"{SAFE}/MTD_MSIL2A.xml": 50_000}
    found |= {
        f"{GRANULE}/QI_DATA/MSK_DETFOO_B{number:02}.jp2": size // 1000 for number in range(MASKS)
    }
    for metres, (share, bands) in RESOLUTIONS.items():
        for band in bands.split():
            name = f"{GRANULE}/IMG_DATA/R{metres}m/T00000_20250401T105031_{band}_{metres}m.jp2"
            found[name] = int(size * share)
    return found


def first_product(size: int) -> bytes:
    """Return the archive that all products are like, but for the tile in their names."""
    target = io.BytesIO()
    # Stored, as JPEG 2000 does not become smaller: so an archive is as long as its members.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, length in names_and_sizes(size).items():
            content = b"".join(GeneratedBody(name, length).chunks(0, length))
            archive.writestr(name, content)
    return target.getvalue()


class ProductBody:
    """The archive of one product; it has no bytes of its own but the tile in its names."""

    def __init__(self, first: bytes, places: list[int], number: int) -> None:
        """Take the first product, and where its tile is in it."""
        self._first, self._places = memoryview(first), places
        self._tile = f"T{number:05}".encode()
        self.size = len(first)

    @cached_property
    def md5(self) -> str:
        """MD5 of the whole."""
        found = hashlib.md5(usedforsecurity=False)
        for chunk in self.chunks(0, self.size):
            found.update(chunk)
        return found.hexdigest()

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive), a block at a time."""
        stop = min(stop, self.size)
        for begin in range(start, stop, BLOCK):
            end = min(begin + BLOCK, stop)
            first = bisect_left(self._places, begin - len(TILE))
            places = self._places[first : bisect_left(self._places, end)]
            if not places:
                yield self._first[begin:end]
                continue
            # Whole tiles are written, those that reach over an end of the block too.
            low, high = max(begin - len(TILE), 0), min(end + len(TILE), self.size)
            block = bytearray(self._first[low:high])
            for place in places:
                if low <= place and place + len(TILE) <= high:
                    block[place - low : place - low + len(TILE)] = self._tile
            yield memoryview(block)[begin - low : end - low]


def products(count: int, size: int) -> list[ProductBody]:
    """Return products of about some bytes each, all with other checksums."""
    first = first_product(size)
    places = [found.start() for found in re.finditer(TILE, first)]
    return [ProductBody(first, places, number) for number in range(count)]


class S3Bodies:
    """An S3 server of bodies by their key; it accepts every signature."""

    def __init__(self, bodies: dict[str, ProductBody], rate: int) -> None:
        """Take the bodies, and the bytes a second of each connection; nothing is served yet."""
        self.bodies, self.rate, self.sent_bytes = bodies, rate, 0
        self._server = ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"of": self}))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: S3Bodies

    def log_message(self, *_: Any) -> None:
        """Write nothing."""

    def do_GET(self) -> None:
        """Send an object, or a range of it."""
        body = self.of.bodies[self.path.partition("?")[0].rpartition("/")[2]]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, body.size - 1
        if found:
            first, last = int(found[1]), min(int(found[2] or last), last)
        self.send_response(206 if found else 200)
        self.send_header("ETag", f'"{body.md5}"')
        self.send_header("Content-Length", str(last + 1 - first))
        if found:
            self.send_header("Content-Range", f"bytes {first}-{last}/{body.size}")
        self.end_headers()
        began, sent = time.monotonic(), 0
        for chunk in body.chunks(first, last + 1):
            self.wfile.write(chunk)
            sent += len(chunk)
            time.sleep(max(0.0, began + sent / self.of.rate - time.monotonic()))
        self.of.sent_bytes += sent
