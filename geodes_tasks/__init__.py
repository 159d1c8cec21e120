"""Distributed, idempotent, proven downloads from GEODES, the Earth-observation portal of CNES.

``enqueue(items, download_dir=...)`` queues items for the workers of a cluster and gives a
:class:`Batch`; :class:`Geodes`, :class:`DownloadQueue` and :class:`Profile` are pygeodes' names
for search and download. Importing this package opens no connection and loads only what is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodes_tasks.model.version import __version__

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch
    from geodes_tasks.client.enqueue import enqueue
    from geodes_tasks.pygeodes.config_shim import Config
    from geodes_tasks.pygeodes.download_queue import DownloadQueue
    from geodes_tasks.pygeodes.geodes import Geodes
    from geodes_tasks.pygeodes.item import Item
    from geodes_tasks.pygeodes.profile import Profile
    from geodes_tasks.settings.config import Settings

__all__ = [
    # the user's page
    "Geodes",
    "Config",
    "Item",
    "DownloadQueue",
    "Profile",
    # a cluster
    "enqueue",
    "Batch",
    "Settings",
    "__version__",
]

_HOMES = {
    "Batch": "geodes_tasks.client.batch",
    "Config": "geodes_tasks.pygeodes.config_shim",
    "DownloadQueue": "geodes_tasks.pygeodes.download_queue",
    "Geodes": "geodes_tasks.pygeodes.geodes",
    "Item": "geodes_tasks.pygeodes.item",
    "Profile": "geodes_tasks.pygeodes.profile",
    "Settings": "geodes_tasks.settings.config",
    "enqueue": "geodes_tasks.client.enqueue",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
