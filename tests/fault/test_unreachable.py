"""A portal to which no connection can be made: it costs neither quota nor attempts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from geodes_tasks.model.states import State
from geodes_tasks.settings.quota import Quota
from tests.integration.door import Door
from tests.standin import KiB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fault.scene import Scene

ITEMS = 6


@pytest.fixture
def door(scene: Scene) -> Iterator[Door]:
    """Give a shut door to the portal, which the settings lead through."""
    port = urlsplit(scene.standin.url).port
    assert port is not None
    with Door(port) as door:
        scene.change(portal_url=door.url, probe_seconds=0.2, max_attempts=2)
        yield door


def refusals(scene: Scene) -> int:
    """Count the connections that were refused, as the log of the worker has them."""
    return scene.logs_whole.count("the connection failed")


@pytest.mark.parametrize("quota", [Quota(ITEMS, 3600.0), None], ids=["window", "off"])
def test_an_outage_spends_nothing(scene: Scene, door: Door, quota: Quota | None) -> None:
    """Refused far oftener than the window and the attempts allow; then all come, each at its first.

    The window has exactly as many requests as there are files.
    """
    scene.change(quota=quota)
    items = [
        json.loads(json.dumps(item).replace(scene.standin.url, door.url))
        for item in scene.items(ITEMS, KiB)
    ]
    scene.worker("one")
    batch = scene.enqueue(*items)
    scene.until(lambda: refusals(scene) > 4 * ITEMS, 60, "the outage was met often")
    (during,) = scene.ledger.account.states()

    door.open()
    records = scene.settled(batch, 60)

    (after,) = scene.ledger.account.states()
    assert {one.state for one in records} == {State.SUCCESS}, scene.logs
    assert {one.attempts for one in records} == {1}
    assert len(scene.standin.downloads()) == ITEMS
    assert (during.paused, during.why) == (None, "")
    if quota:
        assert during.quota_left >= ITEMS - scene.settings.max_concurrent
        assert after.quota_left == 0
