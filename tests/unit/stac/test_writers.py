"""Items written to a file: whole or not at all, and to no other file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodes_tasks.stac.paging import Item
from geodes_tasks.stac.writers import write


def test_two_searches_into_one_file_do_not_mix(tmp_path: Path) -> None:
    """A search that ends while another one writes does not publish what that has so far."""
    output = tmp_path / "items.json"

    def found() -> Iterator[Item]:
        yield {"id": "slow"}
        write([{"id": "quick"}], output)
        assert json.loads(output.read_text())["features"] == [{"id": "quick"}]

    assert write(found(), output) == 1
    assert json.loads(output.read_text())["features"] == [{"id": "slow"}]


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    """Who links items.json to a large disk finds the items there, and no unfinished file."""
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "real.json", tmp_path / "items.jsonl"
    target.write_text("before")
    link.symlink_to("disk/real.json")

    write([{"id": "a"}], link)

    assert link.is_symlink()
    assert target.read_text() == '{"id": "a"}\n'
    assert [path.name for path in target.parent.iterdir()] == ["real.json"]


def test_a_link_of_another_user_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared folder anyone can make a link to a file of this user."""
    victim, link = tmp_path / "victim", tmp_path / "items.jsonl"
    victim.write_text("precious")
    link.symlink_to(victim)
    if os.geteuid() == 0:
        os.lchown(link, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    write([{"id": "a"}], link)

    assert victim.read_text() == "precious"
    assert link.read_text() == '{"id": "a"}\n'


@pytest.mark.parametrize("named", [True, False])
def test_a_pipe_is_written_to(tmp_path: Path, named: bool) -> None:
    """A FIFO is not replaced by a file, and ``-o >(command)`` reaches the command."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    reader, writer = os.pipe()
    if named:
        os.close(reader)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    written = write([{"id": "a"}], pipe if named else Path(f"/dev/fd/{writer}"))

    os.close(writer)
    assert written == 1
    assert b'{"id": "a"}' in os.read(reader, 1000)
    assert pipe.is_fifo()
    os.close(reader)


@pytest.mark.parametrize("name", [".", "", "sub", "sub/.."])
def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder is refused before an item is requested."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(IsADirectoryError):
        write(iter(lambda: pytest.fail("searched"), None), Path(name))

    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_search_that_breaks_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The former file stays until the new one is whole."""
    (tmp_path / "items.json").write_text("before")

    def broken() -> Iterator[Item]:
        yield {"id": "a"}
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write(broken(), tmp_path / "items.json")

    assert (tmp_path / "items.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["items.json"]
