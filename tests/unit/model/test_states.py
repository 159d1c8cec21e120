"""States: Celery's words, and the moves between them."""

from __future__ import annotations

import pytest
from celery import states as celery_states

from geodes_tasks.model.states import ACTIVE, ALLOWED_MOVES, TERMINAL, State


@pytest.mark.parametrize("state", State)
def test_states_are_celerys(state: State) -> None:
    """Flower and AsyncResult understand every state."""
    assert str(state) == getattr(celery_states, state.name)
    assert (state in TERMINAL) is (str(state) in celery_states.READY_STATES)


def test_every_state_is_active_or_terminal() -> None:
    """No state is both, no state is neither."""
    assert set(State) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_active_state_can_end(state: State) -> None:
    """No download is stuck in a state: each can be cancelled, at least."""
    assert (state, State.REVOKED) in ALLOWED_MOVES


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_leads_to_pending_only(state: State) -> None:
    """A terminal state leads only to PENDING, or a verified file stays SUCCESS."""
    onward = {new for old, new in ALLOWED_MOVES if old is state}

    assert onward <= {State.PENDING, state}


def test_only_a_lease_leads_to_success() -> None:
    """A file is verified by the worker with its lease."""
    before = {old for old, new in ALLOWED_MOVES if new is State.SUCCESS}

    assert before == {State.STARTED}


def test_an_unknown_download_begins_queued_or_refused() -> None:
    """An unknown download becomes PENDING or FAILURE, nothing else."""
    assert {new for old, new in ALLOWED_MOVES if old is None} == {State.PENDING, State.FAILURE}
