"""The audit: every kind of damage is found, and nothing right is called wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from geodes_tasks.errors import SourceError
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.reports import Format, lines
from geodes_tasks.transfer import audit as verify
from geodes_tasks.transfer.audit import BAD, Expected, Finding, audit, audit_all
from tests.conftest import md5, some_bytes
from tests.unit.monitoring.reports.test_reports import GOOD


def hidden_from_ctrl_c(known: Expected) -> verify.Audited:
    """Return a good result in a process that Ctrl-C does not reach."""
    is_blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return verify.Audited(known, Finding.RIGHT if is_blocked else Finding.CHANGED)


def test_ctrl_c_is_for_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process that it reached would print a traceback."""
    monkeypatch.setattr(verify, "audit", hidden_from_ctrl_c)
    wanted = [written(tmp_path / name, b"x") for name in "ab"]

    found = {one.finding for one in audit_all(wanted, processes=2)}

    assert found == {Finding.RIGHT}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def written(path: Path, content: bytes) -> Expected:
    """Write a file, and give what is known of it."""
    path.write_bytes(content)
    return Expected(str(path), len(content), md5(content))


@pytest.mark.parametrize("size", [0, 1, 4096, 2_000_000])
def test_right_file(tmp_path: Path, size: int) -> None:
    """A file with the right bytes is right, whatever its size."""
    assert audit(written(tmp_path / "a", some_bytes(size))).finding is Finding.RIGHT


def test_one_flipped_bit(tmp_path: Path) -> None:
    """One flipped bit is found though size and time are as before; both digests are told."""
    content = bytearray(some_bytes(100_000))
    known = written(tmp_path / "a", bytes(content))
    before = (tmp_path / "a").stat()
    content[77_777] ^= 1
    (tmp_path / "a").write_bytes(content)
    os.utime(tmp_path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))

    found = audit(known)

    assert found.finding is Finding.CHANGED
    assert str(known.checksum) in found.detail
    assert hashlib.md5(content).hexdigest() in found.detail


@pytest.mark.parametrize("change", [-1, 1])
def test_one_byte_less_or_more(tmp_path: Path, change: int) -> None:
    """A byte too few or too many is told by the size, with both numbers."""
    known = written(tmp_path / "a", b"x" * 100)
    (tmp_path / "a").write_bytes(b"x" * (100 + change))

    found = audit(known)

    assert found.finding is Finding.WRONG_SIZE
    assert found.detail == f"{100 + change} bytes, 100 expected"


def test_gone_and_strange(tmp_path: Path) -> None:
    """A file that is gone is missing; a folder or a dangling link in its place is not a file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    found = [audit(Expected(str(tmp_path / name))).finding for name in ("no", "folder", "link")]

    assert found == [Finding.MISSING, Finding.UNREADABLE, Finding.MISSING]


def test_nobody_knows_the_checksum(tmp_path: Path) -> None:
    """A file that the catalogue had no checksum for is neither right nor wrong."""
    known = replace(written(tmp_path / "a", b"abc"), checksum=None)

    found = audit(known).finding

    assert found is Finding.UNPROVABLE
    assert found not in BAD


def test_thirty_faults_among_a_thousand(tmp_path: Path) -> None:
    """Of 1,000 files with 30 random flips, cuts and deletions exactly those 30 are found."""
    dice = random.Random(5)
    known = [written(tmp_path / f"{n}", some_bytes(dice.randint(1, 9000), n)) for n in range(1000)]
    damaged = {one.path: damage(Path(one.path), dice) for one in dice.sample(known, 30)}

    found = {one.expected.path: one.finding for one in audit_all(known)}

    assert len(found) == 1000
    assert {path: kind for path, kind in found.items() if kind is not Finding.RIGHT} == damaged


def damage(path: Path, dice: random.Random) -> Finding:
    """Spoil a file in some way, and tell what should be found."""
    content = bytearray(path.read_bytes())
    kind = dice.choice([Finding.CHANGED, Finding.WRONG_SIZE, Finding.MISSING])
    if kind is Finding.MISSING:
        path.unlink()
    elif kind is Finding.WRONG_SIZE:
        path.write_bytes(content[: dice.randrange(len(content))])
    else:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
    return kind


def test_all_cores_are_used(tmp_path: Path) -> None:
    """The work is done by other processes, as many as are asked for."""
    known = [written(tmp_path / f"{n}", b"x") for n in range(4)]
    begun = time.process_time()

    found = list(audit_all(known, 2))

    assert {one.finding for one in found} == {Finding.RIGHT}
    assert time.process_time() - begun < 5


# --- what is known -------------------------------------------------------------------------------


def records(tmp_path: Path) -> list[Path]:
    """Write files with names that want care, and reports of them in every form."""
    names = ["plain.zip", "two words.zip", "new\nline.zip", "back\\slash.zip"]
    found = [tmp_path / name for name in names]
    made = []
    for path in found:
        known = written(path, path.name.encode())
        made.append(
            replace(GOOD, path=str(path), size_bytes=known.size_bytes, checksum=str(known.checksum))
        )
    made.append(replace(GOOD, state=State.FAILURE, path=str(tmp_path / "never.zip")))
    for form in (Format.JSONL, Format.JSON, Format.MD5SUMS):
        (tmp_path / f"report.{form}").write_text("\n".join(lines(made, form)) + "\n")
    return found


@pytest.mark.parametrize("form", ["jsonl", "json", "md5sums"])
def test_reports_are_read_back(tmp_path: Path, form: str) -> None:
    """Every form of report names the finished files again, strange names included."""
    paths = records(tmp_path)

    wanted = verify.of_file(tmp_path / f"report.{form}")

    assert [one.path for one in wanted] == [str(path) for path in paths]
    assert {audit(one).finding for one in wanted} == {Finding.RIGHT}


def test_a_report_holds_any_text(tmp_path: Path) -> None:
    """Other programs write U+2028 and U+0085 as they are, which are no ends of lines in JSON."""
    row = {"state": "SUCCESS", "path": "a.zip", "size_bytes": 1, "checksum": None}
    text = json.dumps(row | {"item_id": "a\u2028b\u0085c"}, ensure_ascii=False)
    (tmp_path / "r.jsonl").write_text(f"{text}\n\n{text}\n", encoding="utf-8")

    assert [one.path for one in verify.of_file(tmp_path / "r.jsonl")] == [
        str(tmp_path / "a.zip")
    ] * 2


def test_list_of_md5sum_itself(tmp_path: Path) -> None:
    """What `md5sum` writes is read, relative paths beside the list."""
    (tmp_path / "a b.zip").write_bytes(b"x")
    said = subprocess.run(
        ["md5sum", "a b.zip"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (tmp_path / "MD5SUMS").write_text(said.stdout)

    (one,) = verify.of_file(tmp_path / "MD5SUMS")

    assert (one.path, audit(one).finding) == (str(tmp_path / "a b.zip"), Finding.RIGHT)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no finished file"),
        ("hello world\n", "line 1 is no line of md5sum"),
        ('{"a": 1}\n', "is no report"),
        ("[1]", "is no report"),
        (json.dumps([{"state": "FAILURE"}]), "names no finished file"),
    ],
)
def test_no_report(tmp_path: Path, text: str, problem: str) -> None:
    """A file that is no report is refused in one sentence."""
    (tmp_path / "r").write_text(text)

    with pytest.raises(SourceError, match=problem) as caught:
        verify.of_file(tmp_path / "r")

    assert "a report in the format jsonl or json, or a list that md5sum wrote" in caught.value.hint


def test_records_below_a_folder(tmp_path: Path) -> None:
    """Of a ledger's records only finished ones below the folder are taken."""
    here, away = (replace(GOOD, path=path) for path in (str(tmp_path / "x"), "/elsewhere/x"))
    broken = replace(here, state=State.FAILURE)

    wanted = list(verify.of_records([here, away, broken], tmp_path))

    assert [one.path for one in wanted] == [str(tmp_path / "x")]
    assert isinstance(wanted[0].checksum, Checksum)
