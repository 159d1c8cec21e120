"""Two users of one group share a download folder: each continues what the other left."""

from __future__ import annotations

import multiprocessing
import os
import stat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.errors import DiskError, NotAFileError, TruncatedBodyError
from geodes_tasks.model.results import DownloadResult
from geodes_tasks.model.states import Outcome
from geodes_tasks.stac.assets import assets
from geodes_tasks.transfer.download import download
from geodes_tasks.transports.http.transport import HttpTransport
from tests.fault.scene import MiB
from tests.standin import RangeBehaviour, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.settings.config import Config
    from tests.standin import StandIn

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")

GROUP, ALICE, BOB = 61000, 61001, 61002
"""Ids that no user of the machine has."""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Give a folder of the group, in which new files belong to the group (setgid)."""
    folder = tmp_path / "shared"
    folder.mkdir()
    # pytest makes these for its own user alone.
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    return folder


def _become(
    user: int, umask: int, item: Mapping[str, Any], final: Path, settings: Config, to: Connection
) -> None:
    os.setgroups([GROUP])
    os.setgid(user)
    os.setuid(user)
    os.umask(umask)
    transports = {"geodes": HttpTransport(settings)}
    try:
        to.send(download(assets(item)[0], final, transports))
    except Exception as error:  # noqa: BLE001 - the test compares it
        to.send(error)


def download_as(
    user: int, umask: int, item: Mapping[str, Any], final: Path, settings: Config
) -> DownloadResult | Exception:
    """Download a file in a process of this user; return the result or the error."""
    # Forked: the interpreter may be in a folder that only root can read.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_become, args=(user, umask, item, final, settings, there))
    process.start()
    assert here.poll(60)
    answer: DownloadResult | Exception = here.recv()
    process.join()
    return answer


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077], ids=oct)
def test_a_second_user_continues_what_the_first_left(
    standin: StandIn, settings: Config, shared: Path, umask: int
) -> None:
    """Alice's connection breaks, Bob ends the file: with each umask, and nothing is left."""
    standin.settings.range = RangeBehaviour.GOOD
    item, final = standin.add_item(4 * MiB), shared / "file.zip"
    standin.fault(item, "truncate", after=3 * MiB, times=1)

    broken = download_as(ALICE, umask, item, final, settings)
    assert isinstance(broken, TruncatedBodyError)
    (part,) = shared.rglob("*.part")
    assert stat.S_IMODE(part.stat().st_mode) == 0o666 & ~umask
    bob = download_as(BOB, umask, item, final, settings)

    assert isinstance(bob, DownloadResult), bob
    # What Alice keeps to herself (umask 077) is fetched again.
    assert bob.outcome is (Outcome.DOWNLOADED if umask == 0o077 else Outcome.RESUMED)
    assert list(shared.iterdir()) == [final]
    assert final.read_bytes() == read(standin.body(item))
    found = final.stat()
    assert (found.st_uid, found.st_gid) == (BOB, GROUP)
    assert stat.S_IMODE(found.st_mode) == 0o666 & ~umask


def test_a_second_user_replaces_a_changed_file(
    standin: StandIn, settings: Config, shared: Path
) -> None:
    """A file that was changed on disk is fetched again, whoever owns it; then both have it."""
    item, final = standin.add_item(MiB), shared / "file.zip"
    assert isinstance(download_as(ALICE, 0o022, item, final, settings), DownloadResult)
    final.write_bytes(b"x" * MiB)

    bob = download_as(BOB, 0o022, item, final, settings)
    alice = download_as(ALICE, 0o022, item, final, settings)

    assert isinstance(bob, DownloadResult)
    assert bob.outcome is Outcome.DOWNLOADED
    assert isinstance(alice, DownloadResult)
    assert alice.outcome is Outcome.ALREADY_PRESENT


@pytest.mark.parametrize(
    ("mode", "umask", "kind", "text"),
    [
        (0o2775, 0o077, NotAFileError, "there is a read-protected file of this name already"),
        (0o3775, 0o022, NotAFileError, "there is a write-protected file of this name already"),
        (0o2755, 0o022, DiskError, "Permission denied"),
        (0o2755, 0o077, DiskError, "Permission denied"),
    ],
    ids=["unreadable", "sticky folder", "folder closed", "both"],
)
def test_a_file_that_a_second_user_may_not_replace_is_final(
    standin: StandIn,
    settings: Config,
    shared: Path,
    mode: int,
    umask: int,
    kind: type[Exception],
    text: str,
) -> None:
    """The file is named, and no volume: only a permission of the folder is waited for."""
    item, final = standin.add_item(MiB), shared / "file.zip"
    assert isinstance(download_as(ALICE, umask, item, final, settings), DownloadResult)
    final.write_bytes(b"x" * MiB)
    shared.chmod(mode)

    bob = download_as(BOB, umask, item, final, settings)

    assert type(bob) is kind
    assert str(bob).startswith(f"{shared}/")
    assert str(bob).endswith(f": {text}")
    assert final.read_bytes() == b"x" * MiB


def test_a_folder_of_one_user_alone_stays_so(
    standin: StandIn, settings: Config, shared: Path
) -> None:
    """Where the group may not write, the umask decides on the folder of part files too."""
    shared.chmod(0o2755)
    os.chown(shared, ALICE, GROUP)
    item = standin.add_item(MiB)
    standin.fault(item, "truncate", after=MiB // 2, times=1)

    download_as(ALICE, 0o027, item, shared / "file.zip", settings)

    (folder,) = shared.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) & 0o777 == 0o750
