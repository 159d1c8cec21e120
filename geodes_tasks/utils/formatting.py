"""Names of ``pygeodes.utils.formatting``."""

from geodes_tasks.pygeodes.attributes import field_at as get_from_dico_path
from geodes_tasks.pygeodes.tables import (
    export_dataframe,
    format_collections,
    format_items,
    load_dataframe,
)

__all__ = [
    "export_dataframe",
    "format_collections",
    "format_items",
    "get_from_dico_path",
    "load_dataframe",
]
