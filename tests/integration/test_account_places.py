"""How many transfers run at once: no more than the settings say, or the portal takes."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.integration.fleet import at_once, fleet, refused
from tests.integration.test_cli import CommandLine
from tests.servers import wait_until
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch
    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.servers import WorkerProcess
    from tests.standin import StandIn

WAIT_S = 60.0


@pytest.mark.slow
def test_three_workers_share_the_places_of_an_account(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """24 slots, 4 places: never more than 4 at once, and nearly all of what 4 can carry."""
    # Between two transfers lie some 50 ms of a worker's time: real files take longer than these.
    each_s, count = 2.0, 32
    standin.settings.change(latency_s=each_s)
    nodes = fleet(worker, settings)

    batch = enqueue([standin.add_item(KiB) for _ in range(count)], conf=settings)
    status = batch.wait(WAIT_S)

    requests = standin.downloads()
    began = min(one.started_at for one in requests)
    took = max(one.finished_at or 0.0 for one in requests) - began
    busy = sum((one.finished_at or 0.0) - one.started_at for one in requests)
    assert status.states[State.SUCCESS] == count
    assert at_once(requests) <= 4
    assert busy / (4 * took) >= 0.95
    assert {len(standin.downloads(item)) for item in standin.items} == {1}
    # Each was delivered once to be fetched: twice on average at most.
    assert turned_away(nodes) <= count


def turned_away(nodes: list[WorkerProcess]) -> int:
    """Count the deliveries that found no place."""
    return sum(node.text.count("nothing to do (waiting)") for node in nodes)


@pytest.mark.chaos
def test_hidden_caps_are_found(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """The portal takes 5 at once, later 3: settled within one of it, under 2 % refused."""
    settings = settings.replace(max_concurrent=8)
    standin.settings.change(latency_s=0.25)
    standin.fault(None, "concurrency", limit=5, retry_after="1")
    fleet(worker, settings)
    batch = enqueue([standin.add_item(KiB) for _ in range(800)], conf=settings)

    wait_until(lambda: batch.status().states[State.SUCCESS] > 500, 2 * WAIT_S, "half is done")
    first = places(ledger)
    standin.clear_faults()
    standin.fault(None, "concurrency", limit=3, retry_after="1")
    batch.wait(2 * WAIT_S)

    settled = places(ledger)
    assert batch.status().states[State.SUCCESS] == 800
    assert 4 <= first <= 6
    assert 2 <= settled <= 4
    assert len(refused(standin)) < 0.02 * len(standin.downloads())


def places(ledger: Ledger) -> int:
    """Give the places that the account has now."""
    (state,) = ledger.account.states()
    return state.concurrent


@pytest.mark.slow
def test_a_portal_that_takes_fewer_is_found_out(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Few are refused, the portal's number is kept to, and ``status --why`` tells the change."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    standin.settings.change(latency_s=0.3)
    standin.fault(None, "concurrency", limit=2, retry_after="1")
    fleet(worker, settings, count=2)
    began = time.time()

    batch = enqueue([standin.add_item(KiB) for _ in range(60)], batch="b", conf=settings)
    batch.wait(WAIT_S)
    told = cli("status", "b", "--why")

    (change, *_) = ledger.account.changes("default")[::-1]
    assert batch.status().states[State.SUCCESS] == 60
    assert (change.before, change.places) in {(4, 2), (4, 1)}
    assert began - 5 < change.at < time.time() + 5
    assert "too many requests (429) with" in change.why
    assert "lowered from 4 to" in told.stdout
    assert len(refused(standin)) <= 6
    assert Counter(one.attempts for one in batch.results()) == {1: 60}


def throttled(batch: Batch) -> bool:
    """Tell whether a download waits because the portal said 429."""
    return bool(batch.status().waiting.get("throttled"))


FORMS = {
    "seconds": (0.5, 2.0),
    "date": (0.0, 2.0),
    "past_date": (0.0, 1.0),
    "zero": (0.0, 1.0),
    "milliseconds": (890.0, 900.0),
    "huge": (890.0, 900.0),
    "garbage": (15.0, 20.0),
    "none": (15.0, 20.0),
}
"""Form of Retry-After to the seconds that the account waits."""


def test_every_form_of_retry_after_is_heeded(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """The account waits as long as the portal says: from a second to a quarter of an hour."""
    worker(concurrency=1)
    waits = {}
    for form in FORMS:
        item = standin.add_item(KiB)
        standin.fault(item, "429", times=1, retry_after=form)
        batch = enqueue(item, conf=settings)
        wait_until(partial(throttled, batch), WAIT_S, form)
        (state,) = ledger.account.states()
        waits[form] = (state.paused_until or 0.0) - ledger.connection.server_time()
        ledger.control.resume_account("default")
        batch.wait(WAIT_S)

    outside = {f: w for f, w in waits.items() if not FORMS[f][0] - 1.0 < w <= FORMS[f][1]}
    assert outside == {}
