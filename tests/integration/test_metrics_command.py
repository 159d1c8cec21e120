"""``metrics`` as a process, beside a real worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from geodes_tasks import enqueue
from geodes_tasks.ledger import Ledger
from geodes_tasks.monitoring import metrics_server
from geodes_tasks.monitoring.metrics import LedgerCollector
from geodes_tasks.monitoring.snapshot import SnapshotReader
from tests.integration.test_watch import variables
from tests.servers import Process, free_port, wait_until
from tests.standin import KiB
from tests.tools import need
from tests.unit.ledger.test_ledger import ask, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


@pytest.fixture
def exporter(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Start the exporter on a free port."""
    process = Process(tmp_path_factory.mktemp("metrics") / "metrics.log")
    command = [sys.executable, "-m", "geodes_tasks", "metrics"]
    process.spawn([*command, "--port", "0"], env=os.environ | variables(settings))
    process.wait_for("/metrics")
    yield process
    process.stop()


def test_exporter_counts_a_transfer(
    standin: StandIn, settings: Config, worker: WorkerFactory, exporter: Process
) -> None:
    """Bytes and outcomes of real downloads arrive, and the process ends when it is asked to."""
    address = re.search(r"http://\S+/metrics", exporter.text)
    assert address is not None
    good, gone = standin.add_item(64 * KiB), standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    worker(settings=settings.replace(max_attempts=1))
    enqueue([good, gone], conf=settings).wait(20)

    text = ""
    for _ in range(50):
        with urllib.request.urlopen(address[0], timeout=5) as answer:
            text = answer.read().decode()
        if 'state="SUCCESS"} 1.0' in text and 'state="FAILURE"} 1.0' in text:
            break

    total = 'geodes_tasks_transferred_bytes_total{collection="PEPS_S2_L1C",source="geodes"} 65536.0'
    assert total in text
    assert 'geodes_tasks_files{outcome="DOWNLOADED",state="SUCCESS"} 1.0' in text
    assert 'geodes_tasks_attempt_errors_total{error="NotFoundError"} 1.0' in text
    assert "geodes_tasks_workers 1.0" in text
    exporter.term()
    assert exporter.wait(10) == 0


def test_a_scrape_reads_no_records(ledger: Ledger) -> None:
    """With 2000 records a scrape sends the same few commands as with 20, and none that searches."""
    sent = [commands_of_a_scrape(ledger, records) for records in (20, 2000)]

    assert sent[0] == sent[1]
    assert not sent[0].keys() & {"keys", "scan", "hscan", "zscan", "sscan"}
    assert sum(sent[0].values()) < 75


def commands_of_a_scrape(ledger: Ledger, records: int) -> dict[str, int]:
    """Count the commands, by name, that one scrape sends to a ledger with so many records."""
    requests = [request_of(f"file{number}") for number in range(records)]
    for begin in range(0, records, 200):
        ask(ledger, *requests[begin : begin + 200])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(ledger))
    # The server counts for everybody; what others send beside it is not in every scrape.
    counts = [counted(ledger, registry, records) for _ in range(5)]
    least = {name: min(count.get(name, 0) for count in counts) for name in counts[0]}
    return {name: count for name, count in least.items() if count}


def counted(ledger: Ledger, registry: CollectorRegistry, records: int) -> dict[str, int]:
    """Scrape once, and count what the server was sent meanwhile."""
    before = calls(ledger)
    text = generate_latest(registry).decode()
    after = calls(ledger)

    assert f'state="PENDING"}} {float(records)}' in text
    return {name: after[name] - before.get(name, 0) for name in after if name != "info"}


def calls(ledger: Ledger) -> dict[str, int]:
    """Read how often each command was called so far."""
    facts = ledger.connection.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(fact["calls"]) for name, fact in facts.items()}


@contextlib.contextmanager
def prometheus_of(settings: Config, folder: Path) -> Iterator[Callable[[str], list[float]]]:
    """Start the exporter and a Prometheus that scrapes it each second; yield what queries it."""
    need("prometheus", "prometheus")
    port, own = free_port(), free_port()
    config_file = folder / "prometheus.yml"
    config_file.write_text(
        f"""global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: g, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
    )
    exporter, prometheus = Process(folder / "exporter.log"), Process(folder / "prometheus.log")
    exporter.spawn(
        [sys.executable, "-m", "geodes_tasks", "metrics", "--port", str(port)],
        env=os.environ | variables(settings), cwd=folder,
    )  # fmt: skip
    prometheus.spawn(
        [
            "prometheus", f"--config.file={config_file}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        env=dict(os.environ), cwd=folder,
    )  # fmt: skip

    def ask_prometheus(query: str) -> list[float]:
        url = f"http://127.0.0.1:{own}/api/v1/query?query={quote(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.loads(answer.read())["data"]["result"]
        except urllib.error.URLError as error:
            # 503: it is starting. Any other status refuses the query.
            if isinstance(error, urllib.error.HTTPError) and error.code != 503:
                raise
            return []
        return [float(one["value"][1]) for one in found]

    try:
        yield ask_prometheus
    finally:
        exporter.stop()
        prometheus.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_view_and_prometheus_show_one_steady_speed(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger, tmp_path: Path
) -> None:
    """A steady transfer of files is that speed in the status, in the picture and in rate()."""
    standin.settings.rate = 400 * KiB  # of each connection
    steady = 2 * 400 * KiB
    batch = enqueue([standin.add_item(8192 * KiB) for _ in range(8)], conf=settings, batch="b")
    worker()
    with prometheus_of(settings, tmp_path) as ask_prometheus:

        def rate() -> float:
            query = "sum(rate(geodes_tasks_transferred_bytes_total[15s]))"
            return sum(ask_prometheus(query))

        wait_until(lambda: rate() > 0.8 * steady, 60.0, "a rate in Prometheus")
        time.sleep(8.0)
        seen = []
        for _ in range(4):
            snapshot = SnapshotReader(ledger, ["b"]).read()
            files = sum(one.bytes_per_second for one in snapshot.running)
            seen.append((batch.status().bytes_per_second, files, rate()))
            time.sleep(2.0)

    batches, files_, rates = (sorted(column)[1:3] for column in zip(*seen, strict=True))
    assert batches == pytest.approx([steady] * 2, rel=0.15)
    assert rates == pytest.approx([steady] * 2, rel=0.15)
    assert files_ == pytest.approx([steady] * 2, rel=0.3)


def test_slow_requests_end_and_block_no_scrape(settings: Config) -> None:
    """Each letter extends no deadline: connections end, are few, and the memory stays."""
    ledger, patch = Ledger.of(settings), pytest.MonkeyPatch()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(ledger))
    patch.setattr(metrics_server, "MOST_CONNECTIONS", 5)
    patch.setattr(metrics_server, "CONNECTION_SECONDS", 1.0)
    server = metrics_server.MetricsServer("127.0.0.1", 0, registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    slow = [socket.create_connection(("127.0.0.1", server.server_port), 5) for _ in range(12)]
    try:
        began, left = time.monotonic(), set(slow)
        while left and time.monotonic() - began < 20:
            for one in list(left):
                try:
                    one.sendall(b"G")
                except OSError:
                    left.discard(one)
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=5) as got:
            text = got.read().decode()
    finally:
        for one in slow:
            one.close()
        server.shutdown()
        server.server_close()
        patch.undo()

    assert not left
    assert "geodes_tasks_ledger_up 1.0" in text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("127.0.0.1", 200), ("LOCALHOST:9808", 200), ("[::1]:9808", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("[", 403), ("127.0.0.1@evil", 403),
    ],
)  # fmt: skip
def test_a_page_of_another_site_reads_no_metrics(exporter: Process, host: str, status: int) -> None:
    """Its name can be made to resolve to this machine: the exporter knows its own names."""
    address = re.search(r"http://(\S+)/metrics", exporter.text)
    assert address is not None
    connection = http.client.HTTPConnection(address[1], timeout=5)
    connection.request("GET", "/metrics", headers={"Host": host})

    assert connection.getresponse().status == status
