"""Items of GEODES as eodag hands them on, put back into the portal's own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geodes_tasks.model.json import OBJECT
from geodes_tasks.stac.query import tile_code

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "geodes:"
LINK = "eodag:download_link"
_RAW = "RAWDATA"
"""What the portal calls the type of the files that its products are."""


def restored(item: Any) -> Any:
    """Return an item of GEODES that eodag has rewritten as the portal has it; others unchanged.

    eodag takes another id, key, title and role for the archive, and another collection; under
    those the archive would be no data, or another file than the same one found otherwise.
    """
    properties = item.get("properties") if isinstance(item, OBJECT) else None
    if not isinstance(properties, OBJECT) or LINK not in properties:
        return item
    own = {name.removeprefix(PREFIX): value for name, value in properties.items()}
    identifier = str(own.get("identifier") or own.get("title") or item.get("id"))
    own |= {"identifier": identifier, "grid:code": tile_code(str(own.get("grid:code") or ""))}
    return {
        **item,
        "id": own.get("uid") or item.get("id"),
        "collection": own.get("dataset") or item.get("collection"),
        "properties": {name: value for name, value in own.items() if value not in ("", None)},
        "assets": dict(_assets(item, own, identifier)),
    }


def _assets(
    item: Mapping[str, Any], own: Mapping[str, Any], identifier: str
) -> Iterator[tuple[str, Any]]:
    assets = item.get("assets")
    for key, asset in (assets if isinstance(assets, Mapping) else {}).items():
        if not isinstance(asset, Mapping):
            continue
        # eodag writes the role data on overview tifs too (OSO: a QUICKLOOK_HD of 123 MB), so the
        # portal's own type decides where it is given.
        kind = asset.get("geodes:datatype") or asset.get("datatype")
        is_archive = asset.get("href") == own[LINK]
        if not (is_archive or kind == _RAW):
            yield key, {**asset, "roles": ["overview"]} if kind else asset
            continue
        title = _title(str(asset.get("title") or key), own, identifier, archive=is_archive)
        yield title, {**asset, "title": title, "roles": ["data"]}


def _title(known: str, own: Mapping[str, Any], identifier: str, *, archive: bool) -> str:
    """Return the file name of a data asset, of which eodag keeps the end alone.

    THEIA identifiers carry no version (``..._T31TCH_C`` for ``..._T31TCH_C_V4-0.zip``), so eodag
    titles their archive ``V4-0.zip`` and only the address in the datalake has the whole name.
    """
    if "." in known and known.startswith(identifier):
        return known
    name = _last_part(str(own.get("endpoint_url") or ""))
    if name.startswith(identifier) and (archive or name.endswith(known)):
        return name
    return f"{identifier}.{known}"


def _last_part(href: str) -> str:
    """Return the file name at the end of an address; nothing where there is none."""
    try:
        return unquote(urlsplit(href).path).rpartition("/")[2]
    except ValueError:
        return ""
