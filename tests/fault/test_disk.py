"""A disk that takes no more: the worker says so, gives the work back, and waits for space."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.model.states import Reason, State
from tests.fault.scene import MiB, Scene, wrong
from tests.tools import absent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.client.batch import Batch

SIZE = 48 * MiB


def mount(*arguments: str) -> bool:
    """Run mount; tells whether this machine lets us."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """Give a small file system of this test's own."""
    folder = tmp_path / "volume"
    folder.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)):
        absent("only root may mount a file system for this test")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def cluster(scene: Scene, volume: Path) -> Scene:
    """Give a cluster that downloads to the small volume."""
    scene.change(download_dir=volume, download_roots=(volume.parent,))
    return scene


def fill(volume: Path) -> Path:
    """Take all space that is left, and give the file that does."""
    ballast = volume / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while stream.write(b"\0" * (256 << 10)):
                pass
        except OSError:
            return ballast
    return ballast


def waits_for_the_disk(scene: Scene, batch: Batch) -> None:
    """Wait until every download was given back because of the disk."""
    scene.until(
        lambda: batch.status().waiting.get(Reason.DISK, 0) >= 1, 15, "a download waits for the disk"
    )
    scene.until(
        lambda: any("takes no more work" in one.text for one in scene.workers), 15, "it is said"
    )
    scene.until(
        # One may be claimed at the moment: it is given back at once.
        lambda: (
            {(one.state, one.attempts) for one in batch.results()}
            <= {(State.RETRY, 0), (State.PENDING, 0)}
        ),
        15,
        "no attempt counts",
    )


def goes_on(scene: Scene, batch: Batch) -> None:
    """Check that the worker takes work again by itself, and everything ends well."""
    said = [line for line in scene.workers[0].text.splitlines() if "takes no more work" in line]
    assert said, scene.logs
    assert all("Free space or repair the folder" in line for line in said), said
    # The fixed wait of a disk error is not what this is about.
    due = scene.ledger.connection.key("due")
    for one in scene.ledger.connection.client.zrange(due, 0, -1):
        scene.ledger.connection.client.zadd(due, {one: 1.0}, xx=True)
    records = scene.settled(batch, 40)
    assert wrong(records) == [], scene.logs
    assert "this worker takes work" in scene.workers[0].text


@pytest.mark.slow
def test_full_disk_gives_the_work_back(cluster: Scene, volume: Path) -> None:
    """No space for the next file: one clear line, no attempt counted, on when there is space."""
    ballast = fill(volume)
    worker = cluster.worker("first", concurrency=1)
    batch = cluster.enqueue(*cluster.items(3, MiB))

    waits_for_the_disk(cluster, batch)

    assert worker.text.count("takes no more work") == 1, cluster.logs
    assert cluster.standin.downloads() == [], "the portal was asked for what has no place"
    ballast.unlink()
    goes_on(cluster, batch)


def test_disk_that_fills_up_in_the_middle(cluster: Scene, volume: Path) -> None:
    """The volume fills up under a transfer: given back in the same way."""
    (item,) = cluster.items(1, 8 * MiB)
    cluster.standin.settings.rate = 4 * MiB
    cluster.worker("first", concurrency=1)
    batch = cluster.enqueue(item)
    cluster.fetched(item, MiB)

    fill(volume)
    waits_for_the_disk(cluster, batch)

    assert not list(volume.rglob("*.zip"))
    assert cluster.workers[0].text.count("takes no more work") == 1, cluster.logs


def test_folder_that_turns_read_only(cluster: Scene, volume: Path) -> None:
    """A volume remounted read-only: the same words, the same return."""
    cluster.worker("first", concurrency=1)
    assert mount("-o", "remount,ro", str(volume))
    batch = cluster.enqueue(*cluster.items(2, MiB))

    waits_for_the_disk(cluster, batch)

    assert cluster.workers[0].text.count("takes no more work") == 1, cluster.logs
    assert cluster.standin.downloads() == []


def test_other_workers_go_on(cluster: Scene, volume: Path) -> None:
    """One worker's folder is full; a batch for another folder is not held up by it."""
    fill(volume)
    cluster.worker("first", concurrency=1)
    full = cluster.enqueue(*cluster.items(1, MiB))
    waits_for_the_disk(cluster, full)
    cluster.change(download_dir=volume.parent / "elsewhere")
    cluster.worker("second")

    batch = cluster.enqueue(*cluster.items(4, MiB))

    assert wrong(cluster.settled(batch, 15)) == [], cluster.logs


@pytest.mark.slow
def test_one_full_volume_costs_no_other(cluster: Scene, volume: Path) -> None:
    """Two volumes on one worker, one of them full: the files of the other one come."""
    fill(volume)
    worker = cluster.worker("first", concurrency=2)
    full = cluster.enqueue(*cluster.items(12, MiB))
    waits_for_the_disk(cluster, full)
    cluster.change(download_dir=volume.parent / "elsewhere")

    batch = cluster.enqueue(*cluster.items(6, MiB))

    assert wrong(cluster.settled(batch, 40)) == [], cluster.logs
    assert full.status().unfinished == 12
    assert worker.text.count("takes no more work") == 1


def test_a_file_larger_than_the_volume_closes_no_worker(cluster: Scene) -> None:
    """It ends by name at once; the worker stays open and downloads what fits."""
    worker = cluster.worker("first", concurrency=1)
    large = cluster.enqueue(*cluster.items(1, SIZE + MiB))

    (record,) = cluster.settled(large, 30)

    assert (record.state, record.error.type if record.error else "") == (
        State.FAILURE,
        "TooLargeError",
    ), cluster.logs
    assert wrong(cluster.settled(cluster.enqueue(*cluster.items(2, MiB)), 30)) == [], cluster.logs
    assert "takes no more work" not in worker.text
