"""The asset: one file to download, and the identity of its download."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.checksum import Checksum

GEODES = "geodes"
"""Name of the source that is the portal (HTTP)."""
S3 = "s3"
"""Name of the source that is the S3 datalake."""
REDIRECT = f"{GEODES}->"
"""Start of the name of a host to which the portal redirects: ``geodes->host``."""

PREVIEW_ROUTE = "/api/quicklook/"
"""Beginning of the portal's paths of previews, which need no key and cost no quota."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://geodes-portal.cnes.fr/geodes-tasks").bytes


class Unpack(StrEnum):
    """Treatment of an archive: a file, or a folder of its members."""

    NO = ""
    DROP = "drop"
    """The archive is removed when its folder is there."""
    KEEP = "keep"
    """The archive stays beside its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file to fetch and its proof in the catalogue; the only secret may be a signed href."""

    item_id: str
    """STAC id of the item, a URN in GEODES."""
    collection: str
    """STAC collection id; empty when the item names none."""
    key: str
    """Key of the asset within the item."""
    title: str
    """File name in the portal; not to be trusted as a path."""
    hrefs: Mapping[str, str]
    """Name of a source to the href there."""
    size_bytes: int | None = None
    """Bytes, as the catalogue has it; None if unknown."""
    checksum: Checksum | None = None
    """Digest in the catalogue; None if unknown, then the file ends unverified."""
    unpack: Unpack = Unpack.NO
    """Whether the archive becomes a folder; the final path is that of the folder then."""
    members: tuple[str, ...] = ()
    """Globs over the members of the archive that are wanted, sorted; none for all of it."""
    portal_ranges: bool = False
    """Whether members are fetched by ranges from the portal too, each a unit of quota."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that the ledger keeps."""
        return {
            "item": self.item_id,
            "collection": self.collection,
            "key": self.key,
            "title": self.title,
            "hrefs": dict(self.hrefs),
            "size": self.size_bytes,
            "checksum": str(self.checksum) if self.checksum else None,
            **({"unpack": str(self.unpack)} if self.unpack else {}),
            **({"members": list(self.members)} if self.members else {}),
            **({"portal_ranges": True} if self.portal_ranges else {}),
        }

    @property
    def content(self) -> str:
        """Return the identity of the bytes: the checksum, else the hrefs; and the members."""
        whole = str(self.checksum) if self.checksum else " ".join(sorted(self.hrefs.values()))
        return "\n".join((whole, *self.members)) if self.members else whole

    def is_ranged(self, source: str) -> bool:
        """Return whether members come from a source by ranges, where it serves them.

        The portal counts requests, not bytes: a range costs as much quota as the archive.
        """
        return source == S3 or self.portal_ranges

    def unsigned(self) -> Asset:
        """Return the asset without the queries of its hrefs, which may hold a signature."""
        if not any("?" in href for href in self.hrefs.values()):
            return self
        return replace(
            self, hrefs={name: href.partition("?")[0] for name, href in self.hrefs.items()}
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Asset:
        """Return the asset of a JSON form.

        Raises:
            KeyError: a field is missing.
            TypeError: the hrefs are no object, the size is no number, or a text is none.
            ValueError: the checksum cannot be read.
        """
        checksum, hrefs, size = data["checksum"], data["hrefs"], data["size"]
        if not isinstance(hrefs, dict) or not isinstance(size, int | None):
            raise TypeError("hrefs or size")
        words = data["item"], data["collection"], data["key"], data["title"], *hrefs.values()
        if not all(isinstance(word, str) for word in words):
            raise TypeError("a text")
        return cls(
            item_id=data["item"],
            collection=data["collection"],
            key=data["key"],
            title=data["title"],
            hrefs=data["hrefs"],
            size_bytes=data["size"],
            checksum=checksums.parse(checksum) if checksum else None,
            unpack=Unpack(data.get("unpack", "")),
            members=tuple(data.get("members", ())),
            portal_ranges=bool(data.get("portal_ranges")),
        )


def download_id(path: str, asset: Asset) -> str:
    """Return the id of a download: a UUID made of its final path and its checksum.

    Idempotent: enqueueing the same item again leads to the same id, so no file is downloaded
    twice. Without a checksum the hrefs identify the bytes.
    """
    # RFC 9562 section 5.5 (version 5: SHA-1 of namespace and name, then version and variant),
    # in a third of the time of uuid.uuid5: a rerun computes one for each file.
    name = f"{path}\n{asset.content}".encode()
    text = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
