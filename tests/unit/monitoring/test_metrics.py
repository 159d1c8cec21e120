"""The exporter: counters that only rise, gauges of this moment, the same words on all panels."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from geodes_tasks.errors import TransferError
from geodes_tasks.ledger import Claim, Ledger, Limits, Progress
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring import metrics
from geodes_tasks.monitoring.metrics import LedgerCollector
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.snapshot import SILENT_PERIODS, SnapshotReader
from tests.conftest import Clock, publish_limits
from tests.tools import need
from tests.unit.ledger.test_ledger import (
    AGAIN_AT_ONCE,
    ENTRY,
    ask,
    claimed,
    failed,
    postponed,
    proven,
    request_of,
)
from tests.unit.ledger.test_reading_counts import LATER

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "geodes-tasks.json").read_text())


def scraped(ledger: Ledger) -> str:
    """Give what Prometheus reads of a ledger."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger))
    return generate_latest(registry).decode()


def values(text: str) -> dict[str, float]:
    """Read the samples."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


@pytest.fixture
def busy(fake_ledger: Ledger) -> Ledger:
    """Give a ledger with downloads of every kind."""
    proven(fake_ledger, request_of("done"))
    failed(fake_ledger, request_of("failed"))
    ask(fake_ledger, *(request_of(name) for name in ("waits", "runs", "queued")))
    postponed(fake_ledger, claimed(fake_ledger, request_of("waits")), LATER)
    claimed(fake_ledger, request_of("runs"))
    fake_ledger.dispatch.recover("node1", 4)
    return fake_ledger


def test_no_label_passes_codes_on(fake_ledger: Ledger) -> None:
    """People read metrics in a terminal, too: names of strangers are escaped there."""
    fake_ledger.dispatch.recover("node\x1b]0;owned\x07\u202e", 4)

    page = scraped(fake_ledger)

    assert r"node\\x1b]0;owned\\x07\\u202e" in page
    assert page.replace("\n", "").isprintable()


def test_silent_workers_are_not_alive(busy: Ledger, clock: Clock) -> None:
    """The exporter and the picture count the same workers, and the slots of these alone."""
    busy.dispatch.register("node2", 2)
    clock.advance(SILENT_PERIODS * Limits().register_seconds + 1)
    busy.dispatch.register("node2", 2)

    seen = values(scraped(busy))
    (workers,) = (
        one for one in sections(SnapshotReader(busy, ["b"]).read()) if one.title == "workers"
    )

    assert (seen["geodes_tasks_workers"], seen["geodes_tasks_slots"]) == (1, 2)
    assert workers.detail.startswith("1 worker alive with 2 slots")
    assert 'geodes_tasks_worker_last_seen_timestamp_seconds{worker="node1"}' in seen


def test_every_state_is_counted(busy: Ledger) -> None:
    """Files, bytes, errors, waits and workers have the numbers that the ledger has."""
    seen = values(scraped(busy))

    assert seen['geodes_tasks_files{outcome="DOWNLOADED",state="SUCCESS"}'] == 1
    assert seen['geodes_tasks_files{outcome="",state="FAILURE"}'] == 1
    assert seen['geodes_tasks_files{outcome="",state="PENDING"}'] == 1
    assert seen['geodes_tasks_waiting{reason="backoff"}'] == 1
    assert seen['geodes_tasks_waiting{reason="offline"}'] == 0
    assert seen['geodes_tasks_running_limit{account="acc"}'] == 4
    assert seen["geodes_tasks_workers"] == 1
    assert seen["geodes_tasks_slots"] == 4
    assert seen["geodes_tasks_ledger_up"] == 1
    total = 'geodes_tasks_transferred_bytes_total{collection="PEPS_S2_L1C",source="geodes"}'
    assert seen[total] == 13


def test_what_is_left_of_a_batch_and_when_it_ends(busy: Ledger, clock: Clock) -> None:
    """Bytes left and end expected by batch; a batch that is over has neither."""
    batch, claim = "more", claimed_anew(busy)
    for second in range(1, 6):
        clock.advance(1.0)
        done = 1000 * second
        progress = Progress(claim.download_id, claim.token, done, "geodes", done, "C")
        busy.leases.renew([progress])
    busy.dispatch.register("node1", 4)
    seen = values(scraped(busy))

    assert seen[f'geodes_tasks_bytes_left{{batch="{batch}"}}'] == 20_000
    end = seen[f'geodes_tasks_expected_end_timestamp_seconds{{batch="{batch}"}}']
    assert end == pytest.approx(busy.connection.server_time() + 20, abs=2)
    assert seen['geodes_tasks_worker_last_seen_timestamp_seconds{worker="node1"}'] > 1e9
    assert seen['geodes_tasks_attempt_errors_total{error="WorkerLostError"}'] == 0


def test_unknown_bytes_left_are_no_series(busy: Ledger) -> None:
    """Where the catalogue has no size for what is left, 0 would be wrong."""
    ask(busy, request_of("unsized", size_bytes=None), batch="unsized")

    assert names_of(busy) == {busy.reading.batches()[-1]}


def claimed_anew(ledger: Ledger) -> Claim:
    """Return the lease of the only download of another batch."""
    other = request_of("other", size_bytes=25_000)
    ask(ledger, other, batch="more")
    return claimed(ledger, other)


def test_an_old_batch_keeps_its_series(busy: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones that are over take no place among those of which a series is exported."""
    monkeypatch.setattr(metrics, "BATCHES", 2)
    batch = busy.reading.batches()[0]
    ask(busy, request_of("middle"), batch="middle")
    for number in range(3):
        proven(busy, request_of(f"new{number}"), batch=f"new{number}")

    assert names_of(busy) == {batch, "middle"}
    ask(busy, request_of("last"), batch="last")
    assert names_of(busy) == {"middle", "last"}


def names_of(ledger: Ledger) -> set[str]:
    """Return the batches with a series of what is left."""
    return {*re.findall(r'bytes_left{batch="(.*)"}', scraped(ledger))}


def test_no_label_names_an_item(busy: Ledger) -> None:
    """However many items there are, the number of series stays the same."""
    text = scraped(busy)
    before = len(values(text))
    ask(busy, *(request_of(f"more{number}") for number in range(50)))

    assert len(values(scraped(busy))) == before
    assert "URN" not in text
    assert ".zip" not in text


def test_bytes_stay_counted(fake_ledger: Ledger) -> None:
    """Asked for again, a download's record begins at 0: the bytes before stay counted."""
    proven(fake_ledger, request_of("a"))
    proven(fake_ledger, request_of("a"))

    assert fake_ledger.reading.totals().parts("bytes") == {"geodes:PEPS_S2_L1C": 14}
    assert values(scraped(fake_ledger))['geodes_tasks_files{outcome="",state="PENDING"}'] == 0


def test_each_failed_attempt_counts_once(fake_ledger: Ledger, clock: Clock) -> None:
    """Every failed attempt counts by its class, a dead worker's too, however often one looks."""
    ask(fake_ledger, request_of("a"))
    for _ in range(3):
        claim = claimed(fake_ledger, request_of("a"))
        error = TransferError("href", "reset")
        fake_ledger.leases.postpone(
            claim, error, AGAIN_AT_ONCE, ENTRY | {"error": "TransferError: x"}
        )
    claimed(fake_ledger, request_of("a"))
    fake_ledger.dispatch.recover()
    clock.advance(30.0)
    fake_ledger.dispatch.recover()
    for seconds in (31.0, 5.0):
        clock.advance(seconds)
        fake_ledger.dispatch.recover()

    seen = values(scraped(fake_ledger))

    assert seen['geodes_tasks_attempt_errors_total{error="TransferError"}'] == 3
    assert seen['geodes_tasks_attempt_errors_total{error="WorkerLostError"}'] == 1
    assert values(scraped(fake_ledger)) == pytest.approx(seen, abs=5)


def test_oldest_wait_is_the_first_that_still_waits(busy: Ledger) -> None:
    """The age of a wait is that of the first one; it is 0 again when nobody waits any more."""
    key, now = busy.connection.key("since", "backoff"), busy.connection.server_time()
    busy.connection.client.zadd(key, {request_of("waits").download_id: now - 500})

    before = values(scraped(busy))
    busy.control.cancel([request_of("waits").download_id])
    after = values(scraped(busy))

    assert before['geodes_tasks_oldest_wait_seconds{reason="backoff"}'] == pytest.approx(500, abs=5)
    assert after['geodes_tasks_oldest_wait_seconds{reason="backoff"}'] == 0
    assert after['geodes_tasks_oldest_wait_seconds{reason="turn"}'] < 60


def test_backlog_is_what_workers_could_take(busy: Ledger) -> None:
    """Queued and running count, a wait counts when it is over: nobody scales down to its ruin."""
    before = values(scraped(busy))["geodes_tasks_backlog"]
    busy.connection.client.zadd(
        busy.connection.key("due"),
        {request_of("waits").download_id: busy.connection.server_time() - 1},
    )

    assert before == 2
    assert values(scraped(busy))["geodes_tasks_backlog"] == 3


def test_backlog_leaves_one_worker_for_the_tape(fake_ledger: Ledger) -> None:
    """Many files on tape are no work for many workers, but one must ask for them."""
    requests = [request_of(name) for name in "abc"]
    ask(fake_ledger, *requests)
    tape = Decision(True, Reason.OFFLINE, delay_s=60.0)
    for one in requests:
        postponed(fake_ledger, claimed(fake_ledger, one), tape)

    assert values(scraped(fake_ledger))["geodes_tasks_backlog"] == 1


def test_quota_is_what_the_portal_tells(busy: Ledger) -> None:
    """Where the portal says how many requests are left, that is what is exported."""
    before = scraped(busy)
    busy.connection.client.hset(
        busy.connection.key("account", "acc"), mapping={"portal_left": 7, "portal_at": 1.0}
    )

    assert "quota_left{" not in before
    assert values(scraped(busy))['geodes_tasks_quota_left{account="acc"}'] == 7


def test_redis_away_is_a_zero(fake_ledger: Ledger) -> None:
    """While Redis is away the exporter answers and says so, and makes up no numbers."""
    proven(fake_ledger, request_of("done"))
    registry = CollectorRegistry()
    registry.register(LedgerCollector(fake_ledger))
    fake_ledger.connection.client.connection_pool.connection_kwargs["server"].connected = False

    seen = values(generate_latest(registry).decode())

    assert seen == {"geodes_tasks_ledger_up": 0}


# --- dashboard and alerts ------------------------------------------------------------------------


def metric_names(expression: str) -> set[str]:
    """Give the names of ours in a query."""
    return set(re.findall(r"\bgeodes_tasks_\w+", expression))


def queries() -> list[str]:
    """Give every query of the dashboard."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def exported(busy: Ledger) -> set[str]:
    """Give the names that the exporter has, also those without a sample at this moment."""
    text = scraped(busy)
    declared = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    samples = (line for line in text.splitlines() if not line.startswith("#"))
    return declared | {re.split(r"[{ ]", line)[0] for line in samples}


def test_dashboard_asks_for_what_is_exported(busy: Ledger) -> None:
    """No panel and no alert asks for a metric or a label value that does not exist."""
    busy.connection.limits = replace(busy.connection.limits, quota_count=50, quota_seconds=3600.0)
    publish_limits(busy)
    asked = metric_names(" ".join(queries()) + (DEPLOY / "prometheus" / "alerts.yml").read_text())

    assert asked - exported(busy) == set()
    text = " ".join(queries()) + (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert set(re.findall(r'reason="(\w+)"', text)) <= set(Reason)
    assert set(re.findall(r"PENDING|STARTED|RETRY|FAILURE|SUCCESS", text)) <= set(State)


def test_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have ids of their own, do not overlap, and ask the data source that is chosen."""
    panels = DASHBOARD["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert {panel["type"] for panel in panels} <= {"stat", "timeseries"}
    assert DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    assert DASHBOARD["schemaVersion"] >= 30


def promtool(*arguments: str, cwd: Path, text: str | None = None) -> None:
    """Run Prometheus' own checker; skip where it is not installed."""
    need("prometheus", "promtool")
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, input=text, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_prometheus_takes_the_files(arguments: tuple[str, ...]) -> None:
    """Rules and configuration pass promtool, and the alerts rise when they should."""
    promtool(*arguments, cwd=DEPLOY / "prometheus")


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    """Each query of the dashboard is one that Prometheus can read."""
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries())
    ]
    groups = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))

    promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_prometheus_takes_the_metrics(busy: Ledger) -> None:
    """What is exported is what Prometheus' own linter accepts."""
    promtool("check", "metrics", cwd=DEPLOY, text=scraped(busy))
