"""Every failure: one class for each different reaction of the user, by subject.

The text of an error names what failed and why, with both values; its ``hint`` says what to do.
This package imports nothing else of ``geodes_tasks``.
"""

# ruff: noqa: F403 - a new error is named once, where it is defined
from geodes_tasks.errors.account_errors import *
from geodes_tasks.errors.base_error import GeodesTasksError as GeodesTasksError
from geodes_tasks.errors.base_error import Reaction as Reaction
from geodes_tasks.errors.download_errors import *
from geodes_tasks.errors.ledger_errors import *
from geodes_tasks.errors.remedies import for_reader as for_reader
from geodes_tasks.errors.remedies import in_folder as in_folder
from geodes_tasks.errors.remedies import write_for_shell as write_for_shell
from geodes_tasks.errors.source_errors import *
from geodes_tasks.errors.usage_errors import *

_CLASSES = {
    name: found
    for name, found in list(globals().items())
    if isinstance(found, type) and issubclass(found, GeodesTasksError)
}
__all__ = ["Reaction", "reaction_of", "for_reader", "in_folder", "write_for_shell", *_CLASSES]


def is_class(kind: str) -> bool:
    """Return whether an error class of this package has this name."""
    return kind in _CLASSES


def reaction_of(kind: str) -> Reaction:
    """Return how workers react to a class of errors, by its name; FINAL for an unknown one.

    Example:
        >>> reaction_of("ServerError")
        <Reaction.TRANSIENT: 'transient'>
    """
    return _CLASSES.get(kind, GeodesTasksError).reaction
