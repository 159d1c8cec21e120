"""Names of ``pygeodes.utils.query``."""

from geodes_tasks.pygeodes.attributes import get_requestable_args

__all__ = ["get_requestable_args"]
