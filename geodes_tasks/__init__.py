"""Distributed, idempotent, proven downloads from GEODES, the Earth-observation portal of CNES.

``enqueue(items, download_dir=...)`` queues items for the workers of a cluster and gives a
:class:`Batch`; :class:`Geodes`, :class:`DownloadQueue` and :class:`Profile` are pygeodes' names
for search and download. Importing this package opens no connection and loads only what is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodes_tasks.version import __version__

if TYPE_CHECKING:
    from geodes_tasks.api import enqueue
    from geodes_tasks.batch import Batch
    from geodes_tasks.config import Settings
    from geodes_tasks.downloadqueue import DownloadQueue
    from geodes_tasks.geodes import Geodes
    from geodes_tasks.item import Item
    from geodes_tasks.profile import Profile
    from geodes_tasks.userconfig import Config

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
    "Batch": "geodes_tasks.batch",
    "Config": "geodes_tasks.userconfig",
    "DownloadQueue": "geodes_tasks.downloadqueue",
    "Geodes": "geodes_tasks.geodes",
    "Item": "geodes_tasks.item",
    "Profile": "geodes_tasks.profile",
    "Settings": "geodes_tasks.config",
    "enqueue": "geodes_tasks.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
