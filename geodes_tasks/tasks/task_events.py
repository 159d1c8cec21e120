"""Celery's events for Flower, many in one message, and the row of one task.

One message an event would cost as much as a small file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import celery
from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import progress_text
from geodes_tasks.tasks.app import TASK
from geodes_tasks.tasks.leased_attempt import REDIS_AWAY, LeasedAttempt

logger = logging.getLogger(__name__)

PERIOD_S = 0.1
"""Time in seconds for which events are kept at most before they are sent together."""
MOST = 100
"""Events in one message, at most."""


class Dispatcher(EventDispatcher):  # type: ignore[misc] # celery has no types
    """Sends the events of a worker in batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; sends each event at once until ``buffer`` is called."""
        super().__init__(*args, **kwargs)
        self._timer: Any = None
        self._is_due = False

    def buffer(self, timer: Any) -> None:
        """Keep the events of tasks, and send them together after ``PERIOD_S``.

        Args:
            timer: Of Celery's worker.
        """
        self.buffer_group, self.buffer_limit = frozenset({"task"}), MOST
        self.on_send_buffered, self._timer = self._flush_later, timer
        self.app.events.worker = self

    def _flush_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._timer.call_after(PERIOD_S, self._flush_due)

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()

    def publish_many(self, kind: str, all_fields: Sequence[dict[str, Any]], producer: Any) -> None:
        """Send many events of one kind in one message, over a given producer."""
        events = [self._prepare_event(kind, fields) for fields in all_fields]
        with self.mutex:
            self._publish(events, producer, "task.multi")

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over the events that an earlier connection could not send."""
        super().extend_buffer(other)
        # Celery copies only the single events, not the groups.
        for group, events in other._group_buffer.items():
            self._group_buffer[group].extend(events)


class Events(CeleryEvents):  # type: ignore[misc] # celery has no types
    """The events of a worker whose tasks run in threads of its main process."""

    dispatcher_cls = "geodes_tasks.tasks.task_events:Dispatcher"
    worker: Dispatcher | None = None
    """The dispatcher that buffers events; None in a client."""

    @contextmanager
    def default_dispatcher(self, *args: Any, **kwargs: Any) -> Iterator[EventDispatcher]:
        """Yield a dispatcher that sends at once, after the buffered events.

        Flower applies events in the order in which they arrive.
        """
        if self.worker is not None:
            self.worker.flush()
        with super().default_dispatcher(*args, **kwargs) as dispatcher:
            yield dispatcher


@dataclass(frozen=True, slots=True)
class FlowerRow:
    """The row of one task in Flower; usable from any thread, unlike the task itself."""

    app: celery.Celery
    identifier: str
    worker: str
    kwargs: str
    """The task's arguments, in each event: a Flower that starts later has not received them."""

    @classmethod
    def of(cls, task: celery.Task) -> FlowerRow:
        """Return the row of the task that runs in this thread."""
        request = task.request
        return cls(task.app, str(request.id), str(request.hostname), repr(request.kwargs))

    def send(self, kind: str, **fields: object) -> None:
        """Send an event; one that cannot be sent is dropped, whatever the error."""
        if not self.app.conf.worker_send_task_events:
            return
        try:
            with self.app.events.default_dispatcher(hostname=self.worker) as dispatcher:
                known = {"uuid": self.identifier, "name": TASK, "kwargs": self.kwargs}
                dispatcher.send(kind, retry=False, **known, **fields)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            logger.debug("%s: event %s was not sent: %s", self.identifier, kind, error)

    def show_progress(self, attempt: LeasedAttempt) -> None:
        """Show bytes and speed of a running attempt."""
        size = attempt.claim.asset.size_bytes
        text = progress_text(attempt.done_bytes, size, attempt.bytes_per_second)
        # In capitals it is a kind of its own for Celery's state, and the state STARTED: filter and
        # buttons of Flower fit, and the time in its column Started does not move.
        self.send("task-STARTED", result=text)

    def show_outcome(self, ledger: Ledger) -> None:
        """Show for a duplicate how its download ended, not that it started."""
        with contextlib.suppress(*REDIS_AWAY):
            record = ledger.reading.record(self.identifier)
            if record is not None and record.outcome is not None:
                self.send("task-succeeded", result=str(record.outcome), runtime=0.0)
