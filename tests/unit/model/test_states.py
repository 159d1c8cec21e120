"""States: Celery's words, and the moves between them."""

from __future__ import annotations

import pytest
from celery import states as celery_states

from geodes_tasks.model.states import ACTIVE, ALLOWED_MOVES, TERMINAL, State, may_move


@pytest.mark.parametrize("state", State)
def test_states_are_celerys(state: State) -> None:
    """Flower and AsyncResult understand every state."""
    assert str(state) == getattr(celery_states, state.name)
    assert (state in TERMINAL) is (str(state) in celery_states.READY_STATES)


def test_every_state_is_active_or_terminal() -> None:
    """Nothing is both, nothing is neither."""
    assert set(State) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_active_state_can_end(state: State) -> None:
    """No download is stuck in a state: each can be cancelled, at least."""
    assert may_move(state, State.REVOKED)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_ended_goes_on_only_when_asked_for_again(state: State) -> None:
    """From an end the way leads through PENDING, or a file is present still."""
    onward = {new for old, new in ALLOWED_MOVES if old is state}

    assert onward <= {State.PENDING, state}


def test_only_a_lease_leads_to_success() -> None:
    """No file is called proven that nobody has worked on, unless it was proven before."""
    before = {old for old, new in ALLOWED_MOVES if new is State.SUCCESS}

    assert before == {State.STARTED, State.SUCCESS}


def test_an_unknown_download_begins_queued_or_refused() -> None:
    """Nothing appears in the middle of its life."""
    assert {new for old, new in ALLOWED_MOVES if old is None} == {State.PENDING, State.FAILURE}
