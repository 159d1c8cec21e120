"""The bandwidth limit: of a whole run or worker, over its threads and processes, HTTP and S3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from geodes_tasks import enqueue
from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Config, load
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.http.transport import HttpTransport
from geodes_tasks.transports.rate import BURST_S, RateLimit
from tests.conftest import WorkerFactory
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.scripted import Scripted, answer
from tests.integration.test_cli import write_items
from tests.integration.test_report_command import command
from tests.standin import StandIn, read

RATE = 2_000_000
"""Bytes a second of these tests."""
FILE_BYTES = 2_500_000
"""Bytes of a file: eight of them take ten seconds."""


@pytest.fixture
def datalake() -> Iterator[S3Server]:
    """Start an S3 server."""
    with S3Server() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_keeps_the_rate(
    standin: StandIn, settings: Config, worker: WorkerFactory, datalake: S3Server, pool: str
) -> None:
    """Ten seconds of four transfers, half of them from S3, bring the rate within 10 %."""
    values = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "max_concurrent": 4}
    mine = settings.replace(s3_endpoint_url=datalake.url, **values)
    items = []
    for number in range(8):
        name = f"ITEM{number}"
        on_s3 = {"endpoint_url": f"{datalake.url}/{BUCKET}/{name}.zip"} if number % 2 else {}
        items.append(standin.add_item(FILE_BYTES, identifier=name, **on_s3))
        if on_s3:
            datalake.put(f"{name}.zip", read(standin.body(items[-1])))
    worker(settings=mine, concurrency=4, pool=pool, env={"GEODES_TASKS_RATE": "2MB"})

    batch = enqueue(items, conf=mine)
    batch.wait(60)

    records = batch.results()
    begun = min(datetime.fromisoformat(str(one.started_at)) for one in records)
    ended = max(datetime.fromisoformat(str(one.finished_at)) for one in records)
    measured = 8 * FILE_BYTES / (ended - begun).total_seconds()
    assert {one.source for one in records} == {"geodes", "s3"}
    assert 0.9 * RATE <= measured <= 1.1 * RATE, measured


@pytest.mark.slow
def test_limit_rate_of_a_download(standin: StandIn, settings: Config) -> None:
    """``download --limit-rate`` limits the run, over all its transfers."""
    write_items([standin.add_item(1_000_000) for _ in range(4)])
    begun = time.monotonic()

    said = command(
        settings, "download", "items.json", "-o", "out", "--limit-rate", "1MB", "--no-progress"
    )

    assert said.returncode == 0, said.stderr
    assert time.monotonic() - begun >= 4 - BURST_S


def test_a_waiting_transfer_ends_at_once() -> None:
    """An attempt that waits for its share of the bandwidth is interrupted like any other."""
    with Scripted(answer(bytes(300_000))) as server:
        transport = HttpTransport(load(portal_url=server.url, api_key="key", rate=20_000))
        begun = time.monotonic()
        with transport.open(server.url + "/f") as body:
            next(body.chunks)
            took_s = time.monotonic() - begun

    # A piece is a tenth of a second's bytes, so no wait is long.
    assert took_s < 1


def test_unused_bandwidth_is_not_saved_up() -> None:
    """After a pause no more than a quarter of a second's bytes come at once."""
    limit = RateLimit(1_000_000)
    limit.wait_s(1)
    time.sleep(2 * BURST_S)

    assert limit.wait_s(1_000_000) == pytest.approx(1 - BURST_S, abs=0.05)


def test_without_a_rate_there_is_no_limit() -> None:
    """Transfers without a rate share nothing and wait for nothing."""
    with Calls().begin() as call:
        assert call.rate is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20MB", 20_000_000), ("500 kB", 500_000), ("1.5GiB", 3 << 29), ("1000", 1000), ("off", None)],
)
def test_rates_as_people_write_them(text: str, rate: int | None) -> None:
    """SI units are powers of 1000."""
    assert load(rate=text).rate == rate


@pytest.mark.parametrize("text", ["fast", "-1", "0", "20 apples", "1" * 40])
def test_what_is_no_rate(text: str) -> None:
    """Anything else is refused by the name of its setting."""
    with pytest.raises(ConfigError, match=r"GEODES_TASKS_RATE: .*is no bandwidth"):
        load(rate=text)
