"""The engine: a file is at its final name only when it is proven; nothing proven is lost."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import (
    CatalogueMismatchError,
    ChecksumMismatchError,
    DiskError,
    DownloadCancelledError,
    LeaseLostError,
    NotAFileError,
    QuotaError,
    Reaction,
    SizeMismatchError,
    TooLargeError,
    TruncatedBodyError,
    UnexpectedAnswerError,
)
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import disk
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.partfile import THREAD_MIN_BYTES, PartFile
from geodes_tasks.transports import Body
from tests.conftest import KiB, MemoryTransport, asset_of, md5, some_bytes
from tests.tools import absent
from tests.unit.transfer.scene import (
    ASSET,
    CONTENT,
    HALF,
    WRONG,
    Recorder,
    broken,
    fetch,
    names,
    never_read,
)

# --- the whole file ------------------------------------------------------------------------------


def test_a_whole_body_is_proven_and_published(final: Path) -> None:
    """The bytes are at the final name, the result says how, and nothing else is left."""
    recorder = Recorder()

    result = download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, callbacks=recorder)

    assert final.read_bytes() == CONTENT
    assert names(final) == ["a.zip"]
    assert not (final.parent / PART_FOLDER).exists()
    assert (result.outcome, result.verified, result.source) == (Outcome.DOWNLOADED, True, "geodes")
    assert (result.size_bytes, result.bytes_transferred) == (len(CONTENT), len(CONTENT))
    assert result.checksum == md5(CONTENT)
    assert result.proof == Proof.of(final.stat())
    assert (recorder.done[-1], recorder.received) == (len(CONTENT), len(CONTENT))
    assert (recorder.sources, recorder.confirmed) == (["geodes"], 1)


def test_a_body_is_proven_by_sha3(final: Path) -> None:
    """SHA3-256, which SAFE manifests use, proves the right bytes and refuses the wrong ones."""
    digest = hashlib.sha3_256(CONTENT).hexdigest()
    asset = replace(ASSET, checksum=Checksum("sha3_256", digest))
    with pytest.raises(ChecksumMismatchError, match="catalogue says sha3_256"):
        fetch(final, MemoryTransport(WRONG), asset)

    result = fetch(final, MemoryTransport(CONTENT), asset, token=2)

    assert (result.verified, final.read_bytes()) == (True, CONTENT)


def test_an_empty_body_of_which_nothing_is_known_is_no_file(final: Path) -> None:
    """Without size and checksum in the catalogue it may be an answer without a file."""
    asset = asset_of(b"", "a.txt", checksum=None, size_bytes=None)

    with pytest.raises(UnexpectedAnswerError, match="empty"):
        fetch(final, MemoryTransport(b""), asset)

    assert names(final) == []


def test_an_empty_file_is_a_file(final: Path) -> None:
    """A catalogue may announce 0 bytes."""
    result = fetch(final, MemoryTransport(b""), asset_of(b""))

    assert final.read_bytes() == b""
    assert result.verified


def test_big_files_are_hashed_beside_the_transfer(final: Path) -> None:
    """A file large enough for a hashing thread is proven as any other."""
    content = some_bytes(THREAD_MIN_BYTES + 1)

    result = fetch(final, MemoryTransport(content, chunk_bytes=KiB * KiB), asset_of(content))

    assert (result.verified, final.stat().st_size) == (True, len(content))
    assert names(final) == ["a.zip"]


def test_the_umask_decides_who_may_read(final: Path) -> None:
    """On a shared file system others read what the user's umask lets them."""
    old = os.umask(0o002)
    try:
        fetch(final, MemoryTransport(CONTENT))
    finally:
        os.umask(old)

    assert final.stat().st_mode & 0o777 == 0o664
    assert final.parent.stat().st_mode & 0o777 == 0o775


def test_the_expected_size_may_be_unknown(final: Path) -> None:
    """With a checksum and no size, the checksum alone proves the file."""
    result = fetch(final, MemoryTransport(CONTENT), asset_of(CONTENT, size_bytes=None))

    assert (result.verified, result.size_bytes) == (True, len(CONTENT))


# --- resuming ------------------------------------------------------------------------------------


def test_a_truncated_body_keeps_its_part(final: Path) -> None:
    """What came before the connection broke is kept, and not at the final name."""
    broken(final)

    assert not final.exists()
    assert [path.stat().st_size for path in (final.parent / PART_FOLDER).iterdir()] == [HALF]


def test_the_next_attempt_goes_on_where_the_last_one_broke(final: Path) -> None:
    """Only the missing bytes are fetched, and the whole is proven."""
    broken(final)
    transport = MemoryTransport(CONTENT)

    result = fetch(final, transport, token=2)

    assert transport.opened == [(HALF, None)]
    assert (result.outcome, result.bytes_transferred) == (Outcome.RESUMED, len(CONTENT) - HALF)
    assert final.read_bytes() == CONTENT
    assert names(final) == ["a.zip"]


def test_the_kept_validator_is_sent_with_the_resume(final: Path) -> None:
    """For big files the server can tell whether the object is still the same."""
    content = some_bytes(THREAD_MIN_BYTES)
    asset = asset_of(content)
    broken(final, HALF, asset, content)
    transport = MemoryTransport(content, chunk_bytes=KiB * KiB)

    result = fetch(final, transport, asset, token=2)

    assert transport.opened == [(HALF, '"v1"')]
    assert (result.outcome, names(final)) == (Outcome.RESUMED, ["a.zip"])


def test_a_refused_resume_starts_at_zero(final: Path) -> None:
    """When the server begins at byte 0, so does the file, and no old byte survives."""
    broken(final)
    transport = MemoryTransport(CONTENT, resumes=False)

    result = fetch(final, transport, token=2)

    assert (result.outcome, result.bytes_transferred) == (Outcome.DOWNLOADED, len(CONTENT))
    assert final.read_bytes() == CONTENT
    assert names(final) == ["a.zip"]


def test_an_object_of_another_size_is_not_published(final: Path) -> None:
    """When the object has another size than the catalogue says, its checksum decides."""
    broken(final)
    transport = MemoryTransport(CONTENT + b"tail")

    with pytest.raises(ChecksumMismatchError, match="catalogue says"):
        fetch(final, transport, token=2)

    assert transport.opened == [(HALF, None)]
    assert not final.exists()


def test_a_body_that_starts_elsewhere_than_the_part_ends_is_not_joined(final: Path) -> None:
    """A 206 for another offset than asked never leaves a hole or an overlap."""
    broken(final)

    class Elsewhere(MemoryTransport):
        def open(self, href, *, offset=0, etag=None, asset=None):  # type: ignore[no-untyped-def]
            return MemoryTransport.open(self, href, offset=offset and offset - 10, etag=etag)

    transport = Elsewhere(CONTENT)
    result = fetch(final, transport, token=2)

    assert [offset for offset, _ in transport.opened] == [HALF - 10, 0]
    assert (result.outcome, final.read_bytes()) == (Outcome.DOWNLOADED, CONTENT)


def test_a_part_that_lacks_only_its_proof_needs_no_request(final: Path) -> None:
    """A worker killed between the last byte and the publishing costs no second transfer."""
    with PartFile(final, str(ASSET.checksum), "1", "md5") as part:
        part.write(CONTENT)
    transport = MemoryTransport(CONTENT)

    result = fetch(final, transport, token=2)

    assert transport.opened == []
    assert (result.outcome, result.bytes_transferred) == (Outcome.RESUMED, 0)
    assert final.read_bytes() == CONTENT


def test_a_damaged_part_is_found_out_and_not_called_a_whole_copy(final: Path) -> None:
    """Old bytes that rotted on disk fail the proof, and say nothing against the catalogue."""
    with PartFile(final, str(ASSET.checksum), "1", "md5") as part:
        part.write(WRONG[:HALF])

    with pytest.raises(ChecksumMismatchError, match="catalogue says") as caught:
        fetch(final, MemoryTransport(CONTENT), token=2)
    result = fetch(final, MemoryTransport(CONTENT), token=3)

    assert caught.value.whole is False
    assert (result.outcome, names(final)) == (Outcome.DOWNLOADED, ["a.zip"])


def test_bytes_that_could_not_be_proven_later_are_not_resumed(final: Path) -> None:
    """Without checksum and validator nothing could tell that two halves belong together."""
    unknown = asset_of(CONTENT, checksum=None, title="a.tif")
    broken(final, HALF, unknown)
    transport = MemoryTransport(CONTENT)

    result = fetch(final, transport, unknown, token=2)

    assert transport.opened == [(0, None)]
    assert (result.outcome, names(final)) == (Outcome.DOWNLOADED, ["a.zip"])


def test_an_older_attempt_never_robs_a_newer_one(final: Path) -> None:
    """An attempt that lost its lease finds nothing to adopt of its successor's."""
    with PartFile(final, str(ASSET.checksum), "9", "md5") as newer:
        newer.write(CONTENT[:HALF])
    transport = MemoryTransport(CONTENT)

    fetch(final, transport, token=2)

    assert transport.opened == [(0, None)]
    assert newer.path.read_bytes() == CONTENT[:HALF]


def test_a_part_robbed_by_a_later_attempt_cannot_be_published(final: Path) -> None:
    """A worker that was paused before publishing finds its bytes taken over, and stops."""

    class Robbed(Recorder):
        def confirm(self) -> None:
            fetch(final, MemoryTransport(b""), token=2)
            final.unlink()

    with pytest.raises(LeaseLostError, match="the lease went to another worker"):
        download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, callbacks=Robbed(), token="1")

    assert not final.exists()


# --- wrong bytes ---------------------------------------------------------------------------------


def test_corrupt_bytes_are_thrown_away(final: Path) -> None:
    """Bytes that hash wrong are at no name at all, and both digests are in the message."""
    with pytest.raises(ChecksumMismatchError, match=f"{md5(CONTENT)}.*{md5(WRONG)}") as caught:
        fetch(final, MemoryTransport(WRONG))

    assert caught.value.whole is True
    assert names(final) == []


def test_two_equal_wrong_copies_put_the_catalogue_in_doubt(final: Path) -> None:
    """A second whole copy with the same digest ends the download, and is kept for inspection."""
    with pytest.raises(CatalogueMismatchError, match="two full copies say") as caught:
        download(ASSET, final, {"geodes": MemoryTransport(WRONG)}, suspect=md5(WRONG))

    assert not final.exists()
    assert Path(caught.value.quarantine).read_bytes() == WRONG
    assert names(final) == [f"{PART_FOLDER}/{Path(caught.value.quarantine).name}"]


def test_two_different_wrong_copies_are_the_networks_fault(final: Path) -> None:
    """When the second copy is wrong in another way, the catalogue is not blamed."""
    with pytest.raises(ChecksumMismatchError, match="catalogue says"):
        download(ASSET, final, {"geodes": MemoryTransport(WRONG)}, suspect=md5(b"other"))

    assert names(final) == []


def test_a_resumed_wrong_copy_does_not_blame_the_catalogue(final: Path) -> None:
    """Only copies fetched whole testify against the catalogue."""
    broken(final, content=WRONG)

    with pytest.raises(ChecksumMismatchError, match="catalogue says") as caught:
        download(ASSET, final, {"geodes": MemoryTransport(WRONG)}, token="2", suspect=md5(WRONG))

    assert caught.value.whole is False


def test_more_bytes_than_announced_are_refused_at_once(final: Path) -> None:
    """An endless body is cut off where the file should have ended."""
    transport = MemoryTransport(CONTENT + WRONG, says_total=False)

    with pytest.raises(SizeMismatchError, match=f"catalogue says {len(CONTENT)} bytes"):
        fetch(final, transport)

    assert names(final) == []
    assert transport.sent_bytes <= len(CONTENT) + transport.chunk_bytes


def test_a_body_that_ends_early_without_a_word_is_truncated(final: Path) -> None:
    """A body without announced length that is shorter than the catalogue says is kept as a part."""
    with pytest.raises(TruncatedBodyError, match=f"{len(CONTENT)} bytes announced, {HALF}"):
        fetch(final, MemoryTransport(CONTENT[:HALF], says_total=False))

    assert [path.stat().st_size for path in (final.parent / PART_FOLDER).iterdir()] == [HALF]


# --- no checksum ---------------------------------------------------------------------------------


def test_without_a_checksum_the_file_ends_unverified(final: Path) -> None:
    """The file is there, its digest is told, and nobody claims that it was proven."""
    result = fetch(final, MemoryTransport(CONTENT), asset_of(CONTENT, "a.tif", checksum=None))

    assert (result.verified, result.checksum) == (False, md5(CONTENT))
    assert final.read_bytes() == CONTENT


def test_without_a_checksum_a_zip_must_at_least_be_one(final: Path) -> None:
    """What is announced as a zip and is none is not published."""
    asset = asset_of(CONTENT, checksum=None)

    with pytest.raises(UnexpectedAnswerError, match="no zip archive"):
        fetch(final, MemoryTransport(CONTENT), asset)

    assert names(final) == []


def test_without_a_checksum_a_real_zip_is_taken(final: Path) -> None:
    """An archive with its directory at the end is whole, as far as can be said."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", CONTENT)

    result = fetch(
        final, MemoryTransport(buffer.getvalue()), asset_of(buffer.getvalue(), checksum=None)
    )

    assert (result.outcome, result.verified) == (Outcome.DOWNLOADED, False)


# --- already there -------------------------------------------------------------------------------


def placed(final: Path, content: bytes) -> Path:
    """Put bytes at the final name."""
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(content)
    return final


def test_the_right_bytes_on_disk_are_not_fetched(final: Path) -> None:
    """A file that hashes right is present, whoever put it there."""
    placed(final, CONTENT)
    transport, recorder = MemoryTransport(CONTENT), Recorder()

    result = download(ASSET, final, {"geodes": transport}, callbacks=recorder)

    assert transport.opened == []
    assert (result.outcome, result.verified) == (Outcome.ALREADY_PRESENT, True)
    assert (result.bytes_transferred, recorder.done[-1]) == (0, len(CONTENT))
    assert names(final) == ["a.zip"]


def test_a_file_unchanged_since_its_proof_is_not_read(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stat is enough where the ledger knows the proof."""
    proof = Proof.of(placed(final, CONTENT).stat())
    monkeypatch.setattr(checksums, "hash_file", never_read)

    result = download(ASSET, final, {"geodes": MemoryTransport(b"")}, proof=proof)

    assert (result.outcome, result.verified) == (Outcome.ALREADY_PRESENT, True)


def test_a_file_changed_since_its_proof_is_read(final: Path) -> None:
    """Written to since, even with the same size, a file must prove itself anew."""
    proof = Proof.of(placed(final, CONTENT).stat())
    final.write_bytes(WRONG)
    os.utime(final, ns=(0, proof.mtime_ns + 1))

    result = download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, proof=proof)

    assert (result.outcome, final.read_bytes()) == (Outcome.DOWNLOADED, CONTENT)


def test_a_file_of_the_wrong_size_is_not_read(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checksum the size alone shows that it is not the file."""
    placed(final, CONTENT[:-1])
    monkeypatch.setattr(checksums, "hash_file", never_read)

    result = fetch(final, MemoryTransport(CONTENT), asset_of(CONTENT, "a.tif", checksum=None))

    assert result.outcome is Outcome.DOWNLOADED


def test_an_unverifiable_file_is_present_by_its_proof_only(final: Path) -> None:
    """Without a checksum in the catalogue, a name and a size prove nothing."""
    asset = asset_of(CONTENT, "a.tif", checksum=None)
    first = fetch(final, MemoryTransport(CONTENT), asset)

    again = download(asset, final, {}, proof=first.proof)
    unknown = download(asset, final, {"geodes": MemoryTransport(CONTENT)})

    assert (again.outcome, again.verified) == (Outcome.ALREADY_PRESENT, False)
    assert unknown.outcome is Outcome.DOWNLOADED


def test_wrong_bytes_stay_until_the_right_ones_are_proven(final: Path) -> None:
    """A failed attempt to replace a file leaves what was there."""
    placed(final, WRONG)

    with pytest.raises(TruncatedBodyError, match="announced"):
        fetch(final, MemoryTransport(CONTENT, cuts=[HALF]))
    before = final.read_bytes()
    fetch(final, MemoryTransport(CONTENT), token=2)

    assert before == WRONG
    assert final.read_bytes() == CONTENT


# --- other bytes that must not be replaced -------------------------------------------------------


def beside(
    final: Path, content: bytes = CONTENT, asset: Asset = ASSET, recorder: Recorder | None = None
) -> DownloadResult:
    """Download without replacing what is there."""
    transports = {"geodes": MemoryTransport(content)}
    return download(asset, final, transports, callbacks=recorder, replace=False)


def test_other_bytes_are_not_replaced(final: Path) -> None:
    """The new file gets a number before its suffix, and the old ones stay."""
    placed(final, WRONG)
    placed(final.with_name("a-1.zip"), b"notes")

    result = beside(final)

    assert result.path == str(final.with_name("a-2.zip"))
    assert final.read_bytes() == WRONG
    assert final.with_name("a-1.zip").read_bytes() == b"notes"
    assert final.with_name("a-2.zip").read_bytes() == CONTENT
    assert names(final) == ["a-1.zip", "a-2.zip", "a.zip"]


def test_a_copy_under_a_number_is_found(final: Path) -> None:
    """The second call finds what the first one published, and fetches nothing."""
    placed(final, WRONG)
    beside(final)

    again = download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, replace=False)

    assert (again.outcome, again.bytes_transferred) == (Outcome.ALREADY_PRESENT, 0)
    assert again.path == str(final.with_name("a-1.zip"))
    assert names(final) == ["a-1.zip", "a.zip"]


def test_without_a_checksum_nothing_is_a_copy(final: Path) -> None:
    """Equal size and name prove nothing: the file that is there stays, beside the new one."""
    asset = asset_of(CONTENT, "a.bin", checksum=None)
    placed(final.with_name("a.bin"), WRONG)

    result = beside(final.with_name("a.bin"), asset=asset)

    assert result.path == str(final.with_name("a-1.bin"))
    assert final.with_name("a.bin").read_bytes() == WRONG


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_a_file_that_comes_at_the_last_moment_is_not_replaced(final: Path, kind: str) -> None:
    """Another program takes the name while the bytes come: its file stays."""

    class Late(Recorder):
        def confirm(self) -> None:
            if kind == "file":
                final.write_bytes(b"notes")
            else:
                final.symlink_to("nowhere")

    result = beside(final, recorder=Late())

    assert result.path == str(final.with_name("a-1.zip"))
    assert final.with_name("a-1.zip").read_bytes() == CONTENT
    assert final.is_symlink() if kind != "file" else final.read_bytes() == b"notes"
    assert names(final) == (["a-1.zip"] if kind != "file" else ["a-1.zip", "a.zip"])


def test_a_copy_that_comes_at_the_last_moment_is_the_file(final: Path) -> None:
    """Two processes fetch one asset to one name: there is one file in the end."""

    class Late(Recorder):
        def confirm(self) -> None:
            final.write_bytes(CONTENT)

    result = beside(final, recorder=Late())

    assert result.path == str(final)
    assert names(final) == ["a.zip"]


def test_a_break_before_the_end_loses_nothing(final: Path) -> None:
    """A file that is in the way is as it was after a transfer broke, and after it was resumed."""
    placed(final, WRONG)
    torn = {"geodes": MemoryTransport(CONTENT, cuts=[HALF])}

    with pytest.raises(TruncatedBodyError, match="announced"):
        download(ASSET, final, torn, token="1", replace=False)
    before = final.read_bytes()
    result = download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, token="2", replace=False)

    assert before == final.read_bytes() == WRONG
    assert (result.outcome, result.path) == (Outcome.RESUMED, str(final.with_name("a-1.zip")))


def test_a_folder_at_the_final_name_is_refused(final: Path) -> None:
    """A folder is never replaced, and nothing is fetched."""
    final.mkdir(parents=True)
    transport = MemoryTransport(CONTENT)

    with pytest.raises(NotAFileError, match="there is a folder of this name"):
        fetch(final, transport)

    assert transport.opened == []


def test_a_special_file_at_the_final_name_is_refused(final: Path) -> None:
    """Reading a pipe would hang; it is named and left alone."""
    final.parent.mkdir()
    os.mkfifo(final)

    with pytest.raises(NotAFileError, match="special file"):
        fetch(final, MemoryTransport(CONTENT))


def test_a_link_to_itself_at_the_final_name(final: Path) -> None:
    """A loop of links is no file: it is named, and stays."""
    final.parent.mkdir()
    final.symlink_to(final)

    with pytest.raises(NotAFileError, match="there is a link that leads to itself"):
        fetch(final, MemoryTransport(CONTENT))

    assert final.is_symlink()


def test_a_full_disk_is_found_before_the_first_request(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte and no quota is spent on a file that does not fit."""
    usage = type("Usage", (), {"free": disk.RESERVE_BYTES + len(CONTENT) - 1, "total": 10**12})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    transport = MemoryTransport(CONTENT)

    with pytest.raises(DiskError, match="free on the volume"):
        fetch(final, transport)

    assert transport.opened == []
    assert names(final) == []


def test_a_file_larger_than_the_volume_ends_by_name(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size that the empty volume cannot hold is final, and both numbers are named."""
    usage = type("Usage", (), {"free": 80 * 10**9, "total": 10**11})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    transport = MemoryTransport(CONTENT)
    asset = replace(ASSET, size_bytes=10**17)

    with pytest.raises(TooLargeError, match=f"{10**17} bytes needed.*{10**11} bytes") as caught:
        fetch(final, transport, asset)

    assert caught.value.reaction is Reaction.FINAL
    assert (transport.opened, names(final)) == ([], [])


def test_a_volume_that_reports_no_space_is_tried(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero bytes free of zero bytes in all is no report: the file is downloaded."""
    usage = type("Usage", (), {"free": 0, "total": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    fetch(final, MemoryTransport(CONTENT))

    assert final.read_bytes() == CONTENT


def test_a_size_that_only_the_server_announces_is_reserved(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the catalogue gives no size, no byte of a body that does not fit is written."""
    usage = type("Usage", (), {"free": disk.RESERVE_BYTES + HALF, "total": 10**12})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    with pytest.raises(DiskError, match=f"{len(CONTENT)} bytes needed"):
        fetch(final, MemoryTransport(CONTENT), replace(ASSET, size_bytes=None))

    assert names(final) == []


class Endless(MemoryTransport):
    """A server whose body has no announced size and no end."""

    def open(self, href, *, offset=0, etag=None, asset=None):  # type: ignore[no-untyped-def]
        """Open such a body."""
        self.opened.append((offset, etag))
        return contextlib.nullcontext(Body(0, None, None, itertools.repeat(bytes(KiB * KiB))))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """Mount a volume of 40 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        absent("only root may mount a file system for this test")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_an_endless_body_is_given_up_before_the_volume_is_full(volume: Path) -> None:
    """The error names the file and the bytes received; the volume is empty again."""
    asset = replace(ASSET, size_bytes=None, checksum=None)

    with pytest.raises(TooLargeError, match=r"a\.zip: .* bytes received and no end") as caught:
        fetch(volume / "a.zip", Endless(b""), asset)

    received = int(caught.value.problem.split(" bytes received")[0].split()[-1])
    assert 30 * KiB * KiB < received < 40 * KiB * KiB
    assert list(volume.iterdir()) == []


@pytest.mark.parametrize(("came", "opened_at"), [(14, 14), (22, 0)])
def test_a_resume_does_not_need_room_for_the_whole_file(
    volume: Path, came: int, opened_at: int
) -> None:
    """The part of a dead attempt is copied where there is room, else it makes room."""
    content = some_bytes(KiB * KiB) * 28
    asset = asset_of(content)
    final = volume / "a.zip"
    broken(final, came * KiB * KiB, asset, content)
    transport = MemoryTransport(content, chunk_bytes=KiB * KiB)

    fetch(final, transport, asset, token=2)

    assert [offset for offset, _ in transport.opened] == [opened_at * KiB * KiB]
    assert final.read_bytes() == content
    assert names(final) == ["a.zip"]


# --- stopped from outside ------------------------------------------------------------------------


def test_a_stop_at_progress_keeps_the_part_and_publishes_nothing(final: Path) -> None:
    """A lost lease stops the transfer within one chunk."""
    recorder = Recorder(progress_error=LeaseLostError("id"))
    transport = MemoryTransport(CONTENT)

    with pytest.raises(LeaseLostError, match="another worker"):
        download(ASSET, final, {"geodes": transport}, callbacks=recorder)

    assert not final.exists()
    assert transport.sent_bytes == transport.chunk_bytes


def test_a_stop_at_the_last_moment_publishes_nothing(final: Path) -> None:
    """Whole and proven, a file of somebody else's lease stays a part."""
    recorder = Recorder(confirm_error=DownloadCancelledError("id"))

    with pytest.raises(DownloadCancelledError, match="cancelled"):
        download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, callbacks=recorder)

    assert not final.exists()
    assert recorder.done[-1] == len(CONTENT)


def test_a_used_up_quota_stops_before_the_request(final: Path) -> None:
    """The portal is not asked, and an earlier attempt's bytes stay."""
    broken(final)
    recorder = Recorder(open_error=QuotaError("href", "50 in the last hour"))
    transport = MemoryTransport(CONTENT)

    with pytest.raises(QuotaError, match="used up"):
        download(ASSET, final, {"geodes": transport}, callbacks=recorder, token="2")

    assert transport.opened == []
    assert [path.stat().st_size for path in (final.parent / PART_FOLDER).iterdir()] == [HALF]


def test_hashing_a_file_on_disk_can_be_stopped(final: Path) -> None:
    """Cancelling works while an old file is being read, too."""
    placed(final, CONTENT)

    with pytest.raises(DownloadCancelledError, match="cancelled"):
        download(ASSET, final, {}, callbacks=Recorder(progress_error=DownloadCancelledError("id")))

    assert final.read_bytes() == CONTENT


# --- afterwards ----------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [True, False], ids=["earlier attempts", "none"])
def test_parts_of_dead_attempts_go_before_the_rename(
    final: Path, monkeypatch: pytest.MonkeyPatch, *, earlier: bool
) -> None:
    """No later attempt removes them. Where the first look found none, there is no second one."""
    if earlier:
        broken(final)
    scans, before, left = list[int](), list[int](), list[str]()
    scan, rename = os.scandir, os.replace

    def scandir(*args: int) -> object:
        scans.append(1)
        return scan(*args)

    def replacing(*args: Any, **more: Any) -> None:
        before.append(len(scans))
        left.extend(path.name for path in (final.parent / PART_FOLDER).iterdir())
        rename(*args, **more)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "replace", replacing)
    fetch(final, MemoryTransport(CONTENT), token=2)

    assert before[0] > 1 if earlier else before == [1]
    assert len(left) == 1
    assert names(final) == ["a.zip"]


def test_success_sweeps_what_earlier_attempts_left(final: Path) -> None:
    """Parts of dead attempts go with the success of a later one."""
    for token in (1, 2):
        with PartFile(final, str(ASSET.checksum), str(token), "md5") as part:
            part.write(CONTENT[:HALF])

    fetch(final, MemoryTransport(CONTENT), token=3)

    assert names(final) == ["a.zip"]


def test_an_older_attempt_that_wakes_after_a_newer_one_leaves_nothing(final: Path) -> None:
    """Its part goes when it learns that its lease is lost and the file is published."""

    class Frozen(Recorder):
        def before_open(self, source: str) -> None:
            fetch(final, MemoryTransport(CONTENT), token=2)

        def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
            raise LeaseLostError("a")

    class Late(MemoryTransport):
        def open(self, href, *, offset=0, etag=None, asset=None):  # type: ignore[no-untyped-def]
            late.__enter__()
            late.write(CONTENT)
            return MemoryTransport.open(self, href, offset=offset, etag=etag)

    late = PartFile(final, str(ASSET.checksum), "1", "md5")
    fetch(final, Late(CONTENT), token=3)
    late.__exit__(None, None, None)
    swept = names(final)
    final.unlink()
    with pytest.raises(LeaseLostError, match="a"):
        download(ASSET, final, {"geodes": MemoryTransport(CONTENT)}, callbacks=Frozen(), token="1")

    assert swept == names(final) == ["a.zip"]


def test_discarding_removes_all_parts_of_a_download(final: Path) -> None:
    """After a cancellation nothing of this download is left, and other downloads are untouched."""
    broken(final)
    other = final.with_name("b.zip")
    broken(other, asset=asset_of(CONTENT, "b.zip"))

    transfer.discard(ASSET, final, "5")

    assert [name.partition(".zip.")[0] for name in names(final)] == [f"{PART_FOLDER}/b"]


def test_discarding_below_a_file_is_no_error(final: Path) -> None:
    """Where a file stands in place of the folder there is nothing to remove."""
    final.parent.write_bytes(b"a file")

    transfer.discard(ASSET, final, "5")

    assert final.parent.read_bytes() == b"a file"
