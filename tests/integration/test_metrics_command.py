"""``metrics`` as a process, beside a real worker."""

from __future__ import annotations

import re
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from tests.integration.test_watch import variables
from tests.servers import Process
from tests.standin import KiB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.config import Settings
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn


@pytest.fixture
def exporter(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Start the exporter on a free port."""
    process = Process(tmp_path_factory.mktemp("metrics") / "metrics.log")
    command = [sys.executable, "-m", "geodes_tasks", "metrics"]
    import os

    process.spawn([*command, "--port", "0", "--every", "0.2"], env=os.environ | variables(settings))
    process.wait_for("/metrics")
    yield process
    process.stop()


def test_exporter_counts_a_transfer(
    standin: StandIn, settings: Settings, worker: WorkerFactory, exporter: Process
) -> None:
    """Bytes and outcomes of real downloads arrive, and the process ends when it is asked to."""
    address = re.search(r"http://\S+/metrics", exporter.text)
    assert address is not None
    good, gone = standin.add_item(64 * KiB), standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    worker()
    enqueue([good, gone], settings=settings).wait(20)

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
