"""The ledger as Prometheus sees it: counts, bytes, waits and limits; never a label per item.

Records are read in the background, every so often; what an account or a worker does now is asked
for at each scrape. Counters only rise: what is forgotten in the ledger stays counted here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.states import Outcome, Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.ledger.insight import Sighting

logger = logging.getLogger(__name__)

NAMESPACE = "geodes_tasks"
TURN = "turn"
"""Why a download waits that nobody has taken yet."""
REST = 20
"""A reading of all records is followed by a rest of at least so many times its length."""


@dataclass(slots=True)
class Tally:
    """What the records add up to, reading after reading."""

    transferred: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Bytes over the network, by source and collection."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failed attempts by class of error."""
    files: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Downloads by state and outcome, at the last reading."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    """Reason to the time since when the first one waits."""
    _bytes: dict[str, int] = field(default_factory=dict)
    _attempts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def update(self, sightings: Iterable[Sighting]) -> None:
        """Take one reading of all records."""
        files: Counter[tuple[str, str]] = Counter()
        since: dict[str, float] = {}
        for one in sightings:
            files[one.state, one.outcome or ""] += 1
            self._count_bytes(one)
            self._count_errors(one)
            if one.reason and one.history:
                began = moment(str(one.history[-1].get("at", "")))
                since[one.reason] = min(began, since.get(one.reason, began))
        self.files, self.waiting_since = files, since

    def _count_bytes(self, one: Sighting) -> None:
        before = self._bytes.get(one.download_id, 0)
        # Fewer than before: it was asked for again, and its record began anew.
        new = one.transferred_bytes - (before if one.transferred_bytes >= before else 0)
        if new:
            self.transferred[one.source or "unknown", one.collection or "none"] += new
        if one.transferred_bytes:
            self._bytes[one.download_id] = one.transferred_bytes
        else:
            self._bytes.pop(one.download_id, None)

    def _count_errors(self, one: Sighting) -> None:
        last = self._attempts.get(one.download_id)
        history = list(one.history)
        begun = history.index(last) + 1 if last in history else 0
        for entry in history[begun:]:
            self.errors[error_class(str(entry.get("error", "")))] += 1
        if history:
            self._attempts[one.download_id] = history[-1]


def error_class(text: str) -> str:
    """Give the class of an error as a history tells it: ``TransferError: ...``."""
    name = text.partition(":")[0]
    return name if name.isidentifier() else "WorkerLostError" if text == "worker lost" else "other"


def moment(text: str) -> float:
    """Read a time as histories write it: ISO 8601, or seconds. Now when it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()


class Reader(threading.Thread):
    """Reads all records now and then, and keeps what they add up to."""

    def __init__(self, ledger: Ledger, every_s: float) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="metrics", daemon=True)
        self.ledger, self.every_s = ledger, every_s
        self.tally = Tally()
        self.took_s = 0.0
        self.lock = threading.Lock()
        self._ended = threading.Event()

    def run(self) -> None:
        """Read until stopped; Redis being away is waited out."""
        while not self._ended.is_set():
            try:
                self.read()
            except LedgerUnavailableError as error:
                logger.warning("%s", error)
            self._ended.wait(max(self.every_s, REST * self.took_s))

    def read(self) -> None:
        """Read once.

        Raises:
            LedgerUnavailableError: Redis does not answer; the last reading stays.
        """
        begun = time.monotonic()
        sightings = list(self.ledger.sightings())
        with self.lock:
            self.tally.update(sightings)
        self.took_s = time.monotonic() - begun

    def stop(self) -> None:
        """End."""
        self._ended.set()


class LedgerCollector(Collector):
    """Gives Prometheus the metrics of one ledger."""

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        """Take the ledger and who reads its records."""
        self.ledger, self.reader = ledger, reader

    def collect(self) -> Iterator[Metric]:
        """Give every metric; those asked of Redis now are left out while it does not answer."""
        with self.reader.lock:
            yield from self._counted(self.reader.tally)
        try:
            yield from list(self._present())
            up = 1
        except LedgerUnavailableError:
            up = 0
        yield _gauge("ledger_up", "Whether Redis answers.", up)
        yield _gauge("reading_seconds", "How long reading all records took.", self.reader.took_s)

    def _counted(self, tally: Tally) -> Iterator[Metric]:
        transferred = _counter(
            "transferred_bytes", "Bytes over the network in ended attempts.", "source", "collection"
        )
        for labels, count in sorted(tally.transferred.items()):
            transferred.add_metric(labels, count)
        yield transferred
        errors = _counter("attempt_errors", "Attempts that failed, by class of error.", "error")
        for name, count in sorted(tally.errors.items()):
            errors.add_metric([name], count)
        yield errors
        yield self._files(tally)

    @staticmethod
    def _files(tally: Tally) -> Metric:
        files = GaugeMetricFamily(
            f"{NAMESPACE}_files", "Downloads by state and outcome.", labels=["state", "outcome"]
        )
        names = [(state, "") for state in State if state is not State.SUCCESS]
        for labels in [*names, *((State.SUCCESS, outcome) for outcome in Outcome)]:
            files.add_metric([str(label) for label in labels], tally.files[labels])
        return files

    def _present(self) -> Iterator[Metric]:
        insight = self.ledger
        now = insight.server_time()
        yield from self._waits(insight, now)
        running = _gauge("running", "Downloads under way.", None, "source")
        in_flight = _gauge("running_bytes", "Bytes on disk of downloads under way.", None, "source")
        moving = insight.running()
        for source in sorted({"geodes", "s3"} | {one.source for one in moving if one.source}):
            here = [one for one in moving if one.source == source]
            running.add_metric([source], len(here))
            in_flight.add_metric([source], sum(one.done_bytes for one in here))
        yield from (running, in_flight)
        yield from self._accounts(insight)
        workers = self.ledger.workers()
        yield _gauge("workers", "Workers alive.", len(workers))
        yield _gauge("slots", "Downloads that these can run at once.", sum(workers.values()))

    def _waits(self, insight: Ledger, now: float) -> Iterator[Metric]:
        waiting = _gauge("waiting", "Downloads that wait.", None, "reason")
        counts = {wait.reason: wait.count for wait in insight.waits(insight.unfinished_batches())}
        for reason in Reason:
            waiting.add_metric([str(reason)], counts.get(reason, 0))
        yield waiting
        oldest = _gauge("oldest_wait_seconds", "Since when the first waits.", None, "reason")
        since = dict(self.reader.tally.waiting_since)
        if self.reader.tally.files[State.PENDING, ""]:
            since[TURN] = insight.oldest_unfinished() or now
        for reason in (*Reason, TURN):
            oldest.add_metric([str(reason)], max(now - since.get(reason, now), 0.0))
        yield oldest

    @staticmethod
    def _accounts(insight: Ledger) -> Iterator[Metric]:
        limit = _gauge("running_limit", "Downloads an account may run.", None, "account")
        paused = _gauge("account_paused", "Whether an account takes no work.", None, "account")
        quota = _gauge("quota_limit", "Requests allowed in a window.", None, "account")
        left = _gauge("quota_left", "Requests left in this window.", None, "account")
        for one in insight.account_states():
            limit.add_metric([one.name], one.concurrent)
            paused.add_metric([one.name], one.paused is not None)
            if one.quota_count:
                quota.add_metric([one.name], one.quota_count)
                left.add_metric([one.name], one.quota_left)
        yield from (limit, paused, quota, left)


def _gauge(name: str, text: str, value: float | None = None, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=value, labels=labels or None)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
