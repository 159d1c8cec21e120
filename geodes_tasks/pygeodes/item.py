"""Items and collections of GEODES as pystac objects, with what GEODES adds to them.

Only here is pystac needed. Reading is tolerant (GEODES writes versions that pystac refuses);
sizes, checksums and the choice of the data asset are those of :mod:`geodes_tasks.stac.assets`.
"""

from __future__ import annotations

import base64
import logging
from glob import escape
from html import escape as html_escape
from typing import TYPE_CHECKING, Any, Protocol, Self

import pystac

from geodes_tasks.errors import GeodesTasksError, ItemError, NoGeodesError
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import eodag, readers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from geodes_tasks.model import asset
    from geodes_tasks.settings.config import Settings

logger = logging.getLogger(__name__)

STAC_VERSION = "1.0.0"
"""What items say here: pystac refuses the beta versions of GEODES, whose fields are the same."""
_TOP_LEVEL = ("id", "type", "collection", "bbox", "geometry")


class Portal(Protocol):
    """What an item asks to download itself: a Geodes object."""

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        ...

    def download_item_archive(self, item: Any, outfile: str | Path | None = None) -> Path:
        """Download the archive of an item."""
        ...

    def quicklook(self, item: Any) -> bytes:
        """Give the bytes of an item's quicklook."""
        ...


class Portals:
    """The Geodes objects of this process, in the order in which they were made."""

    def __init__(self) -> None:
        """Begin with none."""
        self._made: list[Portal] = []

    def add(self, portal: Portal) -> None:
        """Remember one more."""
        self._made.append(portal)

    def last(self) -> Portal:
        """Give the last one, and say so when there were several.

        Raises:
            NoGeodesError: there is none.
        """
        if not self._made:
            raise NoGeodesError
        if (count := len(self._made)) > 1:
            logger.warning("%d Geodes objects were made: the last one is used", count)
        return self._made[-1]

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._made)


PORTALS = Portals()
"""Shared by :class:`Item` and Geodes."""


class Asset(pystac.Asset):
    """An asset with the size and checksum that GEODES hides in its description."""

    @property
    def _known(self) -> asset.Asset:
        item = {"id": str(self.title), "assets": {"asset": self.to_dict()}}
        return stac_assets.assets(item, include=["asset"])[0]

    @property
    def filesize(self) -> int | None:
        """Bytes; None where the catalogue is silent."""
        return self._known.size_bytes

    @property
    def checksum(self) -> str | None:
        """Digest in hex, MD5 in GEODES; None where the catalogue is silent."""
        known = self._known.checksum
        return known.digest if known else None


class Item(pystac.Item):
    """A STAC Item of GEODES: one product with its archive."""

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], *args: Any, **kwargs: Any) -> Self:
        """Read item JSON, whatever STAC version it names; ``d`` is left as it is."""
        item: Self = super().from_dict(_readable(d), *args, **kwargs)
        for asset in item.assets.values():
            # The class only adds properties, so the asset keeps its owner and its fields.
            asset.__class__ = Asset
        return item

    def to_dict(
        self, include_self_link: bool = True, transform_hrefs: bool = False
    ) -> dict[str, Any]:
        """Give the item as JSON; by default links are left alone, which asks no server."""
        return super().to_dict(include_self_link, transform_hrefs)

    # --- its files -----------------------------------------------------------------------------

    @property
    def data_key(self) -> str:
        """Key of the archive among the assets.

        Raises:
            NoDataAssetError: the item has no data.
        """
        keys = [one.key for one in stac_assets.assets(self.to_dict())]
        zips = (key for key in keys if self._title(key).lower().endswith(".zip"))
        return next(zips, keys[0])

    def _title(self, key: str) -> str:
        return str(self.assets[key].title or key)

    @property
    def data(self) -> asset.Asset:
        """The archive as the downloader knows it: addresses, size, checksum.

        Raises:
            NoDataAssetError: the item has no data.
        """
        key = self.data_key
        found = stac_assets.assets(self.to_dict(), include=[escape(key)])
        return next(one for one in found if one.key == key)

    @property
    def data_asset(self) -> Asset:
        """The archive: of several data assets the zip, never an XML description.

        Raises:
            NoDataAssetError: the item has no data.
        """
        found = self.assets[self.data_key]
        assert isinstance(found, Asset)  # noqa: S101 - from_dict made them so
        return found

    @property
    def data_asset_checksum(self) -> str | None:
        """Digest of the archive in hex."""
        return self.data_asset.checksum

    @property
    def filesize(self) -> int | None:
        """Bytes of the archive; None where the catalogue is silent."""
        return self.data_asset.filesize

    @property
    def s3_path(self) -> str | None:
        """Address in the datalake; None where the item names none."""
        found = self.find("endpoint_url") or self.data.hrefs.get("s3")
        return str(found) if found else None

    @property
    def quicklook_asset(self) -> Asset | None:
        """The preview; None where there is none."""
        for asset in self.assets.values():
            if "overview" in (asset.roles or ()) and isinstance(asset, Asset):
                return asset
        return None

    def download_archive(self, outfile: str | Path | None = None) -> Path:
        """Download the archive with the last Geodes object that was made.

        Args:
            outfile: As for ``Geodes.download_item_archive``.

        Raises:
            NoGeodesError: there is no Geodes object yet.
            GeodesTasksError: as ``Geodes.download_item_archive``.
        """
        return PORTALS.last().download_item_archive(self, outfile)

    # --- its quicklook ---------------------------------------------------------------------------

    def get_quicklook_content_in_base64(self) -> str:
        """Give the preview as base64 text."""
        return base64.b64encode(PORTALS.last().quicklook(self)).decode()

    def show_quicklook(self) -> None:
        """Show the preview in a notebook.

        Raises:
            GeodesTasksError: it cannot be had.
        """
        from IPython.display import Image, display  # type: ignore[attr-defined, unused-ignore]

        display(Image(data=PORTALS.last().quicklook(self)))  # type: ignore[no-untyped-call, unused-ignore]

    # --- its fields ------------------------------------------------------------------------------

    def find(self, key: str) -> Any:
        """Give a field by its name or dotted path, properties first; None where there is none."""
        if key in _TOP_LEVEL:
            return self.to_dict().get(key)
        return _at(self.properties, key)

    def list_available_keys(self, with_origin: bool = False) -> set[str]:
        """Name the properties, nested ones with dots; with ``properties.`` before, if asked."""
        prefix = "properties." if with_origin else ""
        return {"id", *(prefix + key for key in _keys(self.properties))}

    def __repr__(self) -> str:
        """Name the item as GEODES does."""
        return f"Item ({self.id})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Show what a person wants to see of it in a notebook."""
        rows = {
            "collection": self.collection_id,
            "item": self.find("identifier") or self.id,
            "acquired": self.find("start_datetime"),
            "cloud cover": self.find("eo:cloud_cover"),
            "archive": self._archive_text(),
        }
        cells = (
            f"<tr><th style='text-align:left'>{name}</th><td>{html_escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value is not None
        )
        return f"<table>{''.join(cells)}</table>"

    def _archive_text(self) -> str:
        try:
            data = self.data
        except ItemError as error:
            return error.problem
        return f"{data.title} ({human_bytes(data.size_bytes)})"

    def __hash__(self) -> int:
        """Go by the id."""
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        """Go by the id."""
        return isinstance(other, pystac.Item) and self.id == other.id


class Collection(pystac.Collection):
    """A STAC Collection of GEODES."""

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], *args: Any, **kwargs: Any) -> Self:
        """Read collection JSON, whatever STAC version it names; ``d`` is left as it is."""
        return super().from_dict(_readable(d), *args, **kwargs)

    def to_dict(
        self, include_self_link: bool = True, transform_hrefs: bool = False
    ) -> dict[str, Any]:
        """Give the collection as JSON; by default links are left alone."""
        return super().to_dict(include_self_link, transform_hrefs)

    def find(self, key: str) -> Any:
        """Give a field by its name or dotted path; None where there is none."""
        return _at(self.to_dict(), key)

    def list_available_keys(self) -> set[str]:
        """Name the fields, nested ones with dots."""
        return set(_keys(self.to_dict()))

    def __repr__(self) -> str:
        """Name the collection."""
        return f"Collection ({self.id})"

    __str__ = __repr__


def as_items(objects: Any) -> Iterator[Item]:
    """Read anything that holds items (see :func:`geodes_tasks.stac.readers.items_of`).

    Raises:
        ItemError: an element is no item.
    """
    for found in readers.items_of(objects):
        if isinstance(found, GeodesTasksError):
            raise found
        yield Item.from_dict(eodag.restored(found))


def as_item(thing: Any) -> Item:
    """Read the one item that an object is.

    Raises:
        ItemError: it is none, or several.
    """
    if isinstance(thing, Item):
        return thing
    found = list(as_items(thing))
    if len(found) != 1:
        raise ItemError("the given object", f"holds {len(found)} items in place of one")
    return found[0]


def _readable(d: Mapping[str, Any]) -> dict[str, Any]:
    """Write item or collection JSON in a way that pystac reads."""
    readable = dict(d) | {"stac_version": STAC_VERSION}
    if not isinstance(readable.get("stac_extensions"), list):
        readable["stac_extensions"] = []
    readable["links"] = [one for one in d.get("links") or () if "href" in one and "rel" in one]
    if "assets" in d:
        # An asset without href cannot be had; stac.assets names it where it is asked for.
        assets = (d.get("assets") or {}).items()
        readable["assets"] = {key: one for key, one in assets if one.get("href")}
    if d.get("type") == "Feature":
        readable["properties"] = {"datetime": None} | dict(d.get("properties") or {})
        readable.setdefault("geometry", None)
    return readable


def _at(fields: Mapping[str, Any], path: str) -> Any:
    """Follow a dotted path; a name that has dots itself wins."""
    if path in fields:
        return fields[path]
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _keys(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _keys(value))
        else:
            yield name
