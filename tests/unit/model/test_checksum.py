"""Checksums are read in every form that catalogues write, and hashing uses flat memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.model import checksum
from geodes_tasks.model.checksum import Checksum

if TYPE_CHECKING:
    from pathlib import Path

PREFIXES = {"md5": "d50110", "sha1": "1114", "sha256": "1220", "sha384": "2030", "sha512": "1340"}
DIGESTS = {name: hashlib.new(name, b"geodes").hexdigest() for name in PREFIXES}
MD5 = DIGESTS["md5"]


@pytest.mark.parametrize("algorithm", PREFIXES)
def test_every_form_of_every_algorithm(algorithm: str) -> None:
    """A digest is told bare, as multihash and with its name, in either case."""
    digest = DIGESTS[algorithm]
    expected = Checksum(algorithm, digest)

    for text in (digest, PREFIXES[algorithm] + digest, f"{algorithm}:{digest}", f" {digest}\n"):
        assert checksum.parse(text) == expected
        assert checksum.parse(text.upper()) == expected


@pytest.mark.parametrize("text", [f"MD5: {MD5}", f"md5:{MD5}"])
def test_spaces_around_the_name(text: str) -> None:
    """The digest may stand apart from its name."""
    assert checksum.parse(text) == Checksum("md5", MD5)


def test_name_with_hyphen() -> None:
    """SHA-256, as Java writes it, is sha256."""
    assert checksum.parse(f"SHA-256:{DIGESTS['sha256']}").algorithm == "sha256"


@pytest.mark.parametrize("algorithm", PREFIXES)
def test_written_forms_are_read_back(algorithm: str) -> None:
    """Both forms that are written are read as the same checksum."""
    original = Checksum(algorithm, DIGESTS[algorithm])

    assert checksum.parse(str(original)) == original
    assert checksum.parse(original.multihash) == original


@pytest.mark.parametrize(
    ("name", "size_bytes", "prefix"),
    [
        ("blake2b", 16, "90e40210"),
        ("blake2s", 16, "d0e40210"),
        ("blake2b", 28, "9ce4021c"),
        ("blake2b", 64, "c0e40240"),
    ],
)
def test_multihashes_as_long_as_a_bare_digest(name: str, size_bytes: int, prefix: str) -> None:
    """The example of STAC's file extension is BLAKE2b of 128 bits, no SHA-1 of other bytes."""
    digest = getattr(hashlib, name)(b"geodes", digest_size=size_bytes).hexdigest()

    found = checksum.parse(prefix + digest)

    assert found == Checksum(f"{name}_{8 * size_bytes}", digest)
    assert checksum.parse(str(found)) == checksum.parse(found.multihash) == found
    assert found.is_of(b"geodes")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        MD5[:-1],
        MD5 + "0",
        "z" * 32,
        "d50111" + MD5,
        "1220" + MD5,
        f"crc32:{MD5}",
        f"sha256:{MD5}",
        "md5:",
        "md5:null",
        "٣" * 32,
    ],
)
def test_what_is_no_checksum(text: str) -> None:
    """A wrong length, alphabet, prefix or algorithm is refused, not guessed."""
    with pytest.raises(ValueError, match=r"checksum|digest"):
        checksum.parse(text)


@given(st.text())
def test_any_text_is_a_checksum_or_a_value_error(text: str) -> None:
    """Parsing raises nothing but ValueError."""
    try:
        found = checksum.parse(text)
    except ValueError:
        return

    assert checksum.parse(str(found)) == found


def test_upper_case_is_refused_by_the_constructor() -> None:
    """A Checksum is lower case, so that equal digests are equal objects."""
    with pytest.raises(ValueError, match="not a md5 digest"):
        Checksum("md5", MD5.upper())


def test_equal_digests() -> None:
    """Digests are equal when algorithm and hex are the same."""
    assert Checksum("md5", MD5) == checksum.parse(MD5.upper())
    assert Checksum("md5", MD5) != Checksum("sha1", DIGESTS["sha1"])


@pytest.mark.parametrize("algorithm", PREFIXES)
def test_new_hash(algorithm: str) -> None:
    """Every algorithm that can be read can be computed."""
    hasher = checksum.new_hash(algorithm)
    hasher.update(b"geodes")

    assert hasher.hexdigest() == DIGESTS[algorithm]


@pytest.mark.parametrize("size", [0, 1, checksum.READ_BYTES, 2 * checksum.READ_BYTES + 7])
def test_hash_file(tmp_path: Path, size: int) -> None:
    """A file on disk has the digest of its bytes, and progress ends at its size."""
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "file"
    path.write_bytes(content)
    seen: list[int] = []

    found = checksum.hash_file(path, "md5", seen.append)

    assert found == Checksum("md5", hashlib.md5(content).hexdigest())
    assert seen == sorted(seen)
    assert (seen or [0])[-1] == size


def test_hashing_can_be_stopped(tmp_path: Path) -> None:
    """What the progress callback raises comes through."""
    path = tmp_path / "file"
    path.write_bytes(b"x")

    def stop(_: int) -> None:
        raise InterruptedError("lease lost")

    with pytest.raises(InterruptedError, match="lease lost"):
        checksum.hash_file(path, "md5", stop)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is the system's own error."""
    with pytest.raises(FileNotFoundError, match="missing"):
        checksum.hash_file(tmp_path / "missing", "md5")


@pytest.mark.parametrize("algorithm", PREFIXES)
def test_bytes_in_memory(algorithm: str) -> None:
    """Bytes have their digest, and no others have it."""
    known = Checksum(algorithm, DIGESTS[algorithm])

    assert known.is_of(b"geodes") is True
    assert known.is_of(b"geodeS") is False
