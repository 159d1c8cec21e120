"""Reports: each format holds the same records, and other programs read it."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from geodes_tasks.model.results import DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.monitoring.reports import COLUMNS, Format, lines
from tests.tools import optional

GOOD = DownloadRecord(
    item_id="URN:a:V1",
    collection="C",
    asset_key="a.zip",
    state=State.SUCCESS,
    outcome=Outcome.DOWNLOADED,
    path="/data/a.zip",
    size_bytes=7,
    checksum="md5:" + hashlib.md5(b"content").hexdigest(),
    verified=True,
    bytes_transferred=7,
    attempts=1,
    source="geodes",
    started_at="2026-01-01T00:00:00.000+00:00",
    finished_at="2026-01-01T00:00:01.000+00:00",
    error=None,
    download_id="id-a",
)
BAD = replace(
    GOOD,
    item_id="URN:b",
    state=State.FAILURE,
    outcome=None,
    verified=False,
    error=ErrorInfo("NotFoundError", 'no such file, it says "gone"\nreally', "Search again"),
)


def test_jsonl_is_one_record_a_line() -> None:
    """A record is one line, whatever its error's text holds."""
    written = list(lines([GOOD, BAD], Format.JSONL))

    assert len(written) == 2
    assert json.loads(written[1]) == BAD.to_dict() | {"history": []}


@pytest.mark.parametrize("form", [Format.JSONL, Format.JSON, Format.CSV, Format.MD5SUMS])
def test_a_report_is_written_as_records_come(form: Format) -> None:
    """A report of a million downloads needs no more memory than one of ten."""

    def endless() -> object:
        yield GOOD
        raise AssertionError("read ahead")

    assert next(lines(endless(), form))  # type: ignore[arg-type] # any iterable


def test_json_is_one_list() -> None:
    """An empty batch is an empty list."""
    rows = [GOOD.to_dict(), BAD.to_dict()]
    assert "\n".join(lines([GOOD, BAD], Format.JSON)) == json.dumps(rows, indent=2)
    assert json.loads("\n".join(lines([], Format.JSON))) == []


def test_the_contracts_fields_come_first_and_in_order() -> None:
    """Programs that read reports rely on these names."""
    names = list(json.loads(next(lines([GOOD], Format.JSONL))))

    assert names[: len(COLUMNS) + 1] == [*COLUMNS, "error"]


def test_csv_survives_commas_quotes_and_newlines() -> None:
    """A spreadsheet reads the same values back, the error in three columns."""
    text = "\n".join(lines([GOOD, BAD], Format.CSV))

    good, bad = csv.DictReader(text.splitlines(keepends=True))
    assert BAD.error is not None
    assert (good["path"], good["error_type"], good["verified"]) == ("/data/a.zip", "", "True")
    assert (bad["error_message"], bad["outcome"]) == (BAD.error.message, "")
    assert list(good)[: len(COLUMNS)] == list(COLUMNS)


def test_md5sums_leaves_out_archives_that_became_folders(tmp_path: Path) -> None:
    """The MD5 of an archive is that of no file when the archive is a folder: no line is wrong."""
    unpacked = replace(GOOD, path=str(tmp_path))

    assert list(lines([unpacked], Format.MD5SUMS)) == []
    assert len(list(lines([GOOD], Format.MD5SUMS))) == 1


def test_md5sums_holds_proven_files_only() -> None:
    """What failed, and what has no MD5, is not in the list."""
    others = [replace(GOOD, checksum=None), replace(GOOD, checksum="sha256:" + "0" * 64), BAD]

    assert list(lines([GOOD, *others], Format.MD5SUMS)) == [
        f"{hashlib.md5(b'content').hexdigest()}  /data/a.zip"
    ]


@pytest.mark.parametrize("name", ["plain.zip", "new\nline.zip", "back\\slash.zip", "sp ace é.zip"])
def test_md5sum_checks_what_was_written(tmp_path: Path, name: str) -> None:
    """`md5sum -c` finds every file of the list, whatever its name."""
    (md5sum,) = optional(["md5sum"])
    path = tmp_path / name
    path.write_bytes(b"content")
    text = "\n".join(lines([replace(GOOD, path=str(path))], Format.MD5SUMS)) + "\n"

    done = subprocess.run([md5sum, "-c", "--strict"], input=text.encode(), capture_output=True)

    assert done.returncode == 0, done.stderr
