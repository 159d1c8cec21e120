"""Names of ``pygeodes.utils.formatting``."""

from geodes_tasks.pygeodes.tables import format_collections, format_items

__all__ = ["format_collections", "format_items"]
