"""A worker that dies while it unpacks: no half folder is ever seen, another one finishes."""

from __future__ import annotations

import os

import pytest

from geodes_tasks.model.states import State
from tests.fault.scene import Scene
from tests.standin import RangeBehaviour

MEMBERS = {f"P/IMG_{number:04}.tif": os.urandom(4000) for number in range(1500)}


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_a_worker_killed_while_it_unpacks_is_replaced(scene: Scene, keep: bool) -> None:
    """Killed with some files unpacked: the folder appears whole, with one request in all."""
    scene.change(lease_seconds=3)
    item = scene.standin.add_item(identifier="P", members=MEMBERS)
    first = scene.worker("first")
    batch = scene.enqueue(item, extract=True, keep_archive=keep)
    growing = scene.folder / ".geodes-tasks"
    scene.until(lambda: any(growing.glob("*.folder/*.tif")), 20, "the first unpacked file")

    assert not (scene.folder / "P").exists()
    first.kill()
    assert not (scene.folder / "P").exists()
    scene.worker("second")

    (record,) = scene.settled(batch, 60)
    assert record.state is State.SUCCESS, scene.logs
    names = {path.name: path.read_bytes() for path in (scene.folder / "P").iterdir()}
    assert names == {name.removeprefix("P/"): content for name, content in MEMBERS.items()}
    assert scene.downloads(item) == 1
    assert (scene.folder / "P.zip").exists() is keep
    left = [name.rpartition(".")[2] for name in scene.leftovers()]
    assert left == ["geodes-tasks", "members"]


def test_another_worker_knows_the_directory_of_an_archive(scene: Scene) -> None:
    """A second set of an archive requests its members alone, whichever worker downloads it."""
    scene.standin.settings.range = RangeBehaviour.GOOD
    item = scene.standin.add_item(
        identifier="P", members={n: MEMBERS[n] for n in sorted(MEMBERS)[:99]}
    )
    first = scene.worker("first")
    options = {"source": "geodes", "portal_ranges": True}
    scene.settled(scene.enqueue(item, members=["IMG_0011.tif"], **options), 30)
    assert scene.downloads(item) == 2
    first.kill()
    scene.worker("second")

    (record,) = scene.settled(scene.enqueue(item, members=["IMG_0044.tif"], **options), 30)

    assert record.state is State.SUCCESS, scene.logs
    assert scene.downloads(item) == 3
    assert (scene.folder / "P" / "IMG_0044.tif").read_bytes() == MEMBERS["P/IMG_0044.tif"]


def test_a_worker_killed_in_a_set_of_members_is_replaced(scene: Scene) -> None:
    """Killed with some members at their names: these stay, the others follow, none is half."""
    scene.change(lease_seconds=3)
    item = scene.standin.add_item(identifier="P", members=MEMBERS)
    first = scene.worker("first")
    batch = scene.enqueue(item, members=["IMG_*[02468].tif"])
    scene.until(lambda: any((scene.folder / "P").glob("*.tif")), 20, "the first member")

    first.kill()
    early = {path.name: path.read_bytes() for path in (scene.folder / "P").iterdir()}
    scene.worker("second")

    (record,) = scene.settled(batch, 60)
    assert record.state is State.SUCCESS, scene.logs
    wanted = {name: data for name, data in MEMBERS.items() if int(name[-5]) % 2 == 0}
    names = {path.name: path.read_bytes() for path in (scene.folder / "P").iterdir()}
    assert names == {name.removeprefix("P/"): data for name, data in wanted.items()}
    assert early.items() <= names.items()
    assert (record.verified, len(record.members)) == ("crc32", len(wanted))
    assert scene.downloads(item) == 1
