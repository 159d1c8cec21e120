"""Distributed, idempotent, verified downloads from GEODES, the Earth-observation portal of CNES.

On a cluster ``enqueue(items, download_dir=...)`` queues items for the workers and returns a
:class:`Batch`; ``batch(name)`` opens one again in another process and ``batches()`` lists them.
:class:`Geodes`, :class:`Config`, :class:`Item`, :class:`DownloadQueue` and :class:`Profile` have
pygeodes' names and do the same, on one machine too. ``errors`` holds every error class.
Importing this package opens no connection; a name is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodes_tasks.model.version import __version__

if TYPE_CHECKING:
    # The libraries below these names (boto3, celery, pystac, redis) take a second to load.
    from geodes_tasks import errors
    from geodes_tasks.client.batch import Batch, batch, batches
    from geodes_tasks.client.enqueue import enqueue
    from geodes_tasks.pygeodes.download_queue import DownloadQueue
    from geodes_tasks.pygeodes.geodes import Geodes
    from geodes_tasks.pygeodes.item import Item
    from geodes_tasks.pygeodes.profile import Profile
    from geodes_tasks.settings.config import Config

__all__ = [
    # pygeodes' names
    "Geodes",
    "Config",
    "Item",
    "DownloadQueue",
    "Profile",
    # batches
    "enqueue",
    "batch",
    "batches",
    "Batch",
    "errors",
    "__version__",
]

_HOMES = {
    "Batch": "geodes_tasks.client.batch",
    "Config": "geodes_tasks.settings.config",
    "DownloadQueue": "geodes_tasks.pygeodes.download_queue",
    "Geodes": "geodes_tasks.pygeodes.geodes",
    "Item": "geodes_tasks.pygeodes.item",
    "Profile": "geodes_tasks.pygeodes.profile",
    "batch": "geodes_tasks.client.batch",
    "batches": "geodes_tasks.client.batch",
    "enqueue": "geodes_tasks.client.enqueue",
}
"""Public name to the module that defines it."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name == "errors":
        return import_module("geodes_tasks.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not, for ``dir()``, ``help()`` and tab completion."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
