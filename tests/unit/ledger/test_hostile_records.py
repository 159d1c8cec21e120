"""What is read back from Redis, the environment and reports: as it was written, or refused."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from geodes_tasks.errors import ConfigError, SourceError
from geodes_tasks.ledger import Running
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import BatchStatus, ErrorInfo, Proof
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.reports import COLUMNS, Format, lines
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.monitoring.terminal import Picture
from geodes_tasks.settings import config
from geodes_tasks.settings.quota import Quota
from geodes_tasks.transfer import audit
from geodes_tasks.transfer.audit import Expected, Finding
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
    assert (row["path"], row["item_id"], row["error_message"]) == (record.path, item_id, message)
    assert (json.loads(line)["path"], json.loads(line)["item_id"]) == (record.path, item_id)


def known_from(content: str) -> list[Expected]:
    """Read a report from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        path.write_text(content, errors="surrogateescape", newline="")
        return audit.of_file(path)


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


# --- on the screen -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["[/b].zip", "[bold]x", "[link=file:///etc]a", "[red"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    """Brackets in a file's name are no markup: they ended the command, or coloured the screen."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    status = BatchStatus(batch="b", total=1, states=dict.fromkeys(State, 0), outcomes={})

    running = [Running("id", "item", name, 2, 1, "one", "geodes")]
    screen.print(Picture([*sections(Snapshot(0.0, [status], running=running))]))

    text = screen.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert name in text
