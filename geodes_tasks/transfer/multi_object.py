"""A product that is a folder of objects: one download, one folder, every file proven.

Size proves each file, and where the product has a manifest (a SAFE manifest with MD5 or SHA3-256,
a list of MD5 sums) its checksums do. The folder grows beside its final name, as part files do: one
attempt owns it, a next one takes over what a dead one left by renaming it, and it appears whole or
not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from typing import TYPE_CHECKING, Protocol
from xml.parsers import expat

from geodes_tasks.errors import HostileNameError, LeaseLostError, NotAFileError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer.destination import refused_name
from geodes_tasks.transfer.partfile import FOLDER, local_errors, stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from geodes_tasks.errors import GeodesTasksError
    from geodes_tasks.transfer.callbacks import Callbacks
    from geodes_tasks.transports import Member, Transport

ENDING = "folder"
"""Of the folder in which a product grows."""
MANIFEST_BYTES = 16 * 1024 * 1024
"""A manifest larger than that is not read."""

_MANIFEST = re.compile(r"(?:^|/)(?:manifest\.safe|md5sums?(?:\.txt)?|[^/]+\.md5)\Z", re.IGNORECASE)
_SUM_LINE = re.compile(r"\\?([0-9a-fA-F]{32})[ \t]+\*?(?:\./)?")
_ALGORITHMS = {"md5": "md5", "sha-256": "sha256", "sha256": "sha256", "sha3-256": "sha3_256"}
"""Names of checksums in SAFE manifests, in lower case, to those of hashlib."""
_FEED_CHARACTERS = 1024 * 1024
"""Characters of a manifest that are parsed at once. Old versions of expat read a long token again
with each call, so many small calls would take quadratic time."""
_DIGEST_CHARACTERS = 256
"""Characters of a checksum element that are kept; no digest with its blanks is longer."""


class Download(Protocol):
    """The engine's way to fetch one file."""

    def __call__(
        self,
        asset: Asset,
        final: Path,
        transports: Mapping[str, Transport],
        *,
        callbacks: Callbacks,
        token: str,
    ) -> DownloadResult:
        """Fetch it, prove it, publish it."""
        ...


def fetch(
    asset: Asset,
    final: Path,
    source: tuple[str, Transport],
    *,
    callbacks: Callbacks,
    token: str,
    content: str,
    download: Download,
) -> DownloadResult:
    """Fetch all objects below an address into one folder; it appears when all are proven.

    Raises:
        HostileNameError: an object would leave the folder.
        NotAFileError: something is at the final name.
        GeodesTasksError: as for a file; what was fetched is kept for the next attempt.
    """
    name, transport = source
    with local_errors(final):
        if final.exists():
            raise NotAFileError(str(final), "folder")
    callbacks.before_open(name)
    members = sorted(transport.members(asset.hrefs[name]), key=_manifests_first)
    part = PartFolder(final, content, token)
    part.make()
    known, proven, done, received = dict[str, Checksum](), 0, 0, 0
    for member in members:
        checked_name(asset, member.name)
        one = _asset_of(asset, member, known.get(member.name), name)
        place = part.path / member.name
        with local_errors(place):
            is_there = one.checksum is None and _has_size(place, member.size_bytes)
        if not is_there:
            beside = _Beside(callbacks, done)
            result = download(one, place, {name: transport}, callbacks=beside, token=token)
            received += result.bytes_transferred
        with local_errors(place):
            known |= _sums_of(part.path, member.name, member.size_bytes)
        proven += one.checksum is not None or is_manifest(member.name)
        done += member.size_bytes
        callbacks.progress(done)
    callbacks.confirm()
    proof = part.publish({member.name: member.size_bytes for member in members})
    return DownloadResult(
        outcome=Outcome.DOWNLOADED if received == done else Outcome.RESUMED,
        path=str(final),
        size_bytes=done,
        checksum=None,
        verified=bool(known) and proven == len(members),
        bytes_transferred=received,
        source=name,
        sources={name: received} if received else {},
        proof=proof,
    )


def present(final: Path, proof: Proof | None) -> DownloadResult:
    """Take a folder for present when no stat of its files has changed since it was proven.

    Raises:
        NotAFileError: it is another folder, or was changed.
    """
    found = proof_of(final)
    if found != proof:
        raise NotAFileError(str(final), "folder")
    return DownloadResult(
        outcome=Outcome.ALREADY_PRESENT,
        path=str(final),
        size_bytes=found.size_bytes,
        checksum=None,
        verified=False,
        bytes_transferred=0,
        source=None,
        proof=found,
    )


def checked_name(asset: Asset, name: str) -> None:
    """Refuse the name of an object that would not stay below the folder.

    Raises:
        HostileNameError: it would not.
    """
    if problem := refused_name(name):
        raise HostileNameError(asset.item_id, f"an object of it {problem}")


def is_manifest(name: str) -> bool:
    """Tell a manifest, which says what the others are, by its name below the folder."""
    return _MANIFEST.search(name) is not None


def checksums_in(text: str, manifest: str) -> dict[str, Checksum]:
    """Parse the checksums of a manifest; names are below the folder that it lies in.

    The time is linear in the size of the text. A manifest that cannot be parsed has no checksums.
    """
    is_safe = manifest.lower().endswith(".safe")
    pairs = _SafeManifest().parse(text) if is_safe else _sums_in_list(text)
    place = manifest.rpartition("/")[0]
    return {f"{place}/{name}" if place else name: checksum for name, checksum in pairs}


def _sums_in_list(text: str) -> Iterator[tuple[str, Checksum]]:
    """Yield the names and sums of a list as md5sum writes it."""
    for line in io.StringIO(text):
        found = _SUM_LINE.match(line.lstrip())
        if found and (name := line.lstrip()[found.end() :].strip()):
            yield name, Checksum("md5", found[1].lower())


class _RefusedManifestError(Exception):
    """The manifest declares a document type, which could declare entities that explode."""


class _SafeManifest:
    """Collects the checksums of a SAFE manifest, element by element."""

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


def _manifests_first(member: Member) -> tuple[bool, str]:
    return not is_manifest(member.name), member.name


def _asset_of(asset: Asset, member: Member, checksum: Checksum | None, source: str) -> Asset:
    return Asset(
        item_id=asset.item_id,
        collection=asset.collection,
        key=asset.key,
        title=member.name,
        hrefs={source: member.href},
        size_bytes=member.size_bytes,
        checksum=checksum,
    )


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


class _Beside:
    """Tells of one file of many as of a part of the whole."""

    def __init__(self, callbacks: Callbacks, before: int) -> None:
        self._callbacks, self._before = callbacks, before

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Add what came before."""
        self._callbacks.progress(self._before + done_bytes, received_bytes)

    def before_open(self, source: str) -> None:
        """Pass it on."""
        self._callbacks.before_open(source)

    def source_failed(self, source: str, error: GeodesTasksError) -> None:
        """Pass it on."""
        self._callbacks.source_failed(source, error)

    def confirm(self) -> None:
        """Ask for the whole only, at its end."""


# --- on disk -----------------------------------------------------------------------------------


class PartFolder:
    """The files of one attempt."""

    def __init__(self, final: Path, content: str, token: str) -> None:
        """Name it; nothing is touched yet. The arguments are those of a part file."""
        self.final, self._token = final, int(token)
        self._place, self._stem = final.parent / FOLDER, stem(final, content)
        self.path = self._place / f"{self._stem}.{token}.{ENDING}"

    def make(self) -> None:
        """Create it, or take over what a dead attempt left.

        Raises:
            DiskError, NotAFileError: it cannot be created.
        """
        with local_errors(self.final):
            self._place.mkdir(parents=True, exist_ok=True)
            for left in self._others():
                with contextlib.suppress(OSError):
                    left.rename(self.path)
                    return
            self.path.mkdir(exist_ok=True)

    def _others(self) -> Iterable[Path]:
        """Name what earlier attempts left, the latest first."""
        found = self._place.glob(f"{_escaped(self._stem)}.*.{ENDING}")
        older = [(int(path.name.split(".")[-2]), path) for path in found if _token_of(path)]
        return [path for token, path in sorted(older, reverse=True) if token < self._token]

    def publish(self, sizes: dict[str, int]) -> Proof:
        """Give the folder its final name in one step, when every file is in it.

        Raises:
            LeaseLostError: another attempt has taken this folder over.
            NotAFileError: something else stands at the final name.
            DiskError: the disk does not take it.
        """
        with local_errors(self.final):
            try:
                whole = all((self.path / name).stat().st_size == sizes[name] for name in sizes)
            except FileNotFoundError as error:
                raise LeaseLostError(str(self.final)) from error
            if not whole:
                raise LeaseLostError(str(self.final))
            _drop_litter(self.path)
            try:
                self.path.rename(self.final)
            except OSError as error:
                if self.final.exists():
                    raise NotAFileError(str(self.final), "folder") from error
                raise
            proof = proof_of(self.final)
        self.sweep()
        return proof

    def sweep(self) -> None:
        """Remove what this and earlier attempts left."""
        for path in [*self._others(), self.path]:
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._place.rmdir()


def proof_of(folder: Path) -> Proof:
    """Give what the stats of all files in a folder show together."""
    size, newest = 0, 0
    for _, found in _stats(folder):
        size, newest = size + found.st_size, max(newest, found.st_mtime_ns)
    return Proof(size, newest, folder.stat().st_ino)


def sizes_in(folder: Path) -> dict[str, int]:
    """Give the size of each file in a folder, by its name below it.

    Raises:
        OSError: they cannot be looked at.
    """
    return {os.path.relpath(path, folder): found.st_size for path, found in _stats(folder, _raise)}


def _stats(
    folder: Path, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, os.stat_result]]:
    for place, _, names in os.walk(folder, onerror=on_error):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - many of them
            yield path, os.stat(path)  # noqa: PTH116


def _raise(error: OSError) -> None:
    raise error


def sums_in(folder: Path, sizes: Mapping[str, int]) -> dict[str, Checksum]:
    """Return the checksums that the manifests in a folder have of files in it.

    Raises:
        OSError: they cannot be read.
    """
    known = dict[str, Checksum]()
    for name in sorted(sizes):
        known |= _sums_of(folder, name, sizes[name])
    return {name: checksum for name, checksum in known.items() if name in sizes}


def _sums_of(folder: Path, name: str, size_bytes: int) -> dict[str, Checksum]:
    """Read one file as the manifest that it may be."""
    if not is_manifest(name) or size_bytes > MANIFEST_BYTES:
        return {}
    return checksums_in((folder / name).read_text("utf-8", "replace"), name)


def _drop_litter(folder: Path) -> None:
    """Remove the part files that broken attempts left within."""
    for place in list(folder.rglob(FOLDER)):
        shutil.rmtree(place, ignore_errors=True)


def _token_of(path: Path) -> bool:
    token = path.name.split(".")[-2]
    return token.isascii() and token.isdigit()


def _escaped(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
