"""The exit codes of commands that work on a batch, and which one fits its state."""

from __future__ import annotations

from collections.abc import Iterable

from geodes_tasks.errors import ItemNotFoundError, Reaction, reaction_of
from geodes_tasks.ledger import FailureGroup
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State

DONE, SOME_FAILED, NOTHING, TRANSIENT, OFFLINE, ACCOUNT, CANCELLED = 0, 3, 4, 5, 6, 7, 130
"""Exit codes for the end of a batch."""
UNKNOWN_ITEM = ItemNotFoundError.__name__
"""Error of an id that the portal does not know: where there is nothing else, nothing was found."""


def exit_code(status: BatchStatus, failures: Iterable[FailureGroup]) -> int:
    """Return the exit code for the present state of a batch.

    Args:
        status: The counts.
        failures: The errors by class; may be empty when no download failed.
    """
    if status.total == 0:
        return NOTHING
    if status.waiting.get(Reason.AUTH) or status.waiting.get(Reason.QUOTA):
        return ACCOUNT
    if status.states[State.FAILURE]:
        kinds = [group.type for group in failures if group.state is State.FAILURE]
        if set(kinds) == {UNKNOWN_ITEM} and status.states[State.FAILURE] == status.total:
            return NOTHING
        passing = {Reaction.TRANSIENT, Reaction.CORRUPT}
        return TRANSIENT if kinds and passing.issuperset(map(reaction_of, kinds)) else SOME_FAILED
    if status.waiting.get(Reason.OFFLINE):
        return OFFLINE
    if status.unfinished:
        return TRANSIENT
    return CANCELLED if status.states[State.REVOKED] else DONE
