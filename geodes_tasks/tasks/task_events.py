"""Celery's events to Flower, many in one message: one each would cost as much as a small file."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from kombu.asynchronous import get_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PERIOD_S = 0.1
"""Events are kept so long at most, and sent together."""
MOST = 100
"""Events in one message."""


class Dispatcher(EventDispatcher):  # type: ignore[misc] # celery has no types
    """Sends a worker's events in strokes.

    Celery sends what it has at every turn of its loop, which is once or twice a task.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; the worker's own is the one that may keep events."""
        super().__init__(*args, **kwargs)
        self._sent_at, self._is_due = 0.0, False
        if self.buffer_group:
            self.buffer_limit = MOST
            self.app.events.worker = self

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what is there; a little later when something was sent a moment ago."""
        loop, now = get_event_loop(), time.monotonic()
        full = any(len(events) >= self.buffer_limit for events in self._group_buffer.values())
        if loop is None or full or now >= self._sent_at + PERIOD_S:
            self.flush_now(errors, groups)
        elif not self._is_due:
            self._is_due = True
            # Not call_later at once: only the loop's own thread may set its timers.
            loop.call_soon(loop.call_later, self._sent_at + PERIOD_S - now, self._flush_due)  # type: ignore[no-untyped-call] # kombu says none

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush_now()

    def tell(self, event: str, all_fields: Sequence[dict[str, Any]], producer: Any) -> None:
        """Send many events of one kind in one message, over somebody's producer."""
        events = [self._prepare_event(event, fields) for fields in all_fields]
        with self.mutex:
            self._publish(events, producer, "task.multi")

    def flush_now(self, errors: bool = True, groups: bool = True) -> None:
        """Send what is there. Safe in any thread."""
        self._sent_at = time.monotonic()
        super().flush(errors, groups)

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what an earlier connection could not send."""
        super().extend_buffer(other)
        for group, events in other._group_buffer.items():
            self._group_buffer[group].extend(events)


class Events(CeleryEvents):  # type: ignore[misc] # celery has no types
    """The events of a worker whose tasks run in threads of its main process."""

    dispatcher_cls = "geodes_tasks.tasks.task_events:Dispatcher"
    worker: Dispatcher | None = None
    """The one that keeps events; None in a client."""

    @contextmanager
    def default_dispatcher(self, *args: Any, **kwargs: Any) -> Iterator[EventDispatcher]:
        """Give a dispatcher that sends at once, after what is kept: Flower goes by the order."""
        if self.worker is not None:
            self.worker.flush_now()
        with super().default_dispatcher(*args, **kwargs) as dispatcher:
            yield dispatcher
