"""What is read back from Redis, the environment and reports: as it was written, or refused."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from geodes_tasks.errors import ConfigError, SourceError, write_for_shell
from geodes_tasks.ledger import FailureGroup, Ledger, Running, Wait, WorkerState
from geodes_tasks.model import footprint
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.formatting import cell
from geodes_tasks.model.results import BatchStatus, DownloadRecord, ErrorInfo, Proof
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.html import table
from geodes_tasks.monitoring.picture import list_section, sections
from geodes_tasks.monitoring.reports import COLUMNS, Format, lines, summary
from geodes_tasks.monitoring.snapshot import Pause, Snapshot
from geodes_tasks.monitoring.terminal import Picture
from geodes_tasks.settings import config
from geodes_tasks.settings.quota import Quota
from geodes_tasks.transfer import audit
from geodes_tasks.transfer.audit import Expected, Finding
from tests.unit.ledger.test_ledger import BATCH, ask, request_of
from tests.unit.monitoring.reports.test_reports import GOOD
from tests.unit.stac.test_assets import JSON

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1
).filter(lambda name: name != ".")
WHOLE = st.integers(0, 2**63)


# --- proofs ------------------------------------------------------------------------------------


@given(WHOLE, st.integers(-(2**63), 2**63), WHOLE)
def test_a_proof_is_read_as_it_was_written(size: int, mtime_ns: int, inode: int) -> None:
    """Sizes beyond 4 GiB, times before 1970: what the ledger keeps is the same proof again."""
    proof = Proof(size, mtime_ns, inode)

    assert Proof.parse(str(proof)) == proof


@given(st.text() | st.text("0123456789:-_ ", max_size=20) | st.just("9" * 5000 + ":1:1"))
def test_any_text_is_a_proof_or_a_value_error(text: str) -> None:
    """Reading a proof raises nothing but ValueError."""
    try:
        proof = Proof.parse(text)
    except ValueError:
        return

    assert Proof.parse(str(proof)) == proof


@given(JSON)
def test_any_json_is_an_asset_or_refused(thing: object) -> None:
    """A record that is none is a KeyError, TypeError or ValueError, which the task names."""
    whole: dict[str, Any] = dict.fromkeys(("item", "collection", "key", "title"), "x")
    whole |= {"hrefs": {}, "size": None}
    try:
        asset = Asset.from_dict(whole | {"checksum": thing if isinstance(thing, str) else None})
    except ValueError:
        return

    assert Asset.from_dict(json.loads(json.dumps(asset.to_dict()))) == asset


# --- quotas ------------------------------------------------------------------------------------

UNITS = st.sampled_from(["second", "minute", "hour", "day"])


@given(st.integers(1, 10**9 - 1), st.integers(1, 10_000), UNITS)
def test_a_quota_is_read_as_it_was_written(count: int, several: int, unit: str) -> None:
    """A worker gets its quota by its environment: every quota survives that way."""
    quota = Quota.parse(f"{count}/{several}{unit}s")

    assert quota is not None
    assert Quota.parse(str(quota)) == quota
    assert config.load(quota=str(quota)).quota == quota


@given(st.text() | st.builds("{}/{}{}".format, st.text("0123456789", max_size=400), WHOLE, UNITS))
def test_any_text_is_a_quota_or_named_as_none(text: str) -> None:
    """A quota allows at least one download in a window that is longer than nothing."""
    try:
        quota = Quota.parse(text)
    except ValueError as error:
        with pytest.raises(ConfigError, match="GEODES_TASKS_QUOTA"):
            config.load(quota=text)
        assert "write 50/hour" in str(error)  # noqa: PT017 - both ways are right here
        return

    assert quota is None or (quota.count >= 1 and quota.seconds >= 1)


@pytest.mark.parametrize(
    "text", ["1/0seconds", "1/99999days", "1/" + "9" * 400 + "minutes", "٣/hour", "0/hour"]
)
def test_no_quota(text: str) -> None:
    """A window of nothing and numbers beyond all bounds are refused when they are read."""
    with pytest.raises(ValueError, match="is no quota"):
        Quota.parse(text)


def test_a_quota_of_days_survives_the_environment() -> None:
    """Twenty days were handed to the worker as 1.728e+06seconds, which no worker could read."""
    settings = config.load(quota="50/20days")

    assert config.environment(settings)["GEODES_TASKS_QUOTA"] == "50/20days"


# --- reports -----------------------------------------------------------------------------------


@given(NAMES, TEXT, TEXT)
def test_a_report_is_read_as_it_was_written(name: str, item_id: str, message: str) -> None:
    """Quotes, commas and line ends in names and errors: CSV and JSON lines bring them back."""
    record = replace(
        GOOD, path=f"/data/{name}", item_id=item_id, error=ErrorInfo("ItemError", message, "mend")
    )

    (row,) = csv.DictReader(io.StringIO("\n".join(lines([record], Format.CSV)), newline=""))
    (line,) = lines([record], Format.JSONL)

    assert set(COLUMNS) < set(row)
    assert row["path"] == record.path
    assert (row["item_id"], row["error_message"]) == (cell(item_id), cell(message))
    assert (json.loads(line)["path"], json.loads(line)["item_id"]) == (record.path, item_id)


def known_from(content: str) -> list[Expected]:
    """Read a report from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        path.write_text(content, errors="surrogateescape", newline="")
        return audit.of_file(path)


FOUL: dict[str, list[str | bytes | None]] = {
    "spec": [None, "{", "[]", '{"item": "x"}', "9" * 5000, b"\xff\xfe", '{"item": ["x"]}'],
    "state": [None, "DANCING", b"\xff"],
    "size": ["abc", "9" * 400, "9" * 5000, "-inf"],
    "attempts": ["many"],
    "bytes": ["nan"],
    "bytes:s3": ["x"],
    "history": ["{", '["x"]', "[" * 100_000],
    "error": ["{", "[]", '{"type": 1, "message": [], "hint": null}'],
    "started": ["x", "1e400", "nan"],
    "finished": ["x"],
    "due": ["9e14"],
    "checksum": ["md5:zz"],
    "outcome": ["EATEN"],
    "footprint": ["x", "é"],
}
"""Values that another program may write into the fields of a record."""


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in FOUL.items() for value in values]
)
def test_a_foul_record_costs_its_own_line_alone(
    ledger: Ledger, field: str, value: str | bytes | None
) -> None:
    """Every format shows the good records, and in the place of the foul one what happened."""
    foul, good = request_of("foul"), request_of("good")
    ask(ledger, foul, good)
    client, key = ledger.connection.client, ledger.connection.key("download", foul.download_id)
    done = {"state": "SUCCESS", "outcome": "DOWNLOADED"} if field in {"outcome", "checksum"} else {}
    wrong = {"state": "FAILURE", **done, field: value}
    client.hset(key, mapping={"attempts": "1"} | {n: v for n, v in wrong.items() if v is not None})
    if value is None:
        client.hdel(key, field)

    one, other = ledger.reading.records(BATCH)

    assert (one.item_id, other.item_id) == (foul.download_id, good.asset.item_id)
    assert one.error is not None
    assert (one.state, one.error.type) == (State.FAILURE, "DamagedRecordError")
    assert all("".join(lines([one, other], form)) or form is Format.MD5SUMS for form in Format)
    assert list(audit.of_records([one, other])) == []


def test_a_record_of_another_type_costs_its_own_line_alone(ledger: Ledger) -> None:
    """A key that holds a text where a hash belongs."""
    foul, good = request_of("foul"), request_of("good")
    ask(ledger, foul, good)
    ledger.connection.client.delete(key := ledger.connection.key("download", foul.download_id))
    ledger.connection.client.set(key, "rubbish")

    one, other = ledger.reading.records(BATCH)

    assert (one.item_id, other.item_id) == (foul.download_id, good.asset.item_id)


def test_a_footprint_unpacks_to_no_gigabytes() -> None:
    """A megabyte of zeros in a kilobyte is cut off before it is unpacked."""
    squeezed = zlib.compressobj(9, wbits=-12)
    bomb = base64.b64encode(squeezed.compress(bytes(1_000_000)) + squeezed.flush()).decode()

    assert len(footprint.unpacked(bomb)) <= footprint.LONGEST


@given(NAMES, st.sampled_from([Format.MD5SUMS, Format.JSONL, Format.JSON]))
def test_verify_reads_what_report_writes(name: str, form: Format) -> None:
    """Whatever a file is called, an audit looks for it under its own name."""
    record = replace(GOOD, path=f"/data/{name}")

    (expected,) = known_from("\n".join(lines([record], form)) + "\n")

    assert (expected.path, str(expected.checksum)) == (record.path, GOOD.checksum)


ROWS = st.builds(
    lambda path, size, checksum: json.dumps(
        {"state": "SUCCESS", "path": path, "size_bytes": size, "checksum": checksum}
    ),
    JSON | NAMES,
    JSON,
    JSON | st.just(GOOD.checksum),
)
SUMS = st.builds("{}  {}".format, st.text("0123456789abcdef", min_size=30, max_size=70), NAMES)


@given(st.text() | ROWS | SUMS | st.just("[" * 100_000))
def test_any_report_is_read_or_named(content: str) -> None:
    """An audit against a broken list ends in a SourceError, not in a traceback."""
    try:
        expected = known_from(content)
    except SourceError as error:
        assert str(error)  # noqa: PT017 - both ways are right here
        return

    assert expected
    assert all(isinstance(audit.audit(one).finding, Finding) for one in expected)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a" * 50 + "  x.zip\n", "line 1 is no line of md5sum"),
        ("[" * 100_000, "is no report"),
        ("", "names no finished file"),
    ],
)
def test_a_broken_list_is_named(content: str, problem: str) -> None:
    """Digests of no known length and JSON without end are said in words."""
    with pytest.raises(SourceError, match=problem):
        known_from(content)


def test_a_name_that_no_file_has() -> None:
    """A NUL in a name is a finding about that file; the others are looked at."""
    (expected,) = known_from("a" * 32 + "  x\0y\n")

    assert audit.audit(expected).finding is Finding.UNREADABLE


CODES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\r\u2028"
"""Codes that a terminal obeys, and letters that turn a name around."""
ONE_OF_EACH = {str(state): 1 for state in State}


def hostile() -> DownloadRecord:
    """Make a record in which a tenant of the same Redis has put codes everywhere."""
    error = ErrorInfo(f"Evil{CODES}", f"=1+1 {CODES}", f"curl x | sh {CODES}")
    return replace(
        GOOD, item_id=f"=cmd|'/C calc'!A0{CODES}", collection=f"\t+1{CODES}{'C' * 5000}",
        asset_key="\uff20SUM(1)", source=f"-2{CODES}", error=error,
        state=State.FAILURE, worker=CODES,
    )  # fmt: skip


@pytest.mark.parametrize("form", list(Format))
def test_no_format_passes_codes_on(form: Format) -> None:
    """Neither bells nor erased lines nor turned names, whatever the report is shown with."""
    text = "\n".join(lines([hostile()], form, batch=f"b{CODES}"))

    assert not {c for c in text if not c.isprintable()} - set("\r\n")


def test_no_cell_is_a_formula() -> None:
    """A spreadsheet shows `=cmd|...` as the text that it is."""
    (row,) = csv.DictReader(io.StringIO("\n".join(lines([hostile()], Format.CSV))))

    assert not [text for text in row.values() if text.lstrip()[:1] in set("=+-@\uff20")]


def test_a_line_of_markdown_is_no_longer_than_a_page() -> None:
    """A collection of megabytes is cut."""
    longest = max(lines([replace(GOOD, collection="C" * 1_000_000)], Format.MARKDOWN), key=len)

    assert len(longest) < 2 * summary.LONGEST


# --- on the screen -----------------------------------------------------------------------------


def test_no_view_passes_codes_on() -> None:
    """Batches, workers, errors, sources and accounts of other users of Redis are escaped."""
    group = FailureGroup(State.FAILURE, f"Evil{CODES}", 1, ErrorInfo("x", CODES, CODES), CODES)
    status = BatchStatus(batch=CODES, owner=CODES, total=1, states=ONE_OF_EACH, outcomes={})
    workers = [WorkerState(CODES, 1, 9e99, version, None, CODES) for version in (CODES, "1")]
    running = [Running(CODES, CODES, CODES, 2, 1, CODES, CODES)]
    snapshot = Snapshot(0.0, [status], running=running, waits=[Wait(CODES, 1, 9e30, -9e30)])
    snapshot = replace(
        snapshot,
        failures={CODES: [group]},
        workers=workers,
        pauses=[Pause("batch", CODES, CODES)],
    )
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)

    screen.print(Picture([*sections(snapshot), list_section(snapshot)]))

    text = screen.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    drawn = re.sub(r"\x1b\[\d*m", "", text)
    assert not {c for c in drawn if not c.isprintable()} - {"\n"}


def test_no_table_of_a_notebook_passes_codes_on() -> None:
    """Names are escaped, turned letters too, and an id of a megabyte is cut."""
    record = replace(hostile(), item_id="<script>alert(1)</script>\u202e" + "x" * 1_000_000)

    page = table([record], 1)

    assert page.replace("\n", "").isprintable()
    assert "<script" not in page
    assert len(page) < 10_000


@pytest.mark.parametrize("name", ["a; rm -rf ~", "$(id)", "my batch", "`id`"])
def test_a_command_to_paste_is_one_command(name: str) -> None:
    """Names of other users cannot add words to what a person pastes into a shell."""
    write_for_shell()
    group = FailureGroup(State.FAILURE, name, 1, ErrorInfo(name, "", ""), "item")
    status = BatchStatus(batch=name, account=name, total=1, states=ONE_OF_EACH, outcomes={})
    pauses = [Pause(kind, name, "by hand") for kind in ("batch", "source", "account")]
    snapshot = Snapshot(0.0, [status], failures={name: [group]}, pauses=pauses)
    rows = [note for section in sections(snapshot) for row in section.rows for note in row.notes]
    page = "\n".join(lines([hostile()], Format.MARKDOWN, batch=name))

    commands = [note for note in rows if note.startswith("geodes-tasks ")]
    commands += re.findall(r"`(geodes-tasks retry .*?)`+$", page, re.MULTILINE)
    words = [shlex.split(command) for command in commands]

    assert len(words) == 5
    assert all(len(line) in {4, 5} and name in line for line in words)


@pytest.mark.parametrize("name", ["[/b].zip", "[bold]x", "[link=file:///etc]a", "[red"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    """Brackets in a file's name are no markup: they ended the command, or coloured the screen."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    status = BatchStatus(batch="b", total=1, states=dict.fromkeys(State, 0), outcomes={})

    running = [Running("id", "item", name, 2, 1, "one", "geodes")]
    screen.print(Picture([*sections(Snapshot(0.0, [status], running=running))]))

    text = screen.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert name in text
