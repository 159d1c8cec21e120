"""A host to which no connection can be made: only what needs it waits, and it costs nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from geodes_tasks.model.states import State
from geodes_tasks.settings.quota import Quota
from geodes_tasks.settings.secret import Secret
from tests.fault.scene import wrong
from tests.integration.door import Door
from tests.integration.s3_server import BUCKET, S3Server
from tests.standin import KiB, StandIn, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.client.batch import Batch
    from tests.fault.scene import Scene

ITEMS = 6
PROBE_S = 0.5
"""Seconds between two probes in these tests."""


def port_of(url: str) -> int:
    """Return the port of an address."""
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.fixture
def door(scene: Scene) -> Iterator[Door]:
    """Give a shut door to the portal, which the settings lead through."""
    with Door(port_of(scene.standin.url)) as door:
        scene.change(portal_url=door.url, probe_seconds=PROBE_S, max_attempts=2)
        yield door


@pytest.fixture
def mirror(scene: Scene) -> Iterator[tuple[StandIn, Door]]:
    """Give another host that serves files without a key, behind a shut door."""
    with StandIn(api_key=None) as other, Door(port_of(other.url)) as door:
        scene.change(allowed_hosts=[door.host], probe_seconds=PROBE_S, max_attempts=2)
        yield other, door


def through(items: list[dict[str, Any]], url: str, door: Door) -> list[dict[str, Any]]:
    """Return the items with addresses that lead through a door."""
    return [json.loads(json.dumps(item).replace(url, door.url)) for item in items]


def refusals(scene: Scene) -> int:
    """Count the connections that were refused, as the log of the worker has them."""
    return scene.logs_whole.count("the connection failed")


def waits(batch: Batch, count: int) -> bool:
    """Return whether so many downloads of a batch have not ended, and nothing else holds one."""
    status = batch.status()
    return status.unfinished == count and set(status.waiting) <= {"outage"}


def settled_well(scene: Scene, batch: Batch) -> None:
    """Wait for the end of a batch, and check that each file came at its first attempt."""
    records = scene.settled(batch, 60)
    assert wrong(records) == [], scene.logs
    assert {one.attempts for one in records} == {1}


@pytest.mark.parametrize("quota", [Quota(ITEMS, 3600.0), None], ids=["window", "off"])
def test_an_outage_spends_nothing(scene: Scene, door: Door, quota: Quota | None) -> None:
    """Down from the start, for many probes; then all files come, each at its first attempt.

    The window has exactly as many requests as there are files.
    """
    scene.change(quota=quota)
    items = through(scene.items(ITEMS, KiB), scene.standin.url, door)
    scene.worker("one")
    batch = scene.enqueue(*items)
    scene.until(lambda: refusals(scene) > 8, 60, "the portal was probed several times")
    (during,) = scene.ledger.account.states()
    assert waits(batch, ITEMS), scene.logs

    door.open()
    settled_well(scene, batch)

    (after,) = scene.ledger.account.states()
    assert len(scene.standin.downloads()) == ITEMS
    assert (during.paused, during.why) == (None, "")
    if quota:
        assert during.quota_left >= ITEMS - 1
        assert after.quota_left == 0


@pytest.mark.slow
def test_a_portal_that_goes_away_and_comes_back(scene: Scene, door: Door) -> None:
    """In the middle of a batch the portal goes: one probe at a time, and it continues by itself."""
    scene.standin.settings.change(latency_s=0.2)
    items = through(scene.items(40, KiB), scene.standin.url, door)
    door.open()
    scene.worker("one")
    batch = scene.enqueue(*items)
    scene.until(lambda: batch.status().states["SUCCESS"] > 3, 30, "some files are there")
    door.shut()
    scene.until(lambda: "cannot be used" in scene.logs_whole, 30, "the outage was found")
    found_at, before = time.monotonic(), refusals(scene)
    scene.until(lambda: refusals(scene) >= before + 8, 60, "it was probed")
    periods = (time.monotonic() - found_at) / scene.settings.probe_seconds
    # What was under way when it was found, and one probe a period.
    assert refusals(scene) - before <= scene.settings.max_concurrent + periods + 1

    door.open()
    records = scene.settled(batch, 60)

    assert {one.state for one in records} == {State.SUCCESS}, scene.logs
    assert "can be reached again" in scene.logs_whole


def test_another_host_serves_while_the_portal_is_down(
    scene: Scene, door: Door, mirror: tuple[StandIn, Door]
) -> None:
    """A portal that is down costs only what needs it; what another host gives costs no quota."""
    other, open_door = mirror
    open_door.open()
    scene.change(portal_url=door.url, quota=Quota(4, 3600.0))
    mine = through(scene.items(4, KiB), scene.standin.url, door)
    theirs = through(
        [other.add_item(KiB, identifier=f"OTHER{n}") for n in range(12)], other.url, open_door
    )
    scene.worker("one")
    waiting = scene.enqueue(*mine)
    scene.until(lambda: waiting.status().waiting.get("outage"), 30, "the portal is down")

    settled_well(scene, scene.enqueue(*theirs))

    assert waits(waiting, 4)
    (account,) = scene.ledger.account.states()
    assert account.quota_left >= 3


def test_a_dead_host_costs_only_its_own_files(scene: Scene, mirror: tuple[StandIn, Door]) -> None:
    """One allowed host is down: the portal's files come, and the host is probed by one download."""
    other, door = mirror
    theirs = through(
        [other.add_item(KiB, identifier=f"OTHER{n}") for n in range(30)], other.url, door
    )
    scene.worker("one")
    waiting = scene.enqueue(*theirs)
    scene.until(lambda: waiting.status().waiting.get("outage"), 30, "the host is down")
    scene.until(lambda: "cannot be used" in scene.logs_whole, 30, "the outage was found")

    settled_well(scene, scene.enqueue(*scene.items(8, KiB)))
    assert waits(waiting, 30)
    door.open()

    settled_well(scene, waiting)


@pytest.mark.parametrize("quota", [Quota(20, 3600.0), None], ids=["window", "off"])
def test_a_dead_redirect_target_costs_only_what_is_redirected_there(
    scene: Scene, mirror: tuple[StandIn, Door], quota: Quota | None
) -> None:
    """The host behind signed redirects is down: its files wait without an attempt or quota.

    What the portal serves itself comes meanwhile; the rest comes when the host is back.
    """
    other, door = mirror
    scene.change(quota=quota)
    redirected = scene.items(ITEMS, KiB)
    for item in redirected:
        path = other.path_of(other.add_item(body=scene.standin.body(item)))
        location = f"{door.url}{path}?X-Amz-Signature=canary"
        scene.standin.fault(item, "redirect_other_host", location=location)
    scene.worker("one", concurrency=2)
    waiting = scene.enqueue(*redirected)
    scene.until(lambda: "cannot be used" in scene.logs_whole, 30, "the outage was found")
    asked = len(scene.standin.downloads())
    scene.until(lambda: len(scene.standin.downloads()) > ITEMS, 30, "each was redirected once")

    settled_well(scene, scene.enqueue(*scene.items(8, KiB)))
    (account,) = scene.ledger.account.states()
    assert waits(waiting, ITEMS)
    assert (account.paused, asked <= ITEMS) == (None, True)
    assert quota is None or account.quota_left >= quota.count - 9
    door.open()

    settled_well(scene, waiting)
    assert scene.ledger.sources.outages() == {}
    assert "canary" not in scene.logs_whole


def test_redirected_downloads_wait_for_the_portals_quota(
    scene: Scene, mirror: tuple[StandIn, Door]
) -> None:
    """Downloads that wait for a redirect's host still need the portal: its quota holds for them."""
    other, door = mirror
    scene.change(quota=Quota(3, 3600.0))
    items = scene.items(4, KiB)
    for item in items:
        path = other.path_of(other.add_item(body=scene.standin.body(item)))
        scene.standin.fault(item, "redirect_other_host", location=f"{door.url}{path}")
    scene.worker("one", concurrency=1)
    batch = scene.enqueue(*items)
    scene.until(lambda: waits(batch, 4) and "cannot be used" in scene.logs_whole, 30, "it is down")
    door.open()

    scene.until(lambda: batch.status().states["SUCCESS"] == 3, 30, "what the window allows")
    scene.until(lambda: batch.status().waiting == {"quota": 1}, 30, "the rest waits")
    (account,) = scene.ledger.account.states()
    assert account.quota_left == 0


def test_a_dead_datalake_costs_only_what_it_alone_has(scene: Scene) -> None:
    """S3 is down: the portal gives what it has too, what S3 alone has waits without an attempt."""
    with S3Server() as s3, Door(port_of(s3.url)) as door:
        scene.change(
            s3_endpoint_url=door.url,
            aws_access_key_id=Secret("key-id"),
            aws_secret_access_key=Secret("canary-secret"),
            probe_seconds=PROBE_S,
            max_attempts=2,
        )
        items = []
        for number in range(6):
            key = f"2025/04/02/{number}.zip"
            item = scene.standin.add_item(KiB, endpoint_url=f"{door.url}/{BUCKET}/{key}")
            s3.put(key, read(scene.standin.body(item)))
            items.append(item)
        scene.worker("one")
        alone = scene.enqueue(*items[:3], source="s3")
        scene.until(lambda: alone.status().waiting.get("outage"), 30, "S3 is down")
        both = scene.settled(scene.enqueue(*items[3:]), 60)
        assert wrong(both) == [], scene.logs
        assert {one.source for one in both} == {"geodes"}
        assert waits(alone, 3)

        door.open()
        settled_well(scene, alone)
