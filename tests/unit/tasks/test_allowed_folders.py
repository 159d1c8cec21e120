"""A worker writes below its roots only, whatever path comes out of Redis."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import DiskError, GeodesTasksError, OutsideRootsError
from geodes_tasks.model.asset import Unpack
from geodes_tasks.tasks.allowed_folders import FOLDERS, FRESH_S, AllowedFolders
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.download import download
from tests.conftest import MemoryTransport, asset_of, some_bytes
from tests.unit.transfer.test_edges import FILES, PRODUCT, FolderTransport
from tests.unit.transfer.test_unpack import MEMBERS, zipped

CONTENT, ZIP = some_bytes(100_000), zipped(MEMBERS)
KINDS: dict[str, tuple[Any, Any]] = {
    "file": (asset_of(CONTENT, "a.bin"), MemoryTransport(CONTENT)),
    "product": (PRODUCT, FolderTransport(FILES)),
    "archive": (asset_of(ZIP, "S2A.zip", unpack=Unpack.DROP), MemoryTransport(ZIP)),
    "members": (
        asset_of(ZIP, "S2A.zip", unpack=Unpack.DROP, members=("*",)),
        MemoryTransport(ZIP),
    ),
}


def test_below_any_of_them(tmp_path: Path) -> None:
    """A path below one of several roots is taken as it is, whether it exists or not."""
    roots = AllowedFolders((tmp_path / "one", tmp_path / "two"))

    assert roots.checked(f"{tmp_path}/two/deep/a.zip") == tmp_path / "two/deep/a.zip"


@pytest.mark.parametrize(
    "path", ["/etc/cron.d/evil", "{root}/../evil", "{root}-evil/a", "relative/a", "{root}/a\0b", ""]
)
def test_everything_else_is_refused(path: str, tmp_path: Path) -> None:
    """Another folder, a way out by dots, a name that only begins alike, no path at all."""
    root = tmp_path / "root"
    asked = path.format(root=root)

    with pytest.raises(OutsideRootsError, match=r"writes below .*/root only"):
        AllowedFolders((root,)).checked(asked)


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    """A link below the root that points elsewhere is followed, and the place is judged."""
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OutsideRootsError, match="link/a"):
        AllowedFolders((tmp_path / "root",)).checked(f"{tmp_path}/root/link/a")


def test_a_root_may_be_a_link_itself(tmp_path: Path) -> None:
    """Shared folders are often reached by a link: /data that is /mnt/pool7."""
    (tmp_path / "pool7").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "pool7")

    assert AllowedFolders((tmp_path / "data",)).checked(f"{tmp_path}/data/a") == tmp_path / "data/a"


def test_a_folder_whose_file_system_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare mount point takes files that no other host sees, and that the next mount hides."""
    mounted = {str(tmp_path), "/"}
    monkeypatch.setattr(
        disk, "device_of", lambda path: max(one for one in mounted if path.startswith(one))
    )
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    roots = AllowedFolders((tmp_path,))
    wanted = tmp_path / "deep" / "a.zip"
    assert roots.checked(str(wanted)) == wanted

    mounted.remove(str(tmp_path))
    now[0] += FRESH_S
    with pytest.raises(DiskError, match="is not mounted any more"):
        roots.checked(str(wanted))
    with pytest.raises(DiskError, match="is not mounted any more"):
        disk.probe(wanted.parent)
    assert not wanted.parent.exists()

    mounted.add(str(tmp_path))
    assert roots.checked(str(wanted)) == wanted


def test_a_root_that_is_gone_concerns_only_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's other roots, named before or behind it, are written to."""
    gone, other = tmp_path / "gone", tmp_path / "other"
    mounted = {"/", str(gone)}
    monkeypatch.setattr(
        disk, "device_of", lambda path: max(one for one in mounted if path.startswith(one))
    )
    disk.check_mounted(str(gone))
    mounted.remove(str(gone))

    for roots in (AllowedFolders((gone, other)), AllowedFolders((other, gone))):
        assert roots.checked(f"{other}/a.zip") == other / "a.zip"
        with pytest.raises(DiskError, match="is not mounted any more"):
            roots.checked(f"{gone}/a.zip")


class Flipped(Callbacks):
    """A colleague exchanges the folder for a link to one elsewhere, and back, at given moments."""

    def __init__(self, roots: AllowedFolders, final: Path, elsewhere: Path, states: Any) -> None:
        self.roots, self.final, self._elsewhere = roots, final, elsewhere
        self._states = itertools.chain(states, itertools.repeat(states[-1]))
        self.flip()

    def flip(self) -> None:
        """Let the name of the folder lead to itself or to the other one."""
        folder, aside = self.final.parent, self.final.parent.with_name("aside")
        if folder.is_symlink():
            folder.unlink()
            aside.rename(folder)
        if next(self._states):
            folder.rename(aside)
            folder.symlink_to(self._elsewhere)

    def before_open(self, source: str) -> None:
        """Flip before a request."""
        self.flip()

    def confirm(self) -> None:
        """Check as a worker does, then flip."""
        self.roots.checked(str(self.final))
        self.flip()

    def check_folder(self, descriptor: int) -> None:
        """Check as a worker does."""
        self.roots.check_open(str(self.final), descriptor)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("states", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_that_changes_between_two_checks(
    tmp_path: Path, kind: str, states: tuple[bool, ...], replace: bool
) -> None:
    """Whichever of the moments a link stands in its place, no file gets a name elsewhere."""
    asset, transport = KINDS[kind]
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    final = root / "c" / asset.title.removesuffix(".zip")
    (root / "c").mkdir(parents=True)
    elsewhere.mkdir()
    roots = AllowedFolders((root,))
    callbacks = Flipped(roots, final, elsewhere, states)

    error: Exception | None = None
    try:
        sources = {"geodes": transport}
        download(asset, final, sources, callbacks=callbacks, token="1", replace=replace)
    except GeodesTasksError as raised:
        error = raised

    assert not [path for path in elsewhere.rglob("*") if path.name != PART_FOLDER]
    assert error or final.exists()
    assert error is None or "writes below" in str(error) or "exchanged" in str(error)


def test_an_open_folder_is_judged_by_where_it_is(tmp_path: Path) -> None:
    """Below a root, a root itself, or one that a link below another root leads to."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one / "deep" / "er", two, tmp_path / "other"):
        folder.mkdir(parents=True)
    (one / "link").symlink_to(two)
    roots = AllowedFolders((one, two, tmp_path / "missing"))

    def check(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            roots.check_open(f"{one}/a", descriptor)
        finally:
            os.close(descriptor)

    for folder in (one, one / "deep" / "er", two, one / "link"):
        check(folder)
    for folder in (tmp_path, tmp_path / "other", Path("/")):
        with pytest.raises(OutsideRootsError, match=r"one/a: .*writes below"):
            check(folder)


def test_a_link_that_becomes_a_folder_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between lstat and readlink, which then says EINVAL: refused by name."""
    (tmp_path / "link").symlink_to("x")
    monkeypatch.setattr(os, "readlink", lambda _: os.fsdecode(os.read(-1, 1)))

    with pytest.raises(OutsideRootsError, match="link/a"):
        AllowedFolders((tmp_path,)).checked(f"{tmp_path}/link/a")


def test_where_a_folder_is_is_remembered_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most files go where the last one went; a folder that left the roots is judged anew soon."""
    folder = tmp_path / "root" / "c"
    folder.mkdir(parents=True)
    roots, now = AllowedFolders((tmp_path / "root",)), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    descriptor = os.open(folder, os.O_RDONLY)

    try:
        roots.check_open(str(folder / "a"), descriptor)
        folder.rename(tmp_path / "c")
        roots.check_open(str(folder / "a"), descriptor)
        now[0] += FRESH_S
        with pytest.raises(OutsideRootsError):
            roots.check_open(str(folder / "a"), descriptor)
    finally:
        os.close(descriptor)


def test_a_file_that_is_a_link_is_resolved(tmp_path: Path) -> None:
    """Its folder is a root, the place it leads to is not."""
    (tmp_path / "root").mkdir()
    roots = AllowedFolders((tmp_path / "root",))
    path = tmp_path / "root" / "a"
    assert roots.checked(str(path)) == path

    path.symlink_to(tmp_path / "secret")

    with pytest.raises(OutsideRootsError):
        roots.checked(str(path))


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """A batch with a folder for each file does not fill the memory."""
    roots = AllowedFolders((tmp_path,))

    for number in range(3 * FOLDERS):
        roots.checked(f"{tmp_path}/{number}/a")

    assert len(roots._real) <= FOLDERS
