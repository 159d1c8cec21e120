"""When a run looks again: seldom in the middle, often when the last downloads are moving."""

from __future__ import annotations

import pytest

from geodes_tasks.runs import LAST, is_ending
from tests.unit.test_progress import status_of


@pytest.mark.parametrize(
    ("before", "now", "ends"),
    [
        (None, 5, False),
        (5, 5, False),
        (1000, 900, False),
        (LAST + 1, LAST, True),
        (200, 100, True),
        (200, 101, False),
    ],
)
def test_the_end_is_near_when_as_many_are_left_as_came(
    before: int | None, now: int, ends: bool
) -> None:
    """What stands still, or has long to go, is not looked at more often."""
    earlier = None if before is None else status_of(pending=before)

    assert is_ending(status_of(pending=now), earlier) is ends
