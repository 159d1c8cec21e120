"""What an item of the catalogue is to look like, and the files behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.standin.bodies import Body, MiB

Item = dict[str, Any]


@dataclass(frozen=True)
class ItemSpec:
    """What an item is to look like; every default gives the shape of a real item."""

    size: int = 2 * MiB
    """Bytes of the archive."""
    collection: str = "PEPS_S2_L1C"
    """Its collection, and its ``dataset``."""
    identifier: str | None = None
    """The product's name; one is made up from the number of the item when None."""
    title: str | None = None
    """Title and key of the archive's asset; ``<identifier>.zip`` when None."""
    urn: str | None = None
    """The item's id; made from the identifier when None."""
    seed: str | None = None
    """Seed of the archive's bytes; two items with one seed and size have the same bytes."""
    body: Body | bytes | None = None
    """The archive's bytes when they are not to be made up."""
    members: dict[str, bytes] | None = None
    """Names and contents of a real zip archive to serve; ``size`` does not matter then."""
    content_type: str = "application/zip"
    """Type of the archive, in the item and on the wire."""
    catalogue_md5: str | None = None
    """A digest the catalogue gives in place of the true one, also in the href."""
    catalogue_size: int | None = None
    """A size the catalogue gives in place of the true one."""
    described: bool = True
    """Whether the archive's asset has a description."""
    null_size: bool = False
    """Whether the description says ``File size: null bytes``."""
    null_checksum: bool = False
    """Whether the description says ``Checksum null: null``."""
    upper_md5: bool = False
    """Whether description and href write the digest in upper case, as for Sentinel-1 of 2020."""
    algorithm: str = "md5"
    """Digest in the description: ``md5``, ``sha1``, ``sha256`` or ``sha512``."""
    href_tail: str | None = None
    """Last part of the href when it is not to be the MD5."""
    file_size: bool = False
    """Whether the asset has ``file:size``."""
    file_checksum: str | None = None
    """``multihash``, ``bare``, ``sha1``, ``sha256`` or ``sha512`` (multihashes), or the value."""
    online: bool | None = None
    """``Is online`` of the description; None is false for PEPS (it can be had), true for THEIA."""
    version: str | None = None
    """Version in the archive's name, which the identifier does not have (THEIA: ``4.0``)."""
    documents: bool = False
    """Whether XML, a thumbnail and a big overview tif are beside the archive, as for THEIA."""
    href_style: str = "2025"
    """Form of the archive's href: ``2024-07`` with a token, ``2024-11`` with a scope, ``2025``."""
    roles: tuple[str, ...] | None = ("data",)
    """Roles of the archive's asset; None leaves them out."""
    titled: bool = True
    """Whether the archive's asset has a title."""
    data: bool = True
    """Whether there is an archive at all."""
    xml: str | None = None
    """A metadata file with role ``data``: ``first`` or ``last`` among the assets."""
    second: str | None = None
    """Suffix of a second data file, such as ``.h5.gz``."""
    quicklook: bool = True
    """Whether there is a quicklook."""
    href_base: str | None = None
    """Scheme and host of the archive's href when it is not to be the stand-in's own."""
    endpoint_url: str | None = "auto"
    """Address in the datalake; ``auto`` makes one, None leaves it out."""
    prefix: bool = False
    """Whether the address names a folder rather than an object."""
    old_names: bool = False
    """Whether properties have their names of before 2025-03-31."""
    start_datetime: str = "2025-04-02T17:57:41.024Z"
    """Time of acquisition."""
    datetime: str = "2025-04-03T09:00:26.809Z"
    """Time of dissemination."""
    tile: str = "T31TCJ"
    """``grid:code``."""
    cloud_cover: float = 12.5
    """``eo:cloud_cover`` in per cent."""
    bbox: tuple[float, float, float, float] = (1.0, 43.0, 2.0, 44.0)
    """West, south, east, north."""
    nested_geometry: bool = False
    """Whether the polygon's coordinates lie one level deeper."""
    properties: dict[str, Any] = field(default_factory=dict)
    """Properties to add; None takes one out."""


@dataclass(frozen=True)
class ServedFile:
    """One file of the catalogue as the server knows it."""

    urn: str
    """Id of its item."""
    identifier: str
    """Product name of its item."""
    md5: str
    """Last part of its href."""
    body: Body
    """Its bytes."""
    title: str
    """Its file name."""
    content_type: str
    """Its type."""
    route: str = "download"
    """``download`` or ``quicklook``."""
    datatype: str = "RAWDATA"
    """What the portal calls its kind."""
    archive: bool = False
    """Whether it is the item's archive, whose asset the spec may bend."""

    @property
    def names(self) -> set[str]:
        """Names under which a fault may be set for it."""
        return {self.urn, self.identifier, self.md5, self.md5.lower()}

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers of the portal's answer: a type and a name, no validator."""
        name = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in self.title)
        return (
            ("Content-Type", self.content_type),
            ("Content-Disposition", f'attachment; filename="{name}"'),
        )
