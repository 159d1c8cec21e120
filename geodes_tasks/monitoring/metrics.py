"""The ledger as Prometheus metrics: counts, bytes, waits and limits; never a label per item.

The ledger's scripts keep the counters, so a scrape reads no records and costs the same however
many there are. Counters only rise: forgotten batches stay counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Ledger, Totals
from geodes_tasks.ledger.reading import TURN
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.formatting import escaped
from geodes_tasks.model.states import ACTIVE, Outcome, Reason, State
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader

NAMESPACE = "geodes_tasks"
SOURCES_AT_0 = {GEODES: 0, S3: 0}
LOST = "WorkerLostError"
BATCHES = 100
"""Number of unfinished batches, the newest, of which what is left is exported: a series each."""


class LedgerCollector(Collector):
    """Source of the metrics of one ledger for prometheus_client."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep the ledger; opens no connection yet."""
        self.ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; only ``ledger_up 0`` while Redis does not answer."""
        reading = self.ledger.reading
        try:
            names = self.ledger.retention.unfinished_batches(BATCHES)
            snapshot = SnapshotReader(self.ledger, names, is_brief=True).read()
            counted = [*_counted(reading.totals())]
        except LedgerUnavailableError:
            yield _gauge("ledger_up", "Whether Redis answers.", 0)
            return
        yield from (*counted, *_under_way(snapshot), *_accounts(snapshot), *_batches(snapshot))
        yield _gauge("ledger_up", "Whether Redis answers.", 1)


def _under_way(snapshot: Snapshot) -> Iterator[Metric]:
    # Every source, with 0 too: a series that comes and goes breaks sums and alerts
    # (prometheus.io/docs/practices/instrumentation, "Avoid missing metrics").
    running, bytes_there = Counter(SOURCES_AT_0), Counter(SOURCES_AT_0)
    for one in snapshot.running:
        if one.source:
            running[one.source] += 1
            bytes_there[one.source] += one.done_bytes
    yield _gauge("running", "Downloads under way.", running, "source")
    yield _gauge("running_bytes", "Bytes on disk of downloads under way.", bytes_there, "source")
    seen = {worker.name: worker.seen for worker in snapshot.workers or ()}
    name, text = "worker_last_seen_timestamp_seconds", "When a worker last registered."
    yield _gauge(name, text, seen, "worker")
    yield _gauge("workers", "Workers alive.", len(snapshot.alive))
    slots = sum(worker.slots for worker in snapshot.alive)
    yield _gauge("slots", "Downloads that these can run at once.", slots)


def _batches(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield what is left of the newest batches that are not over."""
    # An unknown number has no series: 0 bytes left and the year 1970 would be wrong.
    left = {one.batch: one.bytes_left for one in snapshot.batches if not one.has_unknown_sizes}
    yield _gauge("bytes_left", "Bytes that a batch still has to receive.", left, "batch")
    ends = {name: end.at for name, end in snapshot.ends.items() if end.at is not None}
    name, text = "expected_end_timestamp_seconds", "When a batch is expected to end."
    yield _gauge(name, text, ends, "batch")


def _accounts(snapshot: Snapshot) -> Iterator[Metric]:
    accounts = snapshot.accounts
    limits = {one.name: one.concurrent for one in accounts}
    paused = {one.name: one.paused is not None for one in accounts}
    quotas = {one.name: one.quota_count for one in accounts if one.quota_count}
    left = {
        one.name: one.quota_left if one.quota_count else one.portal_quota_left or 0
        for one in accounts
        if one.quota_count or one.portal_quota_left is not None
    }
    yield _gauge("running_limit", "Downloads an account may run.", limits, "account")
    yield _gauge("account_paused", "Whether an account takes no work.", paused, "account")
    yield _gauge("quota_limit", "Requests allowed in a window.", quotas, "account")
    yield _gauge("quota_left", "Requests left in this window.", left, "account")


def _counted(totals: Totals) -> Iterator[Metric]:
    came = dict[tuple[str, ...], int]()
    for name, value in totals.parts("bytes").items():
        source, _, collection = name.partition(":")
        came[source or "unknown", collection or "none"] = value
    # Collections are few; an item or a file as a label would make a time series each, which
    # Prometheus advises against (prometheus.io/docs/practices/naming, "Labels").
    text = "Bytes over the network, counted as they come."
    yield _counter("transferred_bytes", text, came, "source", "collection")
    # This one from 0, for its alert: of a counter that begins at 1 increase() sees nothing.
    errors = {name or "other": n for name, n in ({LOST: 0} | totals.parts("errors")).items()}
    yield _counter("attempt_errors", "Attempts that failed, by class of error.", errors, "error")
    loops = totals.parts("loops")
    yield _counter("loop_failures", "Failed turns of background threads of workers.", loops, "loop")
    states, outcomes, counts = totals.states, totals.parts("outcome"), totals.parts("waiting")
    files: dict[Any, int] = {
        (state, ""): states.get(state, 0) for state in State if state is not State.SUCCESS
    }
    files |= {(State.SUCCESS, outcome): outcomes.get(outcome, 0) for outcome in Outcome}
    yield _gauge("files", "Downloads by state and outcome.", files, "state", "outcome")
    waiting = {reason: counts.get(reason, 0) for reason in Reason}
    yield _gauge("waiting", "Downloads that wait.", waiting, "reason")
    since = {reason: totals.since.get(reason, totals.at) for reason in (*Reason, TURN)}
    oldest = {reason: max(totals.at - then, 0.0) for reason, then in since.items()}
    yield _gauge("oldest_wait_seconds", "Since when the first waits.", oldest, "reason")
    work = sum(states.get(state, 0) for state in ACTIVE) - totals.later - totals.taped
    # One worker polls the files on tape: with no worker they would stay there for ever.
    backlog = max(work, 0) + (totals.taped > 0)
    yield _gauge("backlog", "Downloads that workers have or could take now.", backlog)


Values = Mapping[Any, float]
"""Label, or labels, to the value of a series."""


def _gauge(name: str, text: str, values: Values | float, *labels: str) -> Metric:
    if isinstance(values, int | float):
        return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=values)
    return _filled(GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels), values)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels), values)


def _filled(metric: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    # People read this in terminals, too, and the exposition format escapes line ends only
    # (prometheus.io/docs/instrumenting/exposition_formats).
    for found, value in sorted(values.items()):
        words = found if isinstance(found, tuple) else (found,)
        metric.add_metric([escaped(str(word)) for word in words], value)
    return metric
