"""Properties of an item: old names, text of JSON values, and the fields of a layout template."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.json import OBJECT

# Names before 2025-03-31, or as eodag rewrites them -> the name that GEODES uses now.
_RENAMED = {
    "accessService:endpointURL": "endpoint_url",
    "geodes:endpoint_url": "endpoint_url",
    "spaceborne:cloudCover": "eo:cloud_cover",
    "temporal:startDate": "start_datetime",
    "temporal:endDate": "end_datetime",
    "dataType": "dataset",
    "spaceborne:tile": "grid:code",
}
_OLD_NAMES = {new: [old for old in _RENAMED if _RENAMED[old] == new] for new in _RENAMED.values()}
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
    if isinstance(value, int) and abs(value) >= 10**30:
        return ""  # longer than 4300 digits Python refuses to write
    return str(value) if isinstance(value, int | float) else ""


def properties_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties, old names replaced by new ones, without nulls."""
    given = mapping_of(item.get("properties"))
    named = {k: v for k, v in given.items() if isinstance(k, str) and v is not None}
    renamed = {_RENAMED[key]: value for key, value in named.items() if key in _RENAMED}
    return renamed | named


def property_of(item: Mapping[str, Any], name: str) -> Any:
    """Return one of the properties; None where the item does not have it."""
    given = mapping_of(item.get("properties"))
    if (value := given.get(name)) is not None:
        return value
    old = [key for key in _OLD_NAMES.get(name, ()) if given.get(key) is not None]
    # Of several the last in the item counts, as in properties_of.
    return given[max(old, key=list(given).index)] if old else None


def identifier_of(item: Mapping[str, Any]) -> str:
    """Return the product's name in GEODES, else the id of the item; empty without both."""
    return text_of(mapping_of(item.get("properties")).get("identifier")) or text_of(item.get("id"))


def collection_of(item: Mapping[str, Any]) -> str:
    """Return the collection of an item; empty where the item does not have it."""
    return text_of(item.get("collection")) or text_of(property_of(item, "dataset"))


class LayoutFields(Mapping[str, str]):
    """The fields of an item for ``--layout``, computed when a template uses one: most use none."""

    def __init__(
        self, item: Mapping[str, Any], key: str, title: str, checksum: Checksum | None
    ) -> None:
        self._given = (item, key, title, checksum)
        self._known: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._known is None:
            self._known = _fields(*self._given)
        return self._known

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


def _fields(
    item: Mapping[str, Any], key: str, title: str, checksum: Checksum | None
) -> dict[str, str]:
    """Return the fields of the layout template; empty where the item does not have them."""
    properties = properties_of(item)
    scalars = {name: text_of(value) for name, value in properties.items()}
    item_id = text_of(item.get("id")) or identifier_of(item)
    return {name: text for name, text in scalars.items() if text} | {
        "collection": collection_of(item),
        "item": identifier_of(item),
        "item_id": _UNFIT.sub("_", item_id),
        "title": title,
        "key": key,
        "checksum": checksum.digest if checksum else "",
        **_date(properties.get("start_datetime") or properties.get("datetime")),
    }


def _date(value: object) -> dict[str, str]:
    """Split the day of acquisition, UTC; ``datetime`` is the day of dissemination in GEODES."""
    try:
        moment = datetime.fromisoformat(text_of(value).strip())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return {"year": "", "month": "", "day": ""}
    return {name: moment.strftime(form) for name, form in _DATE_FORMS.items()}
