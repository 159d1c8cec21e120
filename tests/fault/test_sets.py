"""Sets of members under the verbs of users, and workers that end: as whole files."""

from __future__ import annotations

from typing import Any

import pytest

from geodes_tasks.model.states import Outcome, State
from tests.conftest import some_bytes
from tests.fault.scene import KiB, MiB, Scene
from tests.standin import RangeBehaviour

BANDS = {f"P/B{number:02}_10m.jp2": some_bytes(500 * KiB, seed=number) for number in range(8)}
BY_RANGES: dict[str, Any] = {"members": ["B*_10m.jp2"], "source": "geodes", "portal_ranges": True}


@pytest.fixture
def slow(scene: Scene) -> Scene:
    """Give a cluster whose portal serves ranges, and half a second is a member."""
    scene.change(lease_seconds=3, grace_seconds=0.5)
    scene.standin.settings.range, scene.standin.settings.rate = RangeBehaviour.GOOD, 1 * MiB
    return scene


def files(scene: Scene) -> dict[str, bytes]:
    """Return the members that are at their names."""
    return {f"P/{path.name}": path.read_bytes() for path in (scene.folder / "P").glob("*.jp2")}


def begun(scene: Scene) -> tuple[dict[str, Any], Any]:
    """Enqueue a set, and wait until its first member is at its name."""
    item = scene.standin.add_item(identifier="P", members=BANDS)
    batch = scene.enqueue(item, **BY_RANGES)
    scene.until(lambda: files(scene), 20, "the first member")
    return item, batch


def test_a_cancelled_set_stops_and_can_be_retried(slow: Scene) -> None:
    """Members at their names are whole and stay; a retry by item fetches the others alone."""
    slow.worker("first")
    item, batch = begun(slow)

    batch.cancel()
    (cancelled,) = slow.settled(batch, 10)
    early, sent = files(slow), slow.sent_bytes()

    assert cancelled.state is State.REVOKED
    assert 0 < len(early) < len(BANDS)
    assert early.items() <= BANDS.items()
    assert [name for name in slow.leftovers() if not name.endswith("geodes-tasks")] == []
    slow.standin.settings.rate = None
    assert batch.retry(items=[item["id"]]) == 1
    (record,) = slow.settled(batch, 20)
    assert (record.state, record.outcome) == (State.SUCCESS, Outcome.RESUMED), slow.logs
    assert files(slow) == BANDS
    assert slow.sent_bytes() - sent < (len(BANDS) - len(early) + 1) * 500 * KiB


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_half_done_set_continues_on_another_worker(slow: Scene, end: str) -> None:
    """Killed or stopped: no member is fetched twice but the one under way."""
    first = slow.worker("first")
    _, batch = begun(slow)

    getattr(first, end)()
    early, sent = files(slow), slow.sent_bytes()
    slow.standin.settings.rate = None
    slow.worker("second")

    (record,) = slow.settled(batch, 30)
    assert record.state is State.SUCCESS, slow.logs
    assert files(slow) == BANDS
    assert slow.sent_bytes() - sent < (len(BANDS) - len(early) + 1) * 500 * KiB


def test_a_failed_set_is_retried_and_a_rerun_needs_no_worker(slow: Scene) -> None:
    """Once the portal has the archive, `retry` ends well; one stat for the set tells a rerun."""
    slow.standin.settings.rate = None
    item = slow.standin.add_item(identifier="P", members=BANDS)
    slow.standin.fault(item, "gone_404")
    first = slow.worker("first")
    batch = slow.enqueue(item, **BY_RANGES)
    (failed,) = slow.settled(batch, 20)
    assert failed.state is State.FAILURE

    slow.standin.clear_faults()
    assert batch.retry() == 1
    (record,) = slow.settled(batch, 20)

    assert record.state is State.SUCCESS, slow.logs
    assert files(slow) == BANDS
    first.kill()
    requests = slow.downloads(item)
    again = slow.enqueue(item, **BY_RANGES)
    (present,) = slow.settled(again, 5)
    assert present.outcome is Outcome.ALREADY_PRESENT
    assert len(present.members) == len(BANDS)
    assert slow.downloads(item) == requests
