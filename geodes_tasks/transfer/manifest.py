"""Manifests of a product of many files: the checksums that they list."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from geodes_tasks.model.checksum import Checksum
from geodes_tasks.transfer.disk import open_file

MANIFEST_BYTES = 4 * 1024 * 1024
"""Size in bytes up to which a manifest is read, in some ten times the memory; the largest of the
Sentinels have some 100 kB."""

_MANIFEST = re.compile(r"(?:^|/)(?:manifest\.safe|md5sums?(?:\.txt)?|[^/]+\.md5)\Z", re.IGNORECASE)
_SUM_LINE = re.compile(r"\\?([0-9a-fA-F]{32})[ \t]+\*?(?:\./)?")
_ALGORITHMS = {"md5": "md5", "sha-256": "sha256", "sha256": "sha256", "sha3-256": "sha3_256"}
"""Names of checksums in SAFE manifests, in lower case, to those of hashlib."""


def is_manifest(name: str) -> bool:
    """Return whether a file lists checksums of others, by its name below the folder."""
    return _MANIFEST.search(name) is not None


def checksums_of(folder: Path, name: str, size_bytes: int) -> dict[str, Checksum]:
    """Return the checksums that one file lists, by name below the folder; none if no manifest.

    Args:
        folder: Folder of the product.
        name: Name of the file below it.
        size_bytes: Size of the file, in bytes.

    Raises:
        OSError: it cannot be read.
    """
    if not is_manifest(name) or size_bytes > MANIFEST_BYTES:
        return {}
    # Something else may have its place by now: a link, a FIFO, a file of gigabytes.
    with open_file(folder / name) as stream:
        text = stream.read(MANIFEST_BYTES).decode("utf-8", "replace")
    return checksums_in(text, name)


def checksums_below(folder: Path, sizes: Mapping[str, int]) -> dict[str, Checksum]:
    """Return the checksums that all manifests in a folder list for files in it.

    Args:
        folder: Folder of the product.
        sizes: Size in bytes of each file, by its name below the folder.

    Raises:
        OSError: a manifest cannot be read.
    """
    known = dict[str, Checksum]()
    for name in sorted(sizes):
        known |= checksums_of(folder, name, sizes[name])
    return {name: checksum for name, checksum in known.items() if name in sizes}


def checksums_in(text: str, manifest: str) -> dict[str, Checksum]:
    """Parse a manifest; return checksums by name below the product's folder.

    The time is linear in the size of the text. A manifest that cannot be parsed has no checksums.

    Args:
        text: Content of the manifest.
        manifest: Its name below the folder: the names within are relative to its own folder.
    """
    if manifest.lower().endswith(".safe"):
        pairs = [(name, checksum) for name, checksum in _checksums_in_safe(text) if name]
    else:
        # Lines of md5sum: digest, two blanks or a blank and `*`, name; the name may have blanks.
        lines = [line.lstrip() for line in io.StringIO(text)]
        matches = [(line, found) for line in lines if (found := _SUM_LINE.match(line))]
        named = [(line[found.end() :].strip(), found[1].lower()) for line, found in matches]
        pairs = [(name, Checksum("md5", digest)) for name, digest in named if name]
    parent = manifest.rpartition("/")[0]
    return {f"{parent}/{name}" if parent else name: checksum for name, checksum in pairs}


def _checksums_in_safe(text: str) -> Iterator[tuple[str, Checksum]]:
    """Yield names and checksums of a SAFE manifest; none when it is broken or has entities."""
    if "<!DOCTYPE" in text:
        return  # its entities could expand to gigabytes ("billion laughs")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no entities
    except (ElementTree.ParseError, UnicodeError):
        return
    for stream in root.iterfind(".//{*}byteStream"):
        location = stream.find("{*}fileLocation")
        href = "" if location is None else location.get("href", "").removeprefix("./")
        for checksum in stream.iterfind("{*}checksum"):
            algorithm = _ALGORITHMS.get(checksum.get("checksumName", "").lower(), "")
            with contextlib.suppress(ValueError):  # not a digest of that algorithm
                yield href, Checksum(algorithm, (checksum.text or "").strip().lower())
