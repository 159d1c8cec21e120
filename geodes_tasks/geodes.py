"""Names of ``pygeodes.geodes``."""

from geodes_tasks.pygeodes.geodes import Geodes
from geodes_tasks.pygeodes.item import Collection, Item
from geodes_tasks.settings.config import Config

__all__ = ["Collection", "Config", "Geodes", "Item"]
