"""Files on tape, with several real workers: waited for in bulk, by one, without a request lost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.states import State
from tests.servers import wait_until

if TYPE_CHECKING:
    from geodes_tasks.config import Settings
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

KiB = 1024
WAIT_S = 40.0


def asked(standin: StandIn) -> Counter[str]:
    """Count the requests by route."""
    return Counter(one.route for one in standin.requests)


@pytest.mark.parametrize("mode", ["offline_410", "offline_202"])
def test_files_on_tape_are_asked_for_in_bulk(
    standin: StandIn, settings: Settings, worker: WorkerFactory, mode: str
) -> None:
    """A file on tape costs one GET; then one worker of two asks, and it starts when it is back."""
    items = [standin.add_item(KiB) for _ in range(12)]
    for item in items[:6]:
        standin.fault(item, mode)
    worker("one"), worker("two")

    batch = enqueue(items, settings=settings)
    wait_until(lambda: batch.status().waiting == {"offline": 6}, WAIT_S, "six wait")
    wait_until(lambda: asked(standin)["fastavailability"] >= 2, WAIT_S, "two questions")
    standin.bring_online()
    status = batch.wait(WAIT_S)

    assert status.states[State.SUCCESS] == 12
    assert [len(standin.downloads(item)) for item in items] == [2] * 6 + [1] * 6
    assert {one.attempts for one in batch.results()} == {1}
    assert asked(standin)["availability"] == 0
