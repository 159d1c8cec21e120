"""``--members`` from end to end: only the bands wanted, from S3 and from the portal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks import enqueue
from geodes_tasks.client import member_prices, planning
from geodes_tasks.client.dry_run import dry_run
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.utils.profile import DownloadQueue
from tests.conftest import KEY, KiB, asset_of, some_bytes
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.scripted import Scripted
from tests.servers import wait_until
from tests.standin import RangeBehaviour, StandIn
from tests.standin.bodies import read

Run = Callable[..., subprocess.CompletedProcess[str]]
BANDS = ("B02_10m", "B04_10m", "B08_10m", "B11_20m", "SCL_20m")
PATTERN = "*_B0[48]_10m.jp2"
PRODUCTS = 20


def members(number: int) -> dict[str, bytes]:
    """Return the members of a product."""
    image = f"P{number:02}.SAFE/GRANULE/L2A_T31TCJ/IMG_DATA/T31TCJ_20250401"
    bands = {f"{image}_{band}.jp2": some_bytes(400 * KiB, seed=number) for band in BANDS}
    return {f"P{number:02}.SAFE/manifest.safe": b"<xfdu/>"} | bands


def wanted(number: int) -> dict[str, bytes]:
    """Return the members of a product that the pattern matches."""
    return {n: c for n, c in members(number).items() if n.endswith(("B04_10m.jp2", "B08_10m.jp2"))}


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[StandIn]:
    """Start a portal with products that S3 has too, and a file of them."""
    with StandIn(KEY) as standin, S3Server() as server:
        for number in range(PRODUCTS):
            address = f"{server.url}/{BUCKET}/P{number:02}.zip"
            item = standin.add_item(
                identifier=f"P{number:02}", members=members(number), endpoint_url=address
            )
            server.put(f"P{number:02}.zip", read(standin.body(item)))
        (tmp_path / "items.json").write_text(json.dumps(standin.items))
        (tmp_path / "few.json").write_text(json.dumps(standin.items[:4]))
        (tmp_path / "one.json").write_text(json.dumps(standin.items[0]))
        (tmp_path / "s3").write_text(server.url)
        yield standin


@pytest.fixture
def settings(portal: StandIn, tmp_path: Path) -> Config:
    """Return the settings of a user with credentials of S3."""
    return config.load(
        portal_url=portal.url, api_key=KEY, quota="off", backoff_seconds=0.05,
        s3_endpoint_url=(tmp_path / "s3").read_text(), state_dir=tmp_path / "state",
        aws_access_key_id="key-id", aws_secret_access_key="secret", max_concurrent=4,
    )  # fmt: skip


@pytest.fixture
def run(settings: Config, tmp_path: Path) -> Run:
    """Return what runs the program as a person would."""
    named = config.environment(settings)
    del named["GEODES_TASKS_REDIS_URL"]
    kept = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "geodes_tasks", *words],
            env=named | kept, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return ran


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, part files and lists left out."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if ".geodes-tasks" not in name}


def expected() -> dict[str, bytes]:
    """Return the files of all sets."""
    return {
        f"P{n:02}/{name.removeprefix(f'P{n:02}/')}": content
        for n in range(PRODUCTS)
        for name, content in wanted(n).items()
    }


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the records of a report."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_bands_of_a_campaign_from_s3(portal: StandIn, run: Run, tmp_path: Path) -> None:
    """Hardly more than the bytes of the members; reported, found damaged, repaired, run again."""
    command = ("download", "items.json", "-o", "files", "--members", PATTERN, "--json")

    first = run(*command)
    batch = json.loads(first.stdout)["batch"]
    report = records(run("report", batch, "-o", "files", "--format", "jsonl"))
    stac = json.loads(run("report", batch, "-o", "files", "--format", "stac").stdout)
    again = run(*command)

    assert first.returncode == again.returncode == 0, first.stderr
    assert files(tmp_path / "files") == expected()
    assert json.loads(first.stdout)["outcomes"]["DOWNLOADED"] == PRODUCTS
    assert json.loads(again.stdout)["outcomes"]["ALREADY_PRESENT"] == PRODUCTS
    assert portal.downloads() == []
    packed = 0
    for number in range(PRODUCTS):
        body = read(portal.body(f"P{number:02}"))
        with zipfile.ZipFile(BytesIO(body)) as archive:
            packed += sum(archive.getinfo(name).compress_size for name in wanted(number))
    fetched = sum(record["bytes_transferred"] for record in report)
    assert fetched <= 1.05 * packed + PRODUCTS * 32 * KiB
    assert {record["verified"] for record in report} == {"crc32"}
    one = report[0]["members"][0]
    assert Path(one["path"]).stat().st_size == one["size_bytes"] == 400 * KiB
    assert {len(item["assets"]) for item in stac["features"]} == {2}

    damaged = Path(one["path"])
    damaged.write_bytes(bytes(400 * KiB))
    found = run("verify", "files")
    repaired = run("verify", "files", "--repair")

    assert (found.returncode, repaired.returncode) == (3, 0), repaired.stderr
    assert files(tmp_path / "files") == expected()
    more = ("--members", "*_B02_*", "--members", "*_SCL*")
    other = run("download", "items.json", "-o", "files", *more)
    assert other.returncode == 0, other.stderr
    assert len(files(tmp_path / "files")) == 4 * PRODUCTS


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [RangeBehaviour.GOOD, RangeBehaviour.ERROR_500])
def test_bands_from_the_portal(portal: StandIn, run: Run, tmp_path: Path, ranges: str) -> None:
    """With --portal-ranges bytes are spared where ranges are served; else one request an item."""
    portal.settings.range = RangeBehaviour(ranges)
    command = ("download", "items.json", "--source", "geodes", "--members", PATTERN)

    whole = run(*command, "-o", "whole", "--json")
    requests = len(portal.downloads())
    parts = run(*command, "-o", "parts", "--portal-ranges", "--json")

    assert whole.returncode == parts.returncode == 0, whole.stderr + parts.stderr
    assert files(tmp_path / "whole") == files(tmp_path / "parts") == expected()
    assert requests == PRODUCTS
    batch = json.loads(parts.stdout)["batch"]
    report = records(run("report", batch, "-o", "parts", "--format", "jsonl"))
    fetched = sum(record["bytes_transferred"] for record in report)
    size = sum(len(read(portal.body(f"P{n:02}"))) for n in range(PRODUCTS))
    assert (fetched < 0.5 * size) is (ranges == RangeBehaviour.GOOD)


@pytest.mark.parametrize("source", ["one.json", "few.json"])
@pytest.mark.parametrize("options", [(), ("--source", "geodes", "--portal-ranges"), ("--dry-run",)])
def test_a_pattern_that_matches_nothing(
    portal: StandIn, run: Run, tmp_path: Path, source: str, options: tuple[str, ...]
) -> None:
    """In no archive: exit code 2 and the names that are there, before a member is fetched."""
    portal.settings.range = RangeBehaviour.GOOD
    patterns = ("--members", PATTERN, "--members", "*_B99.jp2")

    done = run("download", source, "-o", "f", *patterns, *options)

    assert done.returncode == 2
    assert "'*_B99.jp2' matches no member of the archives" in done.stderr
    assert "P00.SAFE/manifest.safe" in done.stderr
    assert files(tmp_path / "f") == {}
    assert all(one.bytes_sent <= 32 * KiB for one in portal.downloads())


def test_a_pattern_that_one_archive_lacks(portal: StandIn, run: Run, tmp_path: Path) -> None:
    """That item fails alone, and its error names what is there."""
    patterns = ("--members", "P02.SAFE/*", "--members", "*.safe")

    done = run("download", "few.json", "-o", "f", *patterns)

    assert done.returncode == 3
    assert "3 failed" in done.stderr
    assert "no member matches 'P02.SAFE/*'; it has P" in done.stderr
    assert len(files(tmp_path / "f")) == 6


def test_options_without_members_are_refused(run: Run) -> None:
    """--portal-ranges means nothing without --members."""
    assert run("download", "one.json", "-o", "f", "--portal-ranges").returncode == 2


WAYS: list[tuple[tuple[str, ...], RangeBehaviour]] = [
    ((), RangeBehaviour.GOOD),
    (("--source", "geodes"), RangeBehaviour.GOOD),
    (("--source", "geodes", "--portal-ranges"), RangeBehaviour.GOOD),
    (("--source", "geodes", "--portal-ranges"), RangeBehaviour.ERROR_500),
]


@pytest.mark.parametrize(("options", "ranges"), WAYS, ids=["s3", "whole", "ranges", "no ranges"])
def test_the_plan_is_what_is_fetched(
    portal: StandIn, run: Run, options: tuple[str, ...], ranges: RangeBehaviour
) -> None:
    """Each item's way, bytes and units of quota are known before it is downloaded."""
    portal.settings.range = ranges
    command = ("download", "few.json", "-o", "f", "--members", "*_B0[28]_10m.jp2", *options)

    plan = json.loads(run(*command, "--dry-run", "--json").stdout)
    rows = run(*command, "--dry-run").stdout.splitlines()
    for_plan = len(portal.downloads())
    done = run(*command, "--json")
    batch = json.loads(done.stdout)["batch"]
    report = records(run("report", batch, "-o", "f", "--format", "jsonl"))
    again = json.loads(run(*command, "--dry-run", "--json").stdout)

    by_ranges = ranges is RangeBehaviour.GOOD and options != ("--source", "geodes")
    assert {row["by_ranges"] for row in plan["downloads"]} == {by_ranges}
    fetched = sum(row["bytes_transferred"] for row in report)
    assert sum(row["bytes_to_fetch"] for row in plan["downloads"]) == plan["bytes_to_fetch"]
    assert plan["bytes_to_fetch"] == plan["bytes_total"] == fetched
    of_rows = [human_bytes(row["bytes_to_fetch"]) for row in plan["downloads"]]
    assert [row.split("  /")[0].strip() for row in rows] == of_rows
    on_portal = "geodes" in options
    assert {row["portal_requests"] for row in plan["downloads"]} == {
        0 if not on_portal else 3 if by_ranges else 1
    }
    sent = len(portal.downloads()) - for_plan
    # That a portal serves no ranges is found out once by the command, and by each transfer.
    assert 0 <= sent - plan["portal_requests"] <= (5 if ranges is RangeBehaviour.ERROR_500 else 0)
    assert ("by ranges" in done.stderr) is by_ranges
    assert (again["bytes_to_fetch"], again["portal_requests"]) == (0, 0)
    assert {row["present"] for row in again["downloads"]} == {True}


def test_the_plan_of_a_long_list_is_an_estimate(
    portal: StandIn, settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories are read of a sample only, and the price line names its size."""
    monkeypatch.setattr(member_prices, "MOST_READ", 5)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    conf = settings.replace(download_dir=tmp_path / "f")
    selection = planning.Selection(tmp_path / "f", members=[PATTERN])

    plan = dry_run(planning.plan(iter(portal.items), selection), conf)

    first, second = list(plan.quote.lines())
    assert first.startswith("20 files, 16.4 MB: 20 from S3; ")
    assert second.endswith("20 by ranges; bytes and requests are an estimate from 5 directories")
    unread = planning.Selection(tmp_path / "f", members=["*_B99.jp2"])
    with pytest.raises(ConfigError, match=r"\(5 that were read of 20\); P00\.zip has P00\.SAFE"):
        dry_run(planning.plan(iter(portal.items), unread), conf)


def test_the_plan_where_no_directory_can_be_read(
    portal: StandIn, settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A datalake out of reach ends nothing: the plan counts whole archives, as an estimate."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    conf = settings.replace(download_dir=tmp_path / "f", s3_endpoint_url="http://127.0.0.1:1")
    selection = planning.Selection(tmp_path / "f", members=["*_B99.jp2"])

    plan = dry_run(planning.plan(iter(portal.items), selection), conf)

    assert plan.quote.price.bytes_total == sum(len(read(portal.body(i))) for i in portal.items)
    assert "an estimate from 0 directories" in list(plan.quote.lines())[1]


def test_a_silent_datalake_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for directories is kept: requests without an answer are broken off, all of them."""
    monkeypatch.setattr(member_prices, "READING_S", 0.5)
    one = replace(asset_of(b"x" * 9999, "P.zip"), hrefs={"s3": "s3://b/P.zip"}, members=("*.jp2",))
    with Scripted(b"") as silent:
        conf = config.load(
            s3_endpoint_url=silent.url, stall_seconds=30.0,
            aws_access_key_id="k", aws_secret_access_key="s",
        )  # fmt: skip
        prices, began = member_prices.MemberPrices(conf, None), time.monotonic()

        prices.read([Request(one, f"/f/{number}") for number in range(20)])

        assert time.monotonic() - began < 10
        wait_until(lambda: "directories" not in {t.name for t in threading.enumerate()}, 5, "end")
        assert len(silent.requests) == 1


def test_directories_are_counted_against_the_quota(
    portal: StandIn, settings: Config, redis_url: str, tmp_path: Path
) -> None:
    """Of a portal that counts requests ten directories are read before a run, and spent."""
    portal.settings.range = RangeBehaviour.GOOD
    conf = settings.replace(redis_url=redis_url, quota="50/hour", download_dir=tmp_path / "f")
    options: Any = {"source": "geodes", "portal_ranges": True, "conf": conf}

    batch = enqueue(portal.items, members=[PATTERN], **options)
    with pytest.raises(ConfigError, match=r"matches no member of the archives \(10 that were read"):
        enqueue(portal.items, members=["*_B99.jp2"], **options)

    ledger = Ledger.of(conf)
    spent = ledger.connection.key("account", "default", "spent")
    assert ledger.connection.client.zcard(spent) == len(portal.downloads()) == 10
    assert batch.status().bytes_total == pytest.approx(PRODUCTS * 800 * KiB, rel=0.01)
    ledger.close()


def test_from_python(portal: StandIn, settings: Config, tmp_path: Path, monkeypatch: Any) -> None:
    """``members=`` of enqueue and DownloadQueue; the records name the files."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    queue = DownloadQueue(
        portal.items[:2], tmp_path / "q", members=[PATTERN], conf=settings, quiet=True
    )

    status = queue.run()
    batch = enqueue(portal.items[:2], download_dir=tmp_path / "q", members=[PATTERN], conf=settings)
    batch.wait(quiet=True)

    assert status.ok
    assert queue.check_integrity() == []
    assert [len(record.members) for record in queue.results] == [2, 2]
    assert [len(record.members) for record in batch.results()] == [2, 2]
    assert batch.status().outcomes["ALREADY_PRESENT"] == 2
