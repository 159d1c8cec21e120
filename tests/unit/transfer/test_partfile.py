"""Part files: unproven bytes never bear a final name, and no two attempts write to one file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from geodes_tasks.errors import LeaseLostError
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.leftovers import read_etag
from geodes_tasks.transfer.partfile import THREAD_MIN_BYTES, PartFile
from tests.conftest import some_bytes
from tests.unit.transfer.scene import BYTES, files, ignore, left_by, part_of

# --- write and publish ---------------------------------------------------------------------------


def test_publishing_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    """After publish the bytes are at the final name and the part folder is gone."""
    final = tmp_path / "deep" / "folder" / "a.zip"

    with part_of(final) as part:
        part.write(b"one")
        part.write(b"two")
        part.sync()
        assert not final.exists()
        proof = part.publish()

    assert final.read_bytes() == b"onetwo"
    assert files(tmp_path) == ["deep/folder/a.zip"]
    assert not (final.parent / PART_FOLDER).exists()
    assert (proof.size_bytes, proof.inode) == (6, final.stat().st_ino)


def test_the_part_folder_goes_with_the_last_attempt(tmp_path: Path) -> None:
    """Whoever publishes beside others leaves their folder alone; nobody leaves it behind."""
    one, two = part_of(tmp_path / "a.zip"), part_of(tmp_path / "b.zip")
    with one, two:
        for part in (one, two):
            part.write(BYTES)
        one.publish()
        between = (tmp_path / PART_FOLDER).is_dir()
        two.publish()

    assert between
    assert files(tmp_path) == ["a.zip", "b.zip"]
    assert not (tmp_path / PART_FOLDER).exists()


def test_publishing_replaces_an_older_file_in_one_step(tmp_path: Path) -> None:
    """The old bytes stay at the final name until the new ones are published."""
    final = tmp_path / "a.zip"
    final.write_bytes(b"old")

    with part_of(final) as part:
        part.write(b"new")
        before = final.read_bytes()
        part.publish()

    assert (before, final.read_bytes()) == (b"old", b"new")


def test_new_files_obey_the_umask(tmp_path: Path) -> None:
    """A published file has the mode that the user's umask gives, not a private one."""
    old = os.umask(0o027)
    try:
        with part_of(tmp_path / "a.zip") as part:
            part.write(b"x")
            part.publish()
    finally:
        os.umask(old)

    assert (tmp_path / "a.zip").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["x" * 251 + ".zip", "é" * 125 + ".zip", "日" * 83 + ".zip"])
def test_names_of_255_bytes_have_parts_too(tmp_path: Path, name: str) -> None:
    """A file name at the limit of the file system downloads, is left over and is adopted."""
    final = tmp_path / name
    left_by(1, final)

    with part_of(final, 2) as part:
        found = part.leftovers.longest()
        assert found is not None
        part.adopt(found, ignore)
        part.publish()

    assert final.read_bytes() == BYTES
    assert files(tmp_path) == [name]


def test_long_names_that_differ_at_the_end_do_not_share_parts(tmp_path: Path) -> None:
    """Names that are shortened alike are kept apart by their digest."""
    left_by(1, tmp_path / ("x" * 250 + "a"))

    with part_of(tmp_path / ("x" * 250 + "b"), 2) as part:
        found = part.leftovers.longest()

    assert found is None


def test_a_failed_attempt_keeps_its_bytes(tmp_path: Path) -> None:
    """Bytes that came before an error stay in the part file, and not at the final name."""
    final = tmp_path / "a.zip"

    with pytest.raises(RuntimeError, match="broken"), part_of(final) as part:
        write_and_break(part)

    assert not final.exists()
    assert part.path.read_bytes() == b"some"


def write_and_break(part: PartFile) -> None:
    """Write, and fail."""
    part.write(b"some")
    raise RuntimeError("broken")


def test_an_attempt_without_bytes_leaves_nothing(tmp_path: Path) -> None:
    """When nothing came, neither part nor folder stays."""
    with part_of(tmp_path / "a.zip"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_discarding_leaves_parts_of_others_alone(tmp_path: Path) -> None:
    """The folder goes with the last part in it."""
    final = tmp_path / "a.zip"
    with part_of(final, 1) as first, part_of(final, 2) as second:
        first.write(b"x")
        second.write(b"y")
        first.discard()

    assert files(tmp_path) == [f"{PART_FOLDER}/{second.path.name}"]


def test_quarantined_bytes_bear_a_name_of_their_own(tmp_path: Path) -> None:
    """A copy that is kept for inspection is neither the file nor a part to adopt."""
    final = tmp_path / "a.zip"
    with part_of(final, 1) as part:
        part.write(BYTES)
        kept = part.quarantine()

    with part_of(final, 2) as later:
        found = later.leftovers.longest()

    assert kept.read_bytes() == BYTES
    assert not final.exists()
    assert found is None


# --- hashing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [THREAD_MIN_BYTES - 1, THREAD_MIN_BYTES])
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_the_digest_is_that_of_hashlib(tmp_path: Path, size: int, algorithm: str) -> None:
    """Hashed in this thread or beside it, the digest is the same."""
    content = some_bytes(size)
    with PartFile(tmp_path / "a.zip", "x", "1", algorithm) as part:
        part.expect(size)
        for at in range(0, size, 300_000):
            part.write(content[at : at + 300_000])
        digest = part.digest()
        part.discard()

    assert digest.digest == hashlib.new(algorithm, content).hexdigest()


@pytest.mark.parametrize("threaded", [False, True])
def test_a_restart_forgets_what_was_written(tmp_path: Path, threaded: bool) -> None:
    """After restart neither the file nor the digest holds an old byte."""
    final = tmp_path / "a.zip"
    with part_of(final) as part:
        part.expect(THREAD_MIN_BYTES if threaded else 10)
        part.write(b"old and longer")
        part.restart()
        offset = part.offset
        part.write(b"new")
        digest = part.digest()
        part.publish()

    assert offset == 0
    assert final.read_bytes() == b"new"
    assert digest.digest == hashlib.md5(b"new").hexdigest()


# --- adopting ------------------------------------------------------------------------------------


def test_adopting_takes_bytes_and_digest(tmp_path: Path) -> None:
    """Adopted bytes count in offset, digest and file, and the dead attempt's part is gone."""
    final = tmp_path / "a.zip"
    old = left_by(1, final)
    heard: list[int] = []

    with part_of(final, 2) as part:
        part.adopt(old, heard.append)
        part.write(b"tail")
        digest = part.digest()
        part.publish()

    assert final.read_bytes() == BYTES + b"tail"
    assert digest.digest == hashlib.md5(BYTES + b"tail").hexdigest()
    assert heard[-1] == len(BYTES)
    assert files(tmp_path) == ["a.zip"]


def test_an_older_attempt_never_robs_a_newer_one(tmp_path: Path) -> None:
    """A worker that lost its lease and woke up neither adopts nor sweeps its successor's part."""
    final = tmp_path / "a.zip"
    newer = left_by(2, final)

    with part_of(final, 1) as older:
        found = older.leftovers.longest()
        older.leftovers.sweep()
        older.write(b"x")

    assert found is None
    assert newer.read_bytes() == BYTES


def test_a_robbed_part_cannot_be_published(tmp_path: Path) -> None:
    """A paused worker whose bytes were taken over learns it at publish, and publishes nothing."""
    final = tmp_path / "a.zip"
    with part_of(final, 1) as paused:
        paused.write(BYTES)
        with part_of(final, 2) as part:
            part.adopt(paused.path, ignore)
        with pytest.raises(LeaseLostError, match="the lease went to another worker"):
            paused.publish()

    assert not final.exists()
    assert part.path.read_bytes() == BYTES


def test_a_robbed_worker_that_writes_on_harms_nobody(tmp_path: Path) -> None:
    """What a paused worker writes after it was robbed never reaches its successor's file."""
    final = tmp_path / "a.zip"
    with part_of(final, 1) as paused:
        paused.write(BYTES)
        with part_of(final, 2) as part:
            part.adopt(paused.path, ignore)
            paused.write(b"late")
            part.publish()
        paused.write(b"later")

    assert final.read_bytes() == BYTES


def test_an_adoption_cut_short_can_be_adopted_in_turn(tmp_path: Path) -> None:
    """When the adopting attempt dies while it copies, no byte of the first one is lost."""
    final = tmp_path / "a.zip"
    old = left_by(1, final)

    with pytest.raises(KeyboardInterrupt, match="killed"), part_of(final, 2) as part:
        part.adopt(old, killed)
    with part_of(final, 3) as third:
        found = third.leftovers.longest()
        assert found is not None
        third.adopt(found, ignore)
        third.leftovers.sweep()
        third.publish()

    assert final.read_bytes() == BYTES
    assert files(tmp_path) == ["a.zip"]


def killed(done_bytes: int) -> None:
    """Die at the first progress."""
    raise KeyboardInterrupt("killed")


def test_a_leftover_that_vanished_is_no_error(tmp_path: Path) -> None:
    """When its owner was faster, the attempt goes on with nothing adopted."""
    final = tmp_path / "a.zip"
    old = left_by(1, final)
    old.unlink()

    with part_of(final, 2) as part:
        part.adopt(old, ignore)
        offset = part.offset

    assert offset == 0


def test_the_validator_of_big_files_is_kept_for_the_next_attempt(tmp_path: Path) -> None:
    """The ETag lies beside the part, and goes when the bytes have been adopted."""
    final = tmp_path / "a.zip"
    old = left_by(1, final, etag='"v1"')

    with part_of(final, 2) as part:
        etag = read_etag(old)
        part.adopt(old, ignore)
        part.publish()

    assert etag == '"v1"'
    assert files(tmp_path) == ["a.zip"]


def test_quarantine_keeps_the_copy_only(tmp_path: Path) -> None:
    """Beside the copy that is kept for inspection nothing stays."""
    with part_of(tmp_path / "a.zip") as part:
        part.expect(THREAD_MIN_BYTES)
        part.note_etag('"v1"')
        part.write(b"x")
        kept = part.quarantine()

    assert files(tmp_path) == [str(kept.relative_to(tmp_path))]


def test_validators_of_dead_attempts_are_swept_up(tmp_path: Path) -> None:
    """However often an attempt dies while adopting, success leaves the file alone."""
    final = tmp_path / "a.zip"
    old = left_by(1, final, etag='"v1"')
    with pytest.raises(KeyboardInterrupt, match="killed"), part_of(final, 2) as part:
        part.adopt(old, killed)

    with part_of(final, 3) as third:
        third.write(b"x")
        third.leftovers.sweep()
        third.publish()

    assert files(tmp_path) == ["a.zip"]


def test_the_folder_may_vanish_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt that ends removes the empty folder; this one makes it again."""
    real, times = os.open, iter([1, 1, 1])

    def vanish(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and next(times, 0):
            (tmp_path / PART_FOLDER).rmdir()
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("os.open", vanish)

    with part_of(tmp_path / "a.zip") as part:
        part.write(b"x")

    assert part.path.read_bytes() == b"x"
