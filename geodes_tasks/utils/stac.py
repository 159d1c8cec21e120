"""Names of ``pygeodes.utils.stac``."""

from geodes_tasks.pygeodes.item import Collection, Item
from geodes_tasks.pygeodes.item import ItemAsset as Asset

__all__ = ["Asset", "Collection", "Item"]
