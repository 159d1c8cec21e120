"""Files on tape, with several real workers: waited for in bulk, by one, without a request lost."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.model.states import State
from tests.integration.fleet import fleet
from tests.servers import wait_until

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

KiB = 1024
WAIT_S = 40.0


def asked(standin: StandIn) -> Counter[str]:
    """Count the requests by route."""
    return Counter(one.route for one in standin.requests)


@pytest.mark.parametrize("mode", ["offline_410", "offline_202"])
def test_files_on_tape_are_asked_for_in_bulk(
    standin: StandIn, settings: Config, worker: WorkerFactory, mode: str
) -> None:
    """A file on tape costs one GET; then one worker of two asks, and it starts when it is back."""
    items = [standin.add_item(KiB) for _ in range(12)]
    for item in items[:6]:
        standin.fault(item, mode)
    worker("one"), worker("two")

    batch = enqueue(items, conf=settings)
    wait_until(lambda: batch.status().waiting == {"offline": 6}, WAIT_S, "six wait")
    wait_until(lambda: asked(standin)["fastavailability"] >= 2, WAIT_S, "two questions")
    standin.bring_online()
    status = batch.wait(WAIT_S)

    assert status.states[State.SUCCESS] == 12
    assert [len(standin.downloads(item)) for item in items] == [2] * 6 + [1] * 6
    assert {one.attempts for one in batch.results()} == {1}
    assert asked(standin)["availability"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.chaos)])
def test_half_on_tape_holds_nothing_up(
    standin: StandIn, settings: Config, worker: WorkerFactory, count: int
) -> None:
    """The others end as soon as all were asked for once; no file is refused more than twice."""
    settings = settings.replace(offline_poll_seconds=8.0)
    items = [standin.add_item(KiB) for _ in range(count)]
    taped = items[::2]
    for item in taped:
        standin.fault(item, "offline_410")
    fleet(worker, settings)

    batch = enqueue(items, conf=settings)
    half = count // 2
    wait_until(lambda: batch.status().states[State.SUCCESS] == half, 2 * WAIT_S, "the others")
    done_at = time.time()
    first = {one.path: one.started_at for one in reversed(standin.downloads())}
    wait_until(lambda: asked(standin)["fastavailability"] > half // 100, WAIT_S, "a question")
    polled = batch.status()
    standin.bring_online()
    status = batch.wait(2 * WAIT_S)

    refusals = Counter(one.path for one in standin.downloads() if one.status == 410)
    polls = asked(standin)["fastavailability"]
    assert status.states[State.SUCCESS] == count
    # Every one of them was asked for by then: none waited for a file on tape.
    assert done_at - max(first.values()) < 2.0
    assert polled.waiting == {"offline": half}
    assert max(refusals.values()) <= 2
    assert sum(refusals.values()) <= half * 1.1
    assert len(standin.downloads()) == count + sum(refusals.values())
    assert polls <= 6 * math.ceil(half / 100)
    assert asked(standin)["availability"] == 0


@pytest.mark.slow
def test_a_portal_that_lies_is_not_believed_twice(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Called online and refused all the same, a file asks for itself later and later."""
    settings = settings.replace(offline_poll_seconds=0.5)
    item = standin.add_item(KiB)
    standin.fault(item, "offline_410")
    standin.settings.always_available = True
    worker(settings=settings)

    batch = enqueue(item, conf=settings)
    wait_until(lambda: len(standin.downloads(item)) >= 3, WAIT_S, "a third request")
    standin.bring_online()
    status = batch.wait(WAIT_S)

    moments = [one.started_at for one in standin.downloads(item)]
    assert status.states[State.SUCCESS] == 1
    # The third comes after four periods and more, not at the next question.
    assert moments[2] - moments[1] > 2.0
    assert len(moments) <= 5


def test_a_portal_without_the_routes_is_asked_slowly(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Without any route that tells, a file on tape asks for itself, seldom, and ends well."""
    settings = settings.replace(offline_poll_seconds=0.5)
    items = [standin.add_item(KiB) for _ in range(4)]
    standin.settings.change(bulk_status=404, availability_status=404)
    for item in items:
        standin.fault(item, "offline_410", gets=1)
    worker(settings=settings)

    status = enqueue(items, conf=settings).wait(WAIT_S)

    gaps = []
    for item in items:
        first, second = (one.started_at for one in standin.downloads(item))
        gaps.append(second - first)
    assert status.states[State.SUCCESS] == 4
    assert min(gaps) > 1.9
    assert asked(standin)["fastavailability"] >= 1
