"""Checksums: the forms that GEODES and STAC write, and the hashing of files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

READ_BYTES = 1024 * 1024
"""Bytes that are read from a file at once."""

# hash name -> (multihash prefix: code and length in hex, digest length in hex digits).
# Source: https://github.com/multiformats/multicodec/blob/master/table.csv
_MULTIHASH = {
    "md5": ("d50110", 32),
    "sha1": ("1114", 40),
    "sha256": ("1220", 64),
    "sha384": ("2030", 96),
    "sha512": ("1340", 128),
    "sha3_256": ("1620", 64),
}
# A bare digest of 64 digits is SHA-256, never SHA3-256: SAFE manifests name that algorithm.
_BARE = {digits: name for name, (_, digits) in _MULTIHASH.items() if name != "sha3_256"}
# BLAKE2 of n bytes: the examples of STAC's file extension, as long as a bare SHA-1.
_MULTIHASH |= {f"blake2b_{8 * n}": (f"{0x80 + n:x}e402{n:x}", 2 * n) for n in (16, 20, 28, 32, 64)}
_MULTIHASH |= {f"blake2s_{8 * n}": (f"{0xC0 + n:x}e402{n:x}", 2 * n) for n in (16, 20, 28, 32)}
_HEX = re.compile(r"[0-9a-f]+\Z")


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest in lower-case hex, and the name of its algorithm in hashlib, or ``blake2b_128``."""

    algorithm: str
    digest: str

    def __post_init__(self) -> None:
        """Check that the digest can be one of the algorithm.

        Raises:
            ValueError: unknown algorithm, or a digest of the wrong length or alphabet.
        """
        expected = _MULTIHASH.get(self.algorithm)
        if expected is None:
            raise ValueError(f"unknown checksum algorithm {self.algorithm!r}")
        if len(self.digest) != expected[1] or not _HEX.match(self.digest):
            raise ValueError(f"{self.digest!r} is not a {self.algorithm} digest in hex")

    def __str__(self) -> str:
        """Return the form of the ledger and of reports: ``md5:<hex>``."""
        return f"{self.algorithm}:{self.digest}"

    def is_of(self, content: bytes) -> bool:
        """Return whether some bytes in memory have this digest."""
        return new_hash(self.algorithm, content).hexdigest() == self.digest

    @property
    def multihash(self) -> str:
        """The form of ``file:checksum`` in STAC: a multihash in hex."""
        return _MULTIHASH[self.algorithm][0] + self.digest


def parse(text: str) -> Checksum:
    """Parse ``md5:<hex>``, a multihash in hex, or a bare digest, recognised by its length.

    Raises:
        ValueError: none of these.
    """
    if (found := _parsed(text.strip().lower())) is None:
        raise ValueError(f"{text!r} is no checksum: neither a multihash nor a bare hex digest")
    return found


# An item of GEODES has the same digest two or three times.
@lru_cache(maxsize=64)
def _parsed(cleaned: str) -> Checksum | None:
    algorithm, colon, digest = cleaned.partition(":")
    if colon:
        return Checksum(algorithm.replace("-", ""), digest.strip())
    # First: some multihashes are as long as a bare digest.
    for name, (prefix, digits) in _MULTIHASH.items():
        if cleaned.startswith(prefix) and len(cleaned) == len(prefix) + digits:
            return Checksum(name, cleaned[len(prefix) :])
    bare = _BARE.get(len(cleaned))
    return Checksum(bare, cleaned) if bare else None


def new_hash(algorithm: str, content: bytes = b"") -> hashlib._Hash:
    """Return a new hashlib object, which has hashed ``content``."""
    if algorithm.startswith("blake2"):
        name, _, bits = algorithm.partition("_")
        return cast("hashlib._Hash", getattr(hashlib, name)(content, digest_size=int(bits) // 8))
    # FIPS builds of OpenSSL refuse MD5 without this flag; here it finds broken bytes, no attacks.
    return hashlib.new(algorithm, content, usedforsecurity=False)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def hash_file(
    path: Path, algorithm: str, on_progress: Callable[[int], None] | None = None
) -> Checksum:
    """Return the checksum of a file; memory does not grow with the file.

    Args:
        path: The file.
        algorithm: As in :class:`Checksum`.
        on_progress: Called after each block with the bytes read so far; may raise to stop.

    Raises:
        OSError: the file cannot be read.
    """
    hasher, done = new_hash(algorithm), 0
    buffer = memoryview(bytearray(READ_BYTES))
    # A FIFO that took the place of the file since its stat would be waited for, without an end.
    with open(path, "rb", buffering=0, opener=_without_waiting) as stream:
        while size := stream.readinto(buffer):
            hasher.update(buffer[:size])
            done += size
            if on_progress is not None:
                on_progress(done)
    return Checksum(algorithm, hasher.hexdigest())
