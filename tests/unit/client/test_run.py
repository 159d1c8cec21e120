"""When a run looks again: seldom in the middle, often when the last downloads are moving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client.batch import Batch
from geodes_tasks.client.enqueue_admission import Receipt
from geodes_tasks.client.run import LAST, Run, is_ending
from geodes_tasks.monitoring.terminal import Quiet
from tests.unit.ledger.test_ledger import ask, claimed, request_of
from tests.unit.monitoring.test_terminal import status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.model.results import BatchStatus
    from geodes_tasks.monitoring.snapshot import Snapshot


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


def test_only_downloads_of_the_batch_are_shown(fake_ledger: Ledger) -> None:
    """What others have under way on the same cluster is theirs to look at."""
    ours, theirs = request_of("ours"), request_of("theirs")
    ask(fake_ledger, ours, batch="ours")
    ask(fake_ledger, theirs, batch="theirs")
    claimed(fake_ledger, theirs)
    claimed(fake_ledger, ours)
    shown: list[str] = []

    class Picture(Quiet):
        def show(self, status: BatchStatus, read: Callable[[], Snapshot]) -> None:
            shown.extend(one.title for one in read().running)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(Batch("ours", fake_ledger), Receipt("ours"), fake_ledger).watch(Picture())

    assert shown == ["ours.zip"]
