"""The folder for the sockets of private servers: of this user alone, with a short path."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client.private_server import FOLDER_BYTES, runtime_folder
from geodes_tasks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = f"geodes-tasks-{os.getuid()}"


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of temporary files, where the system has none for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_folder_of_this_user_is_made(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else reads it; XDG_RUNTIME_DIR wins."""
    assert runtime_folder() == shared / OWN
    assert (shared / OWN).stat().st_mode & 0o777 == 0o700

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))

    assert runtime_folder() == shared / "geodes-tasks"


def test_what_others_put_there_is_one_error(shared: Path) -> None:
    """A file, a dangling link and a link to a folder name the variable that leads elsewhere."""
    planted = shared / OWN
    for target in (None, "/nonexistent/x", "."):
        planted.unlink(missing_ok=True)
        planted.symlink_to(target) if target else planted.touch()

        with pytest.raises(ConfigError, match=f"{OWN}: (is no folder|belongs)") as caught:
            runtime_folder()
        assert "XDG_RUNTIME_DIR" in str(caught.value.remedy)


def test_a_link_that_is_exchanged_is_not_followed(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look decides: whoever owns the link may exchange it for a folder before a second one."""
    (shared / OWN).symlink_to(".")
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)  # by then

    with pytest.raises(ConfigError, match="belongs to another user"):
        runtime_folder()


@pytest.mark.parametrize("variable", ["TMPDIR", "XDG_RUNTIME_DIR"])
def test_a_long_path_is_left_out(
    shared: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The name of a socket fits, whatever the variables name: bytes count, not letters."""
    long = shared / ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long if variable == "TMPDIR" else shared))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long) if variable == "XDG_RUNTIME_DIR" else "")

    folder = runtime_folder()

    assert len(os.fsencode(folder)) <= FOLDER_BYTES
    assert long not in folder.parents
