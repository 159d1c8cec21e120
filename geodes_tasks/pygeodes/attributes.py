"""Fields of items by name, and the properties that a search may use, as pygeodes lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VERSION = "v8.0"
"""Version of the data model of GEODES that ATTRIBUTES describes."""
# https://geodes.cnes.fr/metadonnees-offertes-par-lapi-stac-de-geodes
ATTRIBUTES = {
    "BOOLEAN": "no_geometry product_validity",
    "DATE_ISO8601": "datetime end_datetime processing:datetime start_datetime",
    "DOUBLE": (
        "area eo:cloud_cover ground_useful_pixel min_useful_pixel nb_col_interpolation_error "
        "nodata_pixel saturated_defective_pixel sensor_angle sensor_pitch sensor_roll water_cover"
    ),
    "INTEGER": "mission_take_id sat:orbit_cycle sat:relative_orbit",
    "JSON": "political",
    "LONG": "sat:absolute_orbit",
    "STRING": (
        "bands bbox classification dataset endpoint_url grid:code identifier instrument links "
        "nb_cols nb_rows parameter platform pparameter processing:level processing:lineage "
        "processing:version processing_context processing_correction product product:type "
        "s2:datatake_id sar:beam_ids sar:instrument_mode sar:polarizations sat:orbit_state "
        "subTile swath temporal_resolution"
    ),
    "STRING_ARRAY": "continent_code keywords sci:doi",
}
"""Type of the value to the names of the properties."""


def get_requestable_args() -> dict[str, Any]:
    """Return the properties as pygeodes does: ``{"version": ..., "attributes": ["name (TYPE)"]}``.

    The portal may know more by now; it refuses a name that it does not know.
    """
    names = sorted((name, kind) for kind, text in ATTRIBUTES.items() for name in text.split())
    return {"version": VERSION, "attributes": [f"{name} ({kind})" for name, kind in names]}


def field_at(path: str, fields: Mapping[str, Any]) -> Any:
    """Return the field at a dotted path; None if there is none."""
    # Some names of GEODES have dots themselves: the whole path is tried as a name first.
    if path in fields:
        return fields[path]
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def dotted_names(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of fields; those within others have dots."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in dotted_names(value))
        else:
            yield name
