"""Events for Flower that no worker sends: the ledger alone knows how those downloads stand.

A worker that was killed reports nothing any more, a cancelled download that waited had no worker,
and what is queued has no message yet. A thread beside Flower listens to the events as Flower does,
compares what they showed with the ledger, and sends Celery's own events where the two differ. So
every reader of events sees it, and nothing of Flower is replaced.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery
from celery.events import Event
from celery.utils.time import utcoffset
from kombu.exceptions import OperationalError

from geodes_tasks.ledger import Ledger, Wakeup
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring.picture import silent_text
from geodes_tasks.monitoring.snapshot import Snapshot, silent_workers
from geodes_tasks.tasks.app import TASK, readable
from geodes_tasks.tasks.event_receiver import Receiver
from geodes_tasks.tasks.loop_guard import LoopGuard

logger = logging.getLogger(__name__)

TICK_S = 1.5
"""Seconds between two comparisons; a difference that lasts two of them is reported."""
BEGIN_S = 12.0
"""Seconds after the start in which everything is reported again: Flower may not listen yet."""
QUEUED, BATCHES, CHECKED = 100, 20, 2000
"""Queued downloads shown of each batch, batches looked at, downloads compared in one tick."""
CLIENT = "ledger"
"""Host name in ``task-sent``, from which no worker is made (celery.events.state)."""
SHOWN_BY = {
    "task-sent": "PENDING",
    "task-received": "RECEIVED",
    "task-started": "STARTED",
    "task-STARTED": "STARTED",
    "task-retried": "RETRY",
}
"""Kind of event to the state that it shows; every other kind ends a task."""
ENDED, MOST_ENDED = "ENDED", 20_000
"""State of a task that an event has ended, and the number of those remembered: the newest."""


class LedgerEvents(threading.Thread):
    """Sends the events that are missing, for as long as the process lives."""

    def __init__(self, app: Celery, ledger: Ledger, tasks: Mapping[str, Any]) -> None:
        """Prepare; ``start()`` begins.

        Args:
            app: Its broker has the events.
            ledger: Compared with what events show.
            tasks: Celery's tasks by id, as Flower had stored them when it ended: it shows them so.
        """
        super().__init__(name="ledger-events", daemon=True)
        self.app, self.ledger = app, ledger
        self._guard = LoopGuard(logger, "events from the ledger", expected=(OperationalError,))
        self._shown: dict[str, tuple[str, str]] = {}
        """Download to the state and the worker that events have shown of it."""
        self._ended: dict[str, str] = {}
        """Download whose task has ended to its worker."""
        self._wrong: dict[str, str] = {}
        """Download to the state in which the ledger had it at the last comparison."""
        self._online = set[str]()
        """Workers that events show as online."""
        self._next_tick = self._began = 0.0
        self._stored: dict[str, tuple[str, str]] = {}
        """The same as ``_shown``, for what Flower had stored."""
        for identifier, task in tasks.items():
            worker = task.worker.hostname if task.worker else ""
            if task.state in SHOWN_BY.values():
                self._stored[identifier] = (task.state, worker)
            else:
                self._ended[identifier] = worker

    def run(self) -> None:
        """Compare until the process ends; a lost connection begins it anew."""
        while True:
            with self._guard, self.app.connection_for_read() as connection:
                self._began, self._next_tick = time.monotonic(), 0.0
                receiver = _Receiver(connection, handlers={"*": self.note}, app=self.app)
                receiver.on_tick = self._tick
                receiver.capture(limit=None, timeout=None, wakeup=False)
            time.sleep(TICK_S)

    def note(self, event: dict[str, Any]) -> None:
        """Note what an event shows of a download."""
        kind, identifier = event["type"], event.get("uuid")
        if kind not in {"task-sent", "worker-offline"}:
            self._online.add(str(event.get("hostname")))
        if not kind.startswith("task-") or identifier is None:
            return
        worker = "" if kind == "task-sent" else str(event.get("hostname", ""))
        # At the end again: those that were compared longest ago stand first.
        known = self._shown.pop(identifier, ("", ""))
        if kind not in SHOWN_BY:
            self._ended.pop(identifier, None)
            self._ended[identifier] = worker
            if len(self._ended) > MOST_ENDED:
                del self._ended[next(iter(self._ended))]
            return
        if kind == "task-retried":
            self._ended.pop(identifier, None)
        # Only a retry follows an end: Celery's state keeps it whatever else is sent
        # (celery.events.state, Task.event).
        state = ENDED if identifier in self._ended else SHOWN_BY[kind]
        self._shown[identifier] = (state, worker or known[1])

    def _tick(self) -> None:
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + TICK_S
        with self._guard:
            self.send(list(self.missing()))

    def missing(self) -> Iterator[dict[str, Any]]:
        """Yield the events of downloads that events show in another state than the ledger has."""
        if self._stored and time.monotonic() - self._began > BEGIN_S:
            # Not before: each correction is sent once, and Flower must listen.
            stored, self._stored = self._stored, {}
            left = stored.keys() - self._ended.keys()
            self._shown = {one: stored[one] for one in left} | self._shown
        ids = dict.fromkeys(itertools.islice(self._first(), CHECKED))
        order = sorted(self._shown, key=lambda one: self._shown[one][0] == "RETRY")
        ids |= dict.fromkeys(order[:CHECKED])
        wrong: dict[str, str] = {}
        fleet = self.ledger.dispatch.fleet()
        for identifier, record in zip(ids, self.ledger.reading.read(list(ids)), strict=True):
            state = str(record.state) if record is not None else "FORGOTTEN"
            ended = (ENDED, self._ended[identifier]) if identifier in self._ended else ("", "")
            shown, worker = self._shown.get(identifier, ended)
            if state not in SHOWN_BY.values() and shown in {"", ENDED}:
                self._shown.pop(identifier, None)
                continue
            if shown == state:
                continue
            wrong[identifier] = state
            # An event of a worker may be on its way: only what stays wrong is reported, and what
            # was forgotten, of which no worker has anything more to report.
            if record is None or self._wrong.get(identifier) == state or not shown:
                worker = (record.worker if record else None) or worker
                worker = worker or next((one.name for one in fleet), "")
                yield from corrections(identifier, shown, record, worker)
        self._wrong = wrong
        yield from self._silent()

    def _first(self) -> Iterator[str]:
        """Yield what is queued first in each open batch; at the start also what waits there."""
        is_start = time.monotonic() - self._began < BEGIN_S
        queued = list[str]()
        for account in self.ledger.dispatch.accounts():
            # Their messages are in the broker, so they are in no list of the ledger any more.
            queued += self.ledger.dispatch.sent(account, 0.0, QUEUED)
        for name in self.ledger.reading.batches()[:BATCHES]:
            status = self.ledger.reading.status(name)
            if status.unfinished:
                queued += self.ledger.admission.queued(name, status.account or "", QUEUED)
            if status.unfinished and is_start:
                waiting = self.ledger.reading.failed(name, state=State.RETRY)
                queued += itertools.islice(waiting, QUEUED)
        if is_start:
            for identifier in queued:
                # What ran before is not queued again in Celery's state without a retry.
                if self._shown.get(identifier, ("", ""))[0] in {"PENDING", "RETRY"}:
                    del self._shown[identifier]
        yield from queued

    def _silent(self) -> Iterator[dict[str, Any]]:
        """Yield the end of silent workers, and a new text for each of their downloads."""
        now = self.ledger.connection.server_time()
        running = self.ledger.reading.running()
        fleet = self.ledger.dispatch.fleet()
        silent = {
            one.name: one
            for one in silent_workers(Snapshot(now, [], running=running, workers=fleet))
        }
        for one in running:
            if one.worker in silent:
                text = silent_text(silent[one.worker], now)
                yield event_of("task-STARTED", one.download_id, one.worker, result=text)
        for name in self._online & silent.keys():
            self._online.remove(name)
            # Last: each event about a task counts as a heartbeat of its worker (State.event in
            # celery.events.state), and the last real one counted downloads that nothing runs now.
            yield Event("worker-offline", hostname=name, utcoffset=utcoffset(), pid=0, active=0)

    def send(self, events: list[dict[str, Any]]) -> None:
        """Send events in one message."""
        if not events:
            return
        with self.app.producer_or_acquire() as producer:
            dispatcher = self.app.events.Dispatcher(enabled=False)
            for event in events:
                # Flower may receive it before this thread has subscribed: kombu subscribes late.
                self.note(event)
                event["clock"] = self.app.clock.forward()
            # Celery's own way to send many: a list with one routing key.
            dispatcher._publish(events, producer, "task.multi")


class _Receiver(Receiver):
    """A receiver that calls ``on_tick`` about once a second, whether events come or not."""

    on_tick: Callable[[], None]

    def on_iteration(self) -> None:
        self.on_tick()


def corrections(
    identifier: str, shown: str, record: DownloadRecord | None, worker: str
) -> Iterator[dict[str, Any]]:
    """Yield the events that show a download as the ledger has it.

    Args:
        identifier: Its id.
        shown: The state that events have shown so far; empty for none.
        record: Its record; None when it was forgotten.
        worker: A worker of the fleet, empty where there is none: Celery's state would make a worker
            of any other name.
    """
    state = record.state if record is not None else State.REVOKED
    # PENDING comes before every other state, and every state before an end: Celery's state goes
    # back only after a retry.
    is_back = state is State.PENDING and shown not in {"", "PENDING", "RETRY"}
    if worker and (is_back or (shown == ENDED and state is State.STARTED)):
        yield event_of("task-retried", identifier, worker, record, exception="queued again")
    if state is State.PENDING:
        yield event_of("task-sent", identifier, CLIENT, record)
    elif not worker:
        return
    elif state is State.STARTED:
        yield event_of("task-started", identifier, worker, record)
    elif state is State.RETRY and record is not None:
        error = record.error.message if record.error else ""
        # The form in which a worker writes it, which Flower's row reads.
        waits = f"waits until {record.due_at}" if record.due_at else "waits for its turn"
        text = f"{record.reason}: {error}".rstrip(": ") + f" ({waits})"
        yield event_of("task-retried", identifier, worker, record, exception=text, traceback="")
    elif state is State.FAILURE and record is not None and record.error is not None:
        text = f"{record.error.type}: {record.error.message}"
        yield event_of("task-failed", identifier, worker, record, exception=text, traceback="")
    elif state is State.SUCCESS and record is not None:
        yield event_of("task-succeeded", identifier, worker, record, result=str(record.outcome))
    else:
        yield event_of(
            "task-revoked", identifier, worker, record, terminated=True, signum=None, expired=False
        )


def event_of(
    kind: str, identifier: str, worker: str, record: DownloadRecord | None = None, **fields: object
) -> dict[str, Any]:
    """Return one of Celery's events about a download."""
    known: dict[str, object] = {"uuid": identifier, "name": TASK, "args": "()"}
    if record is not None:
        name = record.path.rpartition("/")[2] or record.asset_key
        wakeup = Wakeup(identifier, record.item_id, name, record.size_bytes)
        known["kwargs"] = repr(readable(wakeup))
    event: dict[str, Any] = Event(
        kind, hostname=worker, utcoffset=utcoffset(), pid=os.getpid(), **known, **fields
    )
    return event
