"""Manifests of a product of many files: the checksums that they list."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

from geodes_tasks.model.checksum import Checksum

MANIFEST_BYTES = 16 * 1024 * 1024
"""Size in bytes up to which a manifest is read; the largest of the Sentinels have some 100 kB."""

_MANIFEST = re.compile(r"(?:^|/)(?:manifest\.safe|md5sums?(?:\.txt)?|[^/]+\.md5)\Z", re.IGNORECASE)
_SUM_LINE = re.compile(r"\\?([0-9a-fA-F]{32})[ \t]+\*?(?:\./)?")
_ALGORITHMS = {"md5": "md5", "sha-256": "sha256", "sha256": "sha256", "sha3-256": "sha3_256"}
"""Names of checksums in SAFE manifests, in lower case, to those of hashlib."""
_FEED_CHARACTERS = 1024 * 1024
"""Number of characters that are parsed at once. Expat before 2.6.0 scans a long token again with
each call (CVE-2023-52425), so many small calls would take quadratic time."""
_DIGEST_CHARACTERS = 256
"""Number of characters of a checksum element that are kept; no digest with its blanks is longer."""


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
    return checksums_in((folder / name).read_text("utf-8", "replace"), name)


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
        pairs = _SafeManifest().parse(text)
    else:
        # Lines of md5sum: digest, two blanks or a blank and `*`, name; the name may have blanks.
        lines = [line.lstrip() for line in io.StringIO(text)]
        matches = [(line, found) for line in lines if (found := _SUM_LINE.match(line))]
        named = [(line[found.end() :].strip(), found[1].lower()) for line, found in matches]
        pairs = [(name, Checksum("md5", digest)) for name, digest in named if name]
    parent = manifest.rpartition("/")[0]
    return {f"{parent}/{name}" if parent else name: checksum for name, checksum in pairs}


class _RefusedManifestError(Exception):
    """Raised for a document type: its entities could expand to gigabytes ("billion laughs")."""


class _SafeManifest:
    """Parser that collects the checksums of a SAFE manifest, element by element."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Checksum]] = []
        self._href, self._algorithm, self._digest = "", "", ""
        self._checksum: Checksum | None = None

    def parse(self, text: str) -> list[tuple[str, Checksum]]:
        """Return names and checksums; none when the text is broken or has a document type."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            for begin in range(0, len(text), _FEED_CHARACTERS):
                parser.Parse(text[begin : begin + _FEED_CHARACTERS], False)
            parser.Parse("", True)
        except (expat.ExpatError, UnicodeError, _RefusedManifestError):
            return []
        return self._found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "byteStream":
            self._href, self._checksum = "", None
        elif name == "fileLocation":
            self._href = attributes.get("href", "").removeprefix("./")
        elif name == "checksum":
            self._digest = ""
            self._algorithm = _ALGORITHMS.get(attributes.get("checksumName", "").lower(), "")

    def _characters(self, data: str) -> None:
        if self._algorithm and len(self._digest) < _DIGEST_CHARACTERS:
            self._digest += data[:_DIGEST_CHARACTERS]

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if name == "checksum" and self._algorithm:
            with contextlib.suppress(ValueError):  # not a digest of that algorithm
                self._checksum = Checksum(self._algorithm, self._digest.strip().lower())
            self._algorithm = ""
        elif name == "byteStream" and self._href and self._checksum is not None:
            self._found.append((self._href, self._checksum))

    def _refuse(self, *_: object) -> None:
        raise _RefusedManifestError
