"""Part files of dead attempts: found, chosen and removed, those of others never."""

from __future__ import annotations

from pathlib import Path

from geodes_tasks.transfer.leftovers import ADOPT_MIN_BYTES
from tests.unit.transfer.scene import BYTES, files, left_by, part_of


def test_the_longest_leftover_is_found(tmp_path: Path) -> None:
    """Of several dead attempts' parts the longest is worth most."""
    final = tmp_path / "a.zip"
    left_by(1, final, BYTES)
    longest = left_by(2, final, BYTES + b"more")
    left_by(3, final, BYTES[:-1])

    with part_of(final, 4) as part:
        found = part.leftovers.longest()

    assert found == longest


def test_scraps_are_not_adopted(tmp_path: Path) -> None:
    """Less than the minimum is fetched again, and swept up."""
    final = tmp_path / "a.zip"
    left_by(1, final, BYTES[: ADOPT_MIN_BYTES - 1])

    with part_of(final, 2) as part:
        found = part.leftovers.longest()
        part.write(b"x")
        part.leftovers.sweep()
        part.publish()

    assert found is None
    assert files(tmp_path) == ["a.zip"]


def test_parts_for_other_bytes_are_never_adopted(tmp_path: Path) -> None:
    """A newer version of a file bears the same name; its predecessor's bytes are no use."""
    final = tmp_path / "a.zip"
    left_by(1, final)

    with part_of(final, 2, content="md5:other") as part:
        found = part.leftovers.longest()
        part.write(b"x")
        part.leftovers.sweep()
        part.publish()

    assert found is None
    assert len(files(tmp_path)) == 2


def test_a_foreign_name_with_a_digit_that_is_no_number_is_left_alone(tmp_path: Path) -> None:
    """A superscript two counts as a digit in Python, and as no token here."""
    path = left_by(1, tmp_path / "a.zip")
    path.rename(path.with_name(path.name.replace(".1.part", ".².part")))

    with part_of(tmp_path / "a.zip", 2) as part:
        assert part.leftovers.longest() is None


def test_part_files_are_found_where_the_download_folder_is_a_link(tmp_path: Path) -> None:
    """It may be one to a larger volume: only the folder of part files must be none."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "downloads").symlink_to("volume")
    final = tmp_path / "downloads" / "a.zip"
    left = left_by(1, final, BYTES)

    with part_of(final, 2) as part:
        assert part.leftovers.longest() == left
