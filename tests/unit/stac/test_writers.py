"""Items written to a file: whole or not at all, and to no other file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodes_tasks.stac.paging import Item
from geodes_tasks.stac.writers import write


def test_no_items_are_written_through_a_link(tmp_path: Path) -> None:
    """In a shared folder the name of the unfinished file can be taken first."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".items.json.part").symlink_to(victim)

    written = write([{"id": "a"}], tmp_path / "items.json")

    assert (written, victim.read_text()) == (1, "precious")
    assert not (tmp_path / "items.json").is_symlink()
    assert json.loads((tmp_path / "items.json").read_text())["features"] == [{"id": "a"}]


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
