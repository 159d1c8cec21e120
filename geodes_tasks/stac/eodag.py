"""Items of GEODES as eodag returns them, restored to the portal's own names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from geodes_tasks.model.json import OBJECT
from geodes_tasks.stac.asset_proof import RAWDATA, datatype_of
from geodes_tasks.stac.item_properties import mapping_of, property_of, text_of
from geodes_tasks.stac.query import tile_code

LINK = "eodag:download_link"
# Names of the portal under eodag: the second one reads the datalake.
_PROVIDERS = {"geodes", "geodes_s3"}
_PREFIX = re.compile(r"\Ageodes(_s3)?:")
# eodag 3 and before named properties as OpenSearch does (eodag's stac_provider.yml of 3.10).
_EODAG_3 = {
    "downloadLink": LINK,
    "productType": "dataset",
    "startTimeFromAscendingNode": "start_datetime",
    "completionTimeFromAscendingNode": "end_datetime",
    "cloudCover": "eo:cloud_cover",
    "tileIdentifier": "grid:code",
    "platformSerialIdentifier": "platform",
    "processingLevel": "processing:level",
    "orbitNumber": "sat:absolute_orbit",
    "relativeOrbitNumber": "sat:relative_orbit",
    "orbitDirection": "sat:orbit_state",
    "sensorMode": "sar:instrument_mode",
}
_VERSION = re.compile(r"V\d+-\d+")
_DATALAKE = re.compile(r"(zip\+)?s3:")


def restored(item: Any) -> Any:
    """Return an item of GEODES that eodag has rewritten as the portal has it; others unchanged.

    eodag changes id, collection, the names of properties, and key, title and role of the assets;
    under those the archive would be no data, or another file than the same one found otherwise.
    """
    given = item.get("properties") if isinstance(item, OBJECT) else None
    if not isinstance(given, OBJECT):
        return item
    unnamed = "geodes" if LINK in given or "downloadLink" in given else ""
    provider = text_of(given.get("eodag:provider") or given.get("eodag_provider") or unnamed)
    if provider not in _PROVIDERS:
        return item
    named = {k: v for k, v in given.items() if isinstance(k, str) and v not in ("", None)}
    own = {_EODAG_3[name]: value for name, value in named.items() if name in _EODAG_3}
    own |= {_PREFIX.sub("", name): v for name, v in named.items() if name not in _EODAG_3}
    if provider == "geodes_s3" and LINK in own:
        own.setdefault("endpoint_url", own[LINK])
    identifier = text_of(own.get("identifier") or own.get("title") or item.get("id"))
    # eodag puts MGRS- before every tile, those of VENUS sites (SUDOUE-4) included.
    tile = tile_code(text_of(own.pop("grid:code", "")).removeprefix("MGRS-"))
    return {
        **item,
        "id": own.get("uid") or item.get("id"),
        "collection": own.get("dataset") or item.get("collection"),
        "properties": own | {"identifier": identifier} | ({"grid:code": tile} if tile else {}),
        "assets": _assets(item, own, identifier),
    }


def _assets(
    item: Mapping[str, Any], own: Mapping[str, Any], identifier: str
) -> dict[str, Mapping[str, Any]]:
    """Return the assets under their names in the portal, the product's files with the role data."""
    link = own.get(LINK)
    given = mapping_of(item.get("assets")) or ({"zip": {"href": link}} if link else {})
    assets: dict[str, Mapping[str, Any]] = {}
    for key, asset in given.items():
        # The provider geodes_s3 adds the members of the archive, which it alone can open.
        if not isinstance(asset, OBJECT) or _DATALAKE.match(text_of(asset.get("href"))):
            continue
        # eodag writes the role data on overview tifs (OSO: a QUICKLOOK_HD of 123 MB) and auxiliary
        # on archives, so the portal's own type decides where it is known.
        is_data = asset.get("href") == link or datatype_of(asset) == RAWDATA
        title = _title(text_of(asset.get("title")) or str(key), own, identifier, is_data=is_data)
        roles = {"roles": ["data"]} if is_data else {}
        # Two overviews may lose what tells them apart: the second keeps eodag's key.
        assets[str(key) if title in assets else title] = {**asset, "title": title, **roles}
    return assets


def _title(known: str, own: Mapping[str, Any], identifier: str, *, is_data: bool) -> str:
    """Return the file name of an asset, of which eodag keeps only the part after the identifier.

    THEIA identifiers have no version (``..._T31TCH_C`` for ``..._T31TCH_C_V4-0.zip``), so eodag
    titles their archive ``V4-0.zip``. The address in the datalake has the whole name: it is that
    of the archive in each of 187 real items.
    """
    if "." in known and known.startswith(identifier):
        return known
    try:
        endpoint = text_of(property_of({"properties": own}, "endpoint_url"))
        name = unquote(urlsplit(endpoint).path).rpartition("/")[2]
    except ValueError:
        name = ""  # a broken address; stac.assets reports it
    if is_data and "." in name and name.endswith(known):
        return name
    return f"{identifier}{'.' if is_data and not _VERSION.match(known) else '_'}{known}"
