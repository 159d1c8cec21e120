"""A worker writes below its roots only, whatever path comes out of Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodes_tasks.errors import OutsideRootsError
from geodes_tasks.tasks.allowed_folders import AllowedFolders


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
