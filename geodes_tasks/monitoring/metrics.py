"""The ledger as Prometheus metrics: counts, bytes, waits and limits; never a label per item.

The ledger's scripts keep the counters, so a scrape reads no records and costs the same however
many there are. Counters only rise: forgotten batches stay counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Ledger, Totals
from geodes_tasks.ledger.reading import TURN
from geodes_tasks.model.formatting import escaped
from geodes_tasks.model.states import ACTIVE, Outcome, Reason, State
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader

NAMESPACE = "geodes_tasks"
SOURCES = frozenset({"geodes", "s3"})
LOST = "WorkerLostError"
BATCHES = 100
"""Number of batches, the newest, of which what is left is exported: a series each."""


class LedgerCollector(Collector):
    """Source of the metrics of one ledger for prometheus_client."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep the ledger; opens no connection yet."""
        self.ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; only ``ledger_up 0`` while Redis does not answer."""
        reading = self.ledger.reading
        try:
            names = reading.batches()[:BATCHES]
            snapshot = SnapshotReader(self.ledger, names, is_brief=True).read()
            counted = [*_counted(reading.totals())]
        except LedgerUnavailableError:
            yield _gauge("ledger_up", "Whether Redis answers.", 0)
            return
        found = (*counted, *_under_way(snapshot), *_accounts(snapshot), *_batches(snapshot))
        for metric in found:
            # People read this in terminals, too, and the exposition format escapes line ends only
            # (prometheus.io/docs/instrumenting/exposition_formats).
            metric.samples = [
                sample._replace(
                    labels={name: escaped(text) for name, text in sample.labels.items()}
                )
                for sample in metric.samples
            ]
            yield metric
        yield _gauge("ledger_up", "Whether Redis answers.", 1)


def _under_way(snapshot: Snapshot) -> Iterator[Metric]:
    running = _gauge("running", "Downloads under way.", None, "source")
    in_flight = _gauge("running_bytes", "Bytes on disk of downloads under way.", None, "source")
    # Every source, with 0 too: a series that comes and goes breaks sums and alerts
    # (prometheus.io/docs/practices/instrumentation, "Avoid missing metrics").
    for source in sorted(SOURCES | {one.source for one in snapshot.running if one.source}):
        here = [one for one in snapshot.running if one.source == source]
        running.add_metric([source], len(here))
        in_flight.add_metric([source], sum(one.done_bytes for one in here))
    seen = _gauge(
        "worker_last_seen_timestamp_seconds", "When a worker last registered.", None, "worker"
    )
    for worker in snapshot.workers or ():
        seen.add_metric([worker.name], worker.seen)
    yield from (running, in_flight, seen)
    yield _gauge("workers", "Workers alive.", len(snapshot.alive))
    slots = sum(worker.slots for worker in snapshot.alive)
    yield _gauge("slots", "Downloads that these can run at once.", slots)


def _batches(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield what is left of the newest batches that are not over."""
    left = _gauge("bytes_left", "Bytes that a batch still has to receive.", None, "batch")
    end = _gauge(
        "expected_end_timestamp_seconds", "When a batch is expected to end.", None, "batch"
    )
    for status in snapshot.batches:
        if status.unfinished:
            left.add_metric([status.batch], max(status.bytes_total - status.bytes_done, 0))
            # A series without a value would be the year 1970: an unknown end has none.
            if (at := snapshot.ends[status.batch].at) is not None:
                end.add_metric([status.batch], at)
    yield from (left, end)


def _accounts(snapshot: Snapshot) -> Iterator[Metric]:
    limit = _gauge("running_limit", "Downloads an account may run.", None, "account")
    paused = _gauge("account_paused", "Whether an account takes no work.", None, "account")
    quota = _gauge("quota_limit", "Requests allowed in a window.", None, "account")
    left = _gauge("quota_left", "Requests left in this window.", None, "account")
    for one in snapshot.accounts:
        limit.add_metric([one.name], one.concurrent)
        paused.add_metric([one.name], one.paused is not None)
        if one.quota_count:
            quota.add_metric([one.name], one.quota_count)
            left.add_metric([one.name], one.quota_left)
        elif one.portal_quota_left is not None:
            left.add_metric([one.name], one.portal_quota_left)
    yield from (limit, paused, quota, left)


def _counted(totals: Totals) -> Iterator[Metric]:
    transferred = _counter(
        "transferred_bytes", "Bytes over the network, counted as they come.", "source", "collection"
    )
    for name, value in sorted(totals.parts("bytes").items()):
        source, _, collection = name.partition(":")
        transferred.add_metric([source or "unknown", collection or "none"], value)
    # Collections are few; an item or a file as a label would make a time series each, which
    # Prometheus advises against (prometheus.io/docs/practices/naming, "Labels").
    errors = _counter("attempt_errors", "Attempts that failed, by class of error.", "error")
    # This one from 0, for its alert: of a counter that begins at 1 increase() sees nothing.
    for name, value in sorted(({LOST: 0} | totals.parts("errors")).items()):
        errors.add_metric([name or "other"], value)
    loops = _counter("loop_failures", "Failed turns of background threads of workers.", "loop")
    for name, value in sorted(totals.parts("loops").items()):
        loops.add_metric([name], value)
    yield from (transferred, errors, loops)
    yield _files(totals)
    yield from _waits(totals)


def _files(totals: Totals) -> Metric:
    files = _gauge("files", "Downloads by state and outcome.", None, "state", "outcome")
    states, outcomes = totals.states, totals.parts("outcome")
    for state in State:
        if state is not State.SUCCESS:
            files.add_metric([str(state), ""], states.get(state, 0))
    for outcome in Outcome:
        files.add_metric([str(State.SUCCESS), str(outcome)], outcomes.get(outcome, 0))
    return files


def _waits(totals: Totals) -> Iterator[Metric]:
    waiting = _gauge("waiting", "Downloads that wait.", None, "reason")
    oldest = _gauge("oldest_wait_seconds", "Since when the first waits.", None, "reason")
    counts, states = totals.parts("waiting"), totals.states
    for reason in Reason:
        waiting.add_metric([str(reason)], counts.get(reason, 0))
    for reason in (*Reason, TURN):
        oldest.add_metric([str(reason)], max(totals.at - totals.since.get(reason, totals.at), 0.0))
    yield from (waiting, oldest)
    work = sum(states.get(state, 0) for state in ACTIVE) - totals.later - totals.taped
    # One worker polls the files on tape: with no worker they would stay there for ever.
    backlog = max(work, 0) + (totals.taped > 0)
    yield _gauge("backlog", "Downloads that workers have or could take now.", backlog)


def _gauge(name: str, text: str, value: float | None = None, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=value, labels=labels or None)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
