"""What the stand-in serves: bodies of any size, the same on every run, with flat memory.

A generated body is a row of blocks. Each block is a window into one shared pseudo-random
buffer, at a place drawn from (seed, block number), headed by a stamp drawn from the same two.
Windows are views, so nothing is copied; any offset costs one hash; and bodies of two seeds
differ from end to end, so a splice of two bodies can never go unnoticed.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30

BLOCK = MiB
STAMP = 16

# Hashing several GiB takes seconds, so the digests of the big products of the seeded
# catalogue are written here; `tests/integration/test_standin.py` computes them again.
KNOWN_MD5 = {
    ("big-grd", 2 * GiB + 5 * MiB + 17): "6c60f7a639eb2cb516ea3a0fcb6bfe8b",
    ("big-slc", 4 * GiB + 3 * MiB + 29): "8c7b3bf382ee272c17de885dd7619a4c",
}

_digests: dict[tuple[str, int], str] = dict(KNOWN_MD5)
_digests_lock = threading.Lock()


class Body(Protocol):
    """Bytes that can be served from any offset."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def md5(self) -> str:
        """MD5 of the whole, 32 lower-case hex digits."""

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive), at most a block at a time."""


@functools.cache
def _noise() -> memoryview:
    """Return two blocks of pseudo-random bytes: one block, twice, so that windows may wrap."""
    block = hashlib.shake_256(b"geodes stand-in").digest(BLOCK)
    return memoryview(block + block)


class GeneratedBody:
    """A body made from a seed and a size; it is never held in memory."""

    def __init__(self, seed: str, size: int) -> None:
        self.seed = seed
        self.size = size

    @property
    def md5(self) -> str:
        """MD5 of the whole; computed once for each seed and size in a process."""
        key = (self.seed, self.size)
        with _digests_lock:
            known = _digests.get(key)
        if not known:
            known = digest(self)
            with _digests_lock:
                _digests[key] = known
        return known

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive), as views where that is possible."""
        stop = min(stop, self.size)
        while start < stop:
            index, offset = divmod(start, BLOCK)
            length = min(BLOCK - offset, stop - start)
            yield from self._cut(index, offset, offset + length)
            start += length

    def _cut(self, index: int, begin: int, end: int) -> Iterator[memoryview]:
        """Yield a part of one block: what is left of its stamp, then its window."""
        drawn = hashlib.blake2b(f"{self.seed}/{index}".encode(), digest_size=STAMP + 4).digest()
        if begin < STAMP:
            yield memoryview(drawn[begin : min(end, STAMP)])
        if end > STAMP:
            turn = int.from_bytes(drawn[STAMP:], "big") % BLOCK
            yield _noise()[turn + max(begin, STAMP) : turn + end]


class BytesBody:
    """A body that is in memory already."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self.size = len(content)

    @functools.cached_property
    def md5(self) -> str:
        """MD5 of the whole."""
        return hashlib.md5(self._content, usedforsecurity=False).hexdigest()

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive) in one piece."""
        if start < min(stop, self.size):
            yield self._content[start:stop]


class FileBody:
    """A file on disk; the server sends it with ``os.sendfile`` when nothing stands against it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    @functools.cached_property
    def md5(self) -> str:
        """MD5 of the file as it was when first asked for."""
        return digest(self)

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive), read block by block."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(BLOCK, stop - start))):
                start += len(chunk)
                yield memoryview(chunk)


class FlippedBody:
    """Another body with one byte turned over: same length, other digest."""

    def __init__(self, body: Body, at: int) -> None:
        self._body = body
        self._at = at
        self.size = body.size

    @functools.cached_property
    def md5(self) -> str:
        """MD5 of the damaged bytes."""
        return digest(self)

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of ``start`` to ``stop`` (exclusive), one of them wrong if within."""
        for chunk in self._body.chunks(start, stop):
            end = start + len(chunk)
            yield _flip(chunk, self._at - start) if start <= self._at < end else chunk
            start = end


def _flip(chunk: memoryview, index: int) -> memoryview:
    """Return a copy of ``chunk`` whose byte at ``index`` is inverted."""
    damaged = bytearray(chunk)
    damaged[index] ^= 0xFF
    return memoryview(damaged)


def digest(body: Body, algorithm: str = "md5") -> str:
    """Return the hex digest of a whole body, read once from end to end."""
    running = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in body.chunks(0, body.size):
        running.update(chunk)
    return running.hexdigest()


def read(body: Body, start: int = 0, stop: int | None = None) -> bytes:
    """Return bytes of a body; for tests, which compare them with what arrived."""
    return b"".join(body.chunks(start, body.size if stop is None else stop))
