"""Results keep their values as text and as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from geodes_tasks.errors import BatchFailedError, NotFoundError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import (
    BatchStatus,
    DownloadRecord,
    DownloadResult,
    ErrorInfo,
    MemberFile,
    Proof,
)
from geodes_tasks.model.states import Outcome, State

FAILED = DownloadRecord(
    item_id="i", collection="c", asset_key="a", state=State.FAILURE, outcome=None, path="/a",
    size_bytes=1, checksum=None, verified=False, bytes_transferred=0, attempts=1, source=None,
    started_at=None, finished_at=None, error=ErrorInfo("E", "m", "h"), footprint="{}",
)  # fmt: skip


def test_a_proof_is_read_back(tmp_path: Path) -> None:
    """The text of a proof is a proof, and a write to the file makes another one."""
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    proof = Proof.of(file.stat())

    assert Proof.parse(str(proof)) == proof
    assert proof.size_bytes == 5
    os.utime(file, ns=(0, 1))
    assert Proof.of(file.stat()) != proof


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "a:b:c"])
def test_no_proof(text: str) -> None:
    """A text that is no proof is a ValueError."""
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        Proof.parse(text)


def test_an_error_of_another_package_has_no_hint() -> None:
    """The hint is that of our errors; other exceptions have none."""
    assert ErrorInfo.of(KeyError("a")) == ErrorInfo("KeyError", "'a'", "")
    assert ErrorInfo.of(NotFoundError("h", 404)).hint == NotFoundError.remedy


def test_a_record_as_json() -> None:
    """The JSON form has the fields of the record in order, without the footprint."""
    form = json.loads(json.dumps(FAILED.to_dict()))

    assert list(form)[:4] == ["item_id", "collection", "asset_key", "state"]
    assert (form["state"], form["error"]) == (
        "FAILURE",
        {"type": "E", "message": "m", "hint": "h"},
    )
    assert "footprint" not in form
    assert "members" not in form
    assert "members" in replace(FAILED, members=(MemberFile("a", 1, "0" * 8),)).to_dict()


def test_unfinished_downloads_are_counted() -> None:
    """Downloads in state PENDING, STARTED or RETRY are unfinished."""
    states = {"PENDING": 1, "STARTED": 2, "RETRY": 4, "SUCCESS": 8, "FAILURE": 16, "REVOKED": 32}

    status = BatchStatus(batch="b", total=63, states=states, outcomes={})

    assert status.unfinished == 7
    assert status.to_dict()["states"] == states


@pytest.mark.parametrize("state", ["FAILURE", "REVOKED", "PENDING", None])
def test_a_batch_is_ok_when_all_of_it_is_done(state: str | None) -> None:
    """An empty batch is; whatever failed, was cancelled or is unfinished is named."""
    states = {"SUCCESS": 2} | ({state: 1} if state else {})
    status = BatchStatus(batch="b", total=sum(states.values()), states=states, outcomes={})

    assert status.ok is (state is None)
    if state is None:
        status.raise_for_status()
        return
    with pytest.raises(BatchFailedError, match=r"batch b: .* of 3 in all"):
        status.raise_for_status()


def test_a_file_that_was_there_is_verified_as_far_as_the_catalogue_knows() -> None:
    """By its checksum, where there is one; members by the CRC-32 of their archive."""
    known = Asset(
        item_id="i",
        collection="c",
        key="k",
        title="t",
        hrefs={},
        checksum=Checksum("md5", "0" * 32),
    )
    silent, proof = replace(known, checksum=None), Proof(1, 2, 3)
    member = (MemberFile("a", 1, "0" * 8),)

    results = [
        DownloadResult.present(known, Path("/a"), 1, proof),
        DownloadResult.present(silent, Path("/a"), 1, proof),
        DownloadResult.present(known, Path("/a"), 1, proof, member),
    ]

    assert [one.verified for one in results] == [True, False, "crc32"]


def test_a_row_has_plain_words_and_nothing_where_nothing_is_known() -> None:
    """A table of pandas, or a CSV, shows no class of ours and no word None."""
    row = FAILED.to_row()
    ended = replace(FAILED, state=State.SUCCESS, outcome=Outcome.DOWNLOADED).to_row()

    assert (type(row["state"]), row["state"], row["outcome"]) == (str, "FAILURE", None)
    assert (type(ended["outcome"]), ended["outcome"]) == (str, "DOWNLOADED")
    assert (row["error_type"], ended["error_hint"]) == ("E", "h")
