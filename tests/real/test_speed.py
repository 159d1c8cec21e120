"""One speed in every view at one moment: terminal, notebook, Flower's server and Prometheus."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from tests.integration.test_flower import FlowerProcess
from tests.integration.test_metrics_command import prometheus_of
from tests.integration.test_watch import COMMAND, variables
from tests.servers import wait_until
from tests.unit.monitoring.test_metrics import DASHBOARD, queries

if TYPE_CHECKING:
    from pathlib import Path

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

STEADY = 1_500_000
"""Bytes a second of both connections together."""
FILE = 40_000_000
"""Bytes of each file: one takes 53 s, so a window of a minute has the end of one and no more."""
SETTLED_S = 75.0
"""Seconds after which a rate over a minute has a whole minute to look at."""
pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


def written(settings: Config, *command: str) -> str:
    """Return what a command writes."""
    return subprocess.run(
        [*COMMAND, *command], env=os.environ | variables(settings) | {"COLUMNS": "120"},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def speed_in(text: str) -> float:
    """Return the speed that a text shows first, in bytes a second."""
    found = re.search(r"([\d.]+) (k?M?)B/s", text)
    assert found is not None, text
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6}[found[2]]


def test_a_steady_speed_is_the_same_in_every_view(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """1.5 MB/s of 40 MB files is 1.5 within 10 % everywhere; every query of the dashboard works."""
    standin.settings.rate = STEADY / 2
    limited = settings.replace(lease_seconds=20)
    batch = enqueue([standin.add_item(FILE) for _ in range(10)], conf=limited, batch="april")
    worker(settings=limited)
    flower = FlowerProcess(limited, tmp_path).start()
    try:
        with prometheus_of(limited, tmp_path) as ask_prometheus:
            wait_until(lambda: batch.status().bytes_done > 0, 60.0, "the first bytes")
            time.sleep(SETTLED_S)
            seen = []
            for _ in range(5):
                seen.append(
                    {
                        "watch": speed_in(written(limited, "watch", "--once")),
                        "status": json.loads(written(limited, "status", "--json"))[
                            "bytes_per_second"
                        ],
                        "notebook": speed_in(batch._repr_html_()),
                        "page": speed_in(flower.get("/batches")[1]),
                        "page as JSON": json.loads(flower.get("/batches?format=json")[1])[0][
                            "bytes_per_second"
                        ],
                        "rate": sum(
                            ask_prometheus("rate(geodes_tasks_transferred_bytes_total[1m])")
                        ),
                    }
                )
            answers = {
                query: ask_prometheus(query.replace("$__rate_interval", "1m"))
                for query in [
                    *queries(),
                    *(one["expr"] for one in DASHBOARD["annotations"]["list"]),
                ]
            }
    finally:
        flower.stop()

    medians = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    assert medians == pytest.approx(dict.fromkeys(medians, STEADY), rel=0.1)
    # No quota, no pause, no wait and no dead worker: these panels have nothing to show.
    silent = {query for query, answer in answers.items() if not answer}
    nothing = re.compile("quota|waiting|wait_seconds|paused == 1|WorkerLost")
    assert all(map(nothing.search, silent))
    assert sum(answers["geodes_tasks_bytes_left"]) > 0
