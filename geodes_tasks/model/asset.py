"""One file to download, as the rest of the program knows it: the asset and its identity."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geodes_tasks.model import checksum as checksums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.model.checksum import Checksum

GEODES = "geodes"
"""Source name of the portal (HTTP)."""
S3 = "s3"
"""Source name of the datalake."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://geodes-portal.cnes.fr/geodes-tasks").bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What to fetch and how to prove it. Nothing in it is secret."""

    item_id: str
    """STAC id of the item, a URN in GEODES."""
    collection: str
    """STAC collection id; empty when the item names none."""
    key: str
    """Key of the asset within the item."""
    title: str
    """File name that the portal gives it; not to be trusted as a path."""
    hrefs: Mapping[str, str]
    """Where it can be had: source name to href."""
    size_bytes: int | None = None
    """Size in the catalogue; None when it is silent."""
    checksum: Checksum | None = None
    """Digest in the catalogue; None when it is silent, then the file ends unverified."""
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)
    """STAC fields of the item for the layout template; not kept after planning."""

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form that the ledger keeps."""
        return {
            "item": self.item_id,
            "collection": self.collection,
            "key": self.key,
            "title": self.title,
            "hrefs": dict(self.hrefs),
            "size": self.size_bytes,
            "checksum": str(self.checksum) if self.checksum else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Asset:
        """Read the JSON form back.

        Raises:
            KeyError: a field is missing.
            TypeError: the addresses or the size are of another kind.
            ValueError: the checksum cannot be read.
        """
        checksum, hrefs, size = data["checksum"], data["hrefs"], data["size"]
        if not isinstance(hrefs, dict) or not isinstance(size, int | None):
            raise TypeError("hrefs or size")
        return cls(
            item_id=data["item"],
            collection=data["collection"],
            key=data["key"],
            title=data["title"],
            hrefs=data["hrefs"],
            size_bytes=data["size"],
            checksum=checksums.parse(checksum) if checksum else None,
        )


def download_id(path: str, asset: Asset) -> str:
    """Derive the id of a download from its final path and the bytes that belong there.

    Asking twice is therefore asking once, and the id needs no storing to be found again.
    Without a checksum the portal's href stands for the bytes.
    """
    content = str(asset.checksum) if asset.checksum else " ".join(sorted(asset.hrefs.values()))
    # As uuid.uuid5 gives it, in a third of its time: a rerun makes one for each file.
    name = f"{path}\n{content}".encode()
    text = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
