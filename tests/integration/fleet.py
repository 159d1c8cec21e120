"""Several workers at once, and what the portal saw of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.servers import WorkerProcess
    from tests.standin import RequestRecord, StandIn


def fleet(
    worker: WorkerFactory, settings: Config, count: int = 3, slots: int = 8
) -> list[WorkerProcess]:
    """Start workers side by side, and wait until all take messages."""
    nodes = [
        worker(f"node{number}", settings=settings, concurrency=slots, wait=False)
        for number in range(count)
    ]
    for node in nodes:
        node.wait_for(" ready.", 60.0)
    return nodes


def at_once(requests: Sequence[RequestRecord]) -> int:
    """Give the largest number of requests that were open at the same time."""
    moments = sorted(
        moment
        for one in requests
        for moment in ((one.started_at, 1), (one.finished_at or float("inf"), -1))
    )
    open_now = most = 0
    for _, step in moments:
        open_now += step
        most = max(most, open_now)
    return most


def refused(standin: StandIn) -> list[RequestRecord]:
    """Give the downloads that were not answered with a file."""
    return [one for one in standin.downloads() if one.status not in (200, 206)]
