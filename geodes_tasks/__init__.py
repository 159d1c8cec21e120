"""Distributed, idempotent, proven downloads from GEODES, the Earth-observation portal of CNES.

``enqueue(items, download_dir=...)`` queues items for the workers of a cluster and gives a
:class:`Batch`. Importing this package opens no connection and loads nothing that is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodes_tasks.version import __version__

if TYPE_CHECKING:
    from geodes_tasks.api import enqueue
    from geodes_tasks.batch import Batch
    from geodes_tasks.config import Settings

__all__ = ["Batch", "Settings", "__version__", "enqueue"]

_HOMES = {
    "Batch": "geodes_tasks.batch",
    "Settings": "geodes_tasks.config",
    "enqueue": "geodes_tasks.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
