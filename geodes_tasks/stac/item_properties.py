"""Properties of an item: former names, text of JSON values, and the fields of a layout template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.model.json import OBJECT

# The portal renamed its properties on 2025-03-31 and answers 400 to the former names
# (https://github.com/CS-SI/eodag/pull/1581); items saved before that still have them.
NEW_NAMES = {
    "accessService:endpointDescription": "endpoint_description",
    "accessService:endpointURL": "endpoint_url",
    "dataType": "dataset",
    "processing:processingVersion": "processing:version",
    "spaceborne:absoluteOrbitID": "sat:absolute_orbit",
    "spaceborne:cloudCover": "eo:cloud_cover",
    "spaceborne:continentsID": "continent_code",
    "spaceborne:cycleID": "sat:orbit_cycle",
    "spaceborne:keywords": "keywords",
    "spaceborne:missionTakeId": "mission_take_id",
    "spaceborne:orbitDirection": "sat:orbit_state",
    "spaceborne:orbitID": "sat:relative_orbit",
    "spaceborne:polarization": "sar:polarizations",
    "spaceborne:political": "political",
    "spaceborne:productLevel": "processing:level",
    "spaceborne:productTimeliness": "product:timeliness",
    "spaceborne:productType": "product:type",
    "spaceborne:references": "references",
    "spaceborne:s2TakeId": "s2:datatake_id",
    "spaceborne:satellitePlatform": "platform",
    "spaceborne:satelliteSensor": "instrument",
    "spaceborne:sensorMode": "sar:instrument_mode",
    "spaceborne:swath": "swath",
    "spaceborne:tile": "grid:code",
    "spatial:bbox": "proj:bbox",
    "temporal:endDate": "end_datetime",
    "temporal:startDate": "start_datetime",
    "versionInfo": "version",
    # As eodag writes it.
    "geodes:endpoint_url": "endpoint_url",
    "eodag_provider": "eodag:provider",
}
"""Former name of a property to the name that GEODES uses now."""
_FORMER = {new: {old for old in NEW_NAMES if NEW_NAMES[old] == new} for new in NEW_NAMES.values()}
_DATE_FORMS = {"year": "%Y", "month": "%m", "day": "%d"}
_UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\s]')


def mapping_of(value: object) -> Mapping[Any, Any]:
    """Return a JSON object; an empty one for any other value."""
    return value if isinstance(value, OBJECT) else {}


def text_of(value: object) -> str:
    """Return a JSON scalar as text; empty for null, objects, lists and absurd numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    # Python refuses to write a number of more than 4300 digits (CVE-2020-10735).
    if isinstance(value, int) and abs(value) >= 10**30:
        return ""
    return str(value) if isinstance(value, int | float) else ""


def properties_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties, former names replaced by new ones, without nulls."""
    given = mapping_of(item.get("properties"))
    named = {k: v for k, v in given.items() if isinstance(k, str) and v is not None}
    renamed = {NEW_NAMES[key]: value for key, value in named.items() if key in NEW_NAMES}
    return renamed | named


def property_of(item: Mapping[str, Any], name: str) -> Any:
    """Return one of the properties by its new name; None where the item does not have it."""
    given = mapping_of(item.get("properties"))
    if (value := given.get(name)) is not None:
        return value
    # Of several former names the last in the item counts, as in properties_of.
    former = _FORMER.get(name, set())
    found = [given[key] for key in given if key in former and given[key] is not None]
    return found[-1] if found else None


def identifier_of(item: Mapping[str, Any]) -> str:
    """Return the product's name in GEODES, else the id of the item; empty without both."""
    given = mapping_of(item.get("properties"))
    # Items of 2024 have the name only in the datalake's address.
    archive = text_of(given.get("accessService:endpointURL")).rpartition("/")[2]
    return text_of(given.get("identifier")) or archive.partition(".")[0] or text_of(item.get("id"))


def collection_of(item: Mapping[str, Any]) -> str:
    """Return the collection of an item; empty where the item does not have it."""
    return text_of(item.get("collection")) or text_of(property_of(item, "dataset"))


def item_fields(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an item for ``--layout``."""
    properties = properties_of(item)
    scalars = {each: text_of(value) for each, value in properties.items()}
    item_id = text_of(item.get("id")) or identifier_of(item)
    return {each: text for each, text in scalars.items() if text} | {
        "collection": collection_of(item),
        "item": identifier_of(item),
        "item_id": _UNFIT.sub("_", item_id),
        **_date(properties.get("start_datetime") or properties.get("datetime")),
    }


def _date(value: object) -> dict[str, str]:
    """Return the day of acquisition, UTC; ``datetime`` is the day of dissemination in GEODES."""
    try:
        moment = datetime.fromisoformat(text_of(value).strip())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return dict.fromkeys(_DATE_FORMS, "")
    return {name: moment.strftime(form) for name, form in _DATE_FORMS.items()}
