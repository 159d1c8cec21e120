"""Items and collections of GEODES as pystac objects, with the fields that GEODES adds.

Only this module needs pystac. Reading is tolerant (GEODES writes versions that pystac refuses);
sizes, checksums and the choice of the data asset are those of :mod:`geodes_tasks.stac.assets`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape as html_escape
from pathlib import Path
from typing import Any, Self, cast

import pystac

from geodes_tasks.client.item_like import check_items
from geodes_tasks.errors import GeodesTasksError, ItemError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import human_bytes, printable
from geodes_tasks.pygeodes.attributes import dotted_names, field_at
from geodes_tasks.pygeodes.instances import PORTALS
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac import readers
from geodes_tasks.stac.item_properties import NEW_NAMES, identifier_of, mapping_of, property_of
from geodes_tasks.stac.paging import objects_in

STAC_VERSION = "1.0.0"
"""Version of STAC of all items: pystac refuses the beta versions of GEODES, of the same fields."""
_TOP_LEVEL = ("id", "type", "collection", "bbox", "geometry")


class ItemAsset(pystac.Asset):
    """An asset with the size and checksum that GEODES hides in its description.

    pygeodes calls it ``Asset``: ``geodes_tasks.utils.stac.Asset``.
    """

    @property
    def _parsed(self) -> Asset:
        item = {"id": str(self.title), "assets": {"asset": self.to_dict()}}
        return stac_assets.assets(item, include=["asset"])[0]

    @property
    def filesize(self) -> int | None:
        """Bytes; None where the catalogue is silent."""
        return self._parsed.size_bytes

    @property
    def checksum(self) -> str | None:
        """Digest in hex, MD5 in GEODES; None where the catalogue is silent."""
        checksum = self._parsed.checksum
        return checksum.digest if checksum else None


class Item(pystac.Item):
    """A STAC Item of GEODES: one product with its archive.

    Examples:
        >>> from geodes_tasks import Item
        >>> item = Item.from_dict(items[0].to_dict())
        >>> item.collection_id, item.filesize > 0
        ('PEPS_S2_L1C', True)
    """

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], *args: Any, **kwargs: Any) -> Self:
        """Read item JSON, whatever STAC version it names; ``d`` is left as it is.

        Raises:
            ItemError: pystac cannot read it.
        """
        wrong = pystac.STACError, pystac.STACTypeError, TypeError, AttributeError, LookupError
        try:
            item: Self = super().from_dict(_readable({"type": "Feature", **d}), *args, **kwargs)
        # pystac raises what its own reading of wrong JSON ends in.
        except (*wrong, ValueError) as error:
            problem = printable(f"cannot be read as a STAC Item: {error}")
            raise ItemError(stac_assets.item_name(d), problem) from error
        for asset in item.assets.values():
            # The class only adds properties, so the asset keeps its owner and its fields.
            asset.__class__ = ItemAsset
        return item

    def to_dict(
        self, include_self_link: bool = True, transform_hrefs: bool = False
    ) -> dict[str, Any]:
        """Return the item as JSON; links stay as they are by default, without any request."""
        # pystac would name the version of STAC that itself is for, over the fields of another.
        return super().to_dict(include_self_link, transform_hrefs) | {"stac_version": STAC_VERSION}

    # --- its files -----------------------------------------------------------------------------

    @property
    def data(self) -> Asset:
        """The archive as the downloader reads it: hrefs, size, checksum.

        Raises:
            NoDataAssetError: the item has no data.
            ItemError: its archive cannot be downloaded.
        """
        refused: list[ItemError] = []
        on_refusal = lambda _, error: refused.append(error)  # noqa: E731
        found = stac_assets.assets(self.to_dict(), on_refusal=on_refusal)
        # Several assets may have the role `data`: pygeodes prefers the zip in the same way.
        archive = next((one for one in found if one.title.lower().endswith(".zip")), None)
        if archive is None and refused:
            raise refused[0]
        return archive or found[0]

    @property
    def data_asset(self) -> ItemAsset:
        """The archive: of several data assets the zip, never an XML description. As ``data``."""
        found = self.assets[self.data.key]
        if not isinstance(found, ItemAsset):
            # One that a user added. The class only adds properties.
            found.__class__ = ItemAsset
        return cast("ItemAsset", found)

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
    def quicklook_asset(self) -> ItemAsset | None:
        """The preview; None where there is none."""
        # GEODES marks quicklooks with the role `overview`; its `thumbnail` is smaller.
        for asset in self.assets.values():
            if "overview" in (asset.roles or ()) and isinstance(asset, ItemAsset):
                return asset
        return None

    def availability(self, online: Mapping[str, bool]) -> dict[str, str]:
        """Return in words which files are online: the archive as ``data``, others by their key.

        Args:
            online: Checksums of the files the portal reports on, with whether they are online.
        """
        words = {True: "available", False: "not available", None: "unknown"}
        data = self.data.key
        return {
            "data" if key == data else key: words[online.get(str(getattr(one, "checksum", "")))]
            for key, one in self.assets.items()
        }

    def download_archive(self, outfile: str | Path | None = None) -> Path:
        """Download the archive with the last Geodes object that was made.

        Args:
            outfile: As for ``Geodes.download_item_archive``.

        Raises:
            NoGeodesError: there is no Geodes object yet.
            GeodesTasksError: as ``Geodes.download_item_archive``.

        Examples:
            >>> item.download_archive().suffix
            '.zip'
        """
        return PORTALS.last().download_item_archive(self, outfile)

    # --- its quicklook ---------------------------------------------------------------------------

    def get_quicklook_content_in_base64(self) -> str:
        """Return the preview as base64 text.

        Raises:
            NoGeodesError: there is no Geodes object yet.
            GeodesTasksError: there is no preview, or no server gives it.
        """
        return base64.b64encode(PORTALS.last().quicklook(self)).decode()

    def show_quicklook(self) -> None:
        """Show the preview in a notebook. Raises as ``get_quicklook_content_in_base64``."""
        from IPython.display import Image, display  # type: ignore[attr-defined, unused-ignore]

        display(Image(data=PORTALS.last().quicklook(self)))  # type: ignore[no-untyped-call, unused-ignore]

    # --- its fields ------------------------------------------------------------------------------

    def find(self, key: str) -> Any:
        """Return a field by its name or dotted path, properties first; None if there is none.

        Former names of properties find the value under the present one, and the other way round.

        Examples:
            >>> item.find("datetime")[:2]
            '20'
        """
        if key in _TOP_LEVEL:
            return self.to_dict().get(key)
        if (value := field_at(key, self.properties)) is not None:
            return value
        item = {"id": self.id, "properties": self.properties}
        # Items of 2024 have the product's name only in the address of the archive.
        return (
            identifier_of(item)
            if key == "identifier"
            else property_of(item, NEW_NAMES.get(key, key))
        )

    def list_available_keys(self, with_origin: bool = False) -> set[str]:
        """Return the names of the properties, nested ones with dots.

        Args:
            with_origin: Put ``properties.`` before each, as pygeodes does.
        """
        prefix = "properties." if with_origin else ""
        return {"id", *(prefix + key for key in dotted_names(self.properties))}

    def __repr__(self) -> str:
        """Name the item as GEODES does."""
        return f"Item ({self.id})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Show collection, name, date, cloud cover and archive in a notebook."""
        rows = {
            "collection": self.collection_id,
            "item": self.find("identifier"),
            "acquired": self.find("start_datetime"),
            "cloud cover": self.find("eo:cloud_cover"),
        }
        try:
            rows["archive"] = f"{self.data.title} ({human_bytes(self.data.size_bytes)})"
        except ItemError as error:
            rows["archive"] = error.problem
        cells = (
            f"<tr><th style='text-align:left'>{name}</th><td>{html_escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value is not None
        )
        return f"<table>{''.join(cells)}</table>"

    def __hash__(self) -> int:
        """Return the hash of the id."""
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        """Compare the ids: two searches return two objects for one item."""
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
        """Return the collection as JSON; links stay as they are by default."""
        return super().to_dict(include_self_link, transform_hrefs) | {"stac_version": STAC_VERSION}

    def find(self, key: str) -> Any:
        """Return a field by its name or dotted path; None if there is none."""
        return field_at(key, self.to_dict())

    def list_available_keys(self) -> set[str]:
        """Return the names of the fields, nested ones with dots."""
        return set(dotted_names(self.to_dict()))

    def __repr__(self) -> str:
        """Name the collection."""
        return f"Collection ({self.id})"

    __str__ = __repr__


def as_items(objects: object) -> Iterator[Item]:
    """Yield the items in anything that holds items (:func:`geodes_tasks.stac.readers.items_of`).

    Raises:
        ItemError: an element is no item.
    """
    for found in readers.items_of(objects):
        if isinstance(found, GeodesTasksError):
            raise found
        yield Item.from_dict(found)


def as_item(thing: Any) -> Item:
    """Return the one item that an object is.

    Raises:
        TypeError: it is no item of any library, and no name of a file.
        ItemError: it is none, or several.
    """
    if isinstance(thing, Item):
        return thing
    check_items(thing)
    found = list(as_items(thing))
    if len(found) != 1:
        raise ItemError("the given object", f"holds {len(found)} items in place of one")
    return found[0]


def _readable(d: Mapping[str, Any]) -> dict[str, Any]:
    """Return item or collection JSON that pystac reads."""
    readable = dict(d) | {"stac_version": STAC_VERSION}
    if not isinstance(readable.get("stac_extensions"), list):
        # pystac iterates over the extensions, so null or a single text would end in a TypeError.
        readable["stac_extensions"] = []
    links = objects_in(d.get("links"))
    readable["links"] = [one for one in links if isinstance(one.get("href"), str) and "rel" in one]
    if "assets" in d:
        # pystac wants an href of each asset; stac.assets names those without one.
        assets = mapping_of(d.get("assets")).items()
        readable["assets"] = {key: one for key, one in assets if mapping_of(one).get("href")}
    if d.get("type") == "Feature":
        properties = dict(d.get("properties") or {})
        try:
            pystac.utils.str_to_datetime(properties["datetime"])
        except (KeyError, TypeError, ValueError, OverflowError):
            # STAC requires `datetime`, null where there are start and end times (item-spec); pystac
            # refuses an item without all three, and with it a whole page of a search.
            properties["datetime"] = None
            for name in ("start_datetime", "end_datetime"):
                properties.setdefault(name, None)
        readable["properties"] = properties
        readable.setdefault("geometry", None)
    return readable
