"""Celery's events to Flower: many in one message, none later than a moment, none out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from geodes_tasks.tasks import task_events
from geodes_tasks.tasks.task_events import MOST, Dispatcher


class Loop:
    """Celery's loop as a test holds it: what is due is done when the test says so."""

    def __init__(self) -> None:
        """Begin with nothing due."""
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        """Do it at once."""
        callback(*args)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Note it."""
        self.due.append((delay_s, callback))


class Published:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        """Begin empty."""
        self.messages: list[tuple[str, list[str]]] = []

    def publish(self, event: Any, routing_key: str, **_: Any) -> None:
        """Take an event, or many."""
        many = event if isinstance(event, list) else [event]
        self.messages.append((routing_key, [f"{one['type']} {one['uuid']}" for one in many]))


@pytest.fixture
def app() -> Celery:
    """An application whose broker is in memory."""
    app = Celery("test", set_as_current=False, events="geodes_tasks.tasks.task_events:Events")
    app.conf.update(broker_url="memory://")
    return app


@pytest.fixture
def published() -> Published:
    """What has reached the broker."""
    return Published()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The loop of the worker."""
    loop = Loop()
    monkeypatch.setattr(task_events, "get_event_loop", lambda: loop)
    return loop


@pytest.fixture
def dispatcher(app: Celery, loop: Loop, published: Published) -> Dispatcher:
    """The worker's own dispatcher, as Celery makes it; it flushes at every event."""
    assert not loop.due
    made: Dispatcher = app.events.Dispatcher(
        app.connection_for_write(), buffer_group=["task"], on_send_buffered=lambda: made.flush()
    )
    made.producer = published
    return made


def test_what_comes_at_once_is_sent_together(
    dispatcher: Dispatcher, loop: Loop, published: Published
) -> None:
    """The first event goes at once, those after it a moment later in one message."""
    for name in ("a", "b", "c"):
        dispatcher.send("task-started", uuid=name)
    at_once = list(published.messages)
    ((delay_s, later),) = loop.due
    later()

    assert at_once == [("task.multi", ["task-started a"])]
    assert published.messages[1:] == [("task.multi", ["task-started b", "task-started c"])]
    assert 0.0 < delay_s <= task_events.PERIOD_S


def test_many_events_do_not_wait(dispatcher: Dispatcher, published: Published) -> None:
    """A message has a most of events, so that a busy worker keeps no heap of them."""
    for number in range(1 + MOST):
        dispatcher.send("task-started", uuid=str(number))

    assert [len(names) for _, names in published.messages] == [1, MOST]


def test_other_news_does_not_overtake(
    app: Celery, dispatcher: Dispatcher, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a download waits is told after that it has started: Flower keeps what comes last."""
    dispatcher.send("task-received", uuid="a")
    dispatcher.send("task-started", uuid="a")
    enable = Dispatcher.enable

    def enabled(self: Dispatcher) -> None:
        enable(self)
        self.producer = published

    monkeypatch.setattr(Dispatcher, "enable", enabled)

    with app.events.default_dispatcher() as other:
        other.send("task-retried", uuid="a")

    said = [name for _, names in published.messages for name in names]
    assert said == ["task-received a", "task-started a", "task-retried a"]


def test_what_an_earlier_connection_kept_is_taken_over(
    app: Celery, dispatcher: Dispatcher, published: Published
) -> None:
    """Redis restarts: what was not sent yet is sent over the new connection."""
    dispatcher.send("task-started", uuid="a")
    dispatcher.send("task-succeeded", uuid="a")
    following = app.events.Dispatcher(app.connection_for_write(), buffer_group=["task"])
    following.producer = published

    following.extend_buffer(dispatcher)
    following.flush()

    assert published.messages[-1] == ("task.multi", ["task-succeeded a"])
