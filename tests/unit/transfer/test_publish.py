"""Publication under a free name: no file is replaced, on any file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from geodes_tasks.errors import LeaseLostError
from geodes_tasks.transfer import publish
from tests.unit.transfer.scene import files, part_of


def test_a_taken_name_is_left_alone(tmp_path: Path) -> None:
    """What has the name stays, and so does the part, for another name."""
    final = tmp_path / "a.zip"
    final.write_bytes(b"old")

    with part_of(final) as part:
        part.write(b"new")
        refused = part.publish_new(final)
        proof = part.publish_new(tmp_path / "a-1.zip")

    assert refused is None
    assert proof is not None
    assert final.read_bytes() == b"old"
    assert (tmp_path / "a-1.zip").read_bytes() == b"new"
    assert files(tmp_path) == ["a-1.zip", "a.zip"]


@pytest.mark.parametrize("taken", [False, True])
def test_volumes_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """There too a name is taken in one step, and what has it already stays."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    final = tmp_path / "a.zip"
    if taken:
        final.write_bytes(b"old")

    with part_of(final) as part:
        part.write(b"new")
        proof = part.publish_new(final)

    assert (proof is None) is taken
    assert final.read_bytes() == (b"old" if taken else b"new")


@pytest.mark.parametrize("links", [True, False])
def test_a_robbed_part_takes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A part that a later attempt took over leaves no empty file behind, with links or without."""
    if not links:
        monkeypatch.setattr(publish, "_NO_LINKS", {errno.ENOENT})
    final = tmp_path / "a.zip"

    with part_of(final) as part:
        part.write(b"new")
        part.path.unlink()
        with pytest.raises(LeaseLostError, match=r"a\.zip"):
            part.publish_new(final)

    assert files(tmp_path) == []


def test_a_link_whose_answer_was_lost(tmp_path: Path) -> None:
    """A network file system may say that the name is taken by the very file that took it."""
    final = tmp_path / "a.zip"

    with part_of(final) as part:
        part.write(b"new")
        os.link(part.path, final)
        proof = part.publish_new(final)

    assert proof is not None
    assert files(tmp_path) == ["a.zip"]
