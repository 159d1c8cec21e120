"""Celery's events to Flower: many in one message, none later than a moment, none out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from geodes_tasks.tasks import task_events
from geodes_tasks.tasks.task_events import MOST, Dispatcher


class Timer:
    """Timer of a worker, whose calls the test makes."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_after(self, seconds: float, call: Callable[[], None]) -> None:
        """Note a call."""
        self.due.append((seconds, call))


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
def timer() -> Timer:
    """The timer of the worker."""
    return Timer()


@pytest.fixture
def dispatcher(app: Celery, timer: Timer, published: Published) -> Dispatcher:
    """The worker's own dispatcher, as Celery makes it, told to keep events."""
    made: Dispatcher = app.events.Dispatcher(app.connection_for_write())
    made.buffer(timer)
    made.producer = published
    return made


def test_what_comes_at_once_is_sent_together(
    dispatcher: Dispatcher, timer: Timer, published: Published
) -> None:
    """All events of a moment are one message, and the next ones another."""
    for name in ("a", "b"):
        dispatcher.send("task-started", uuid=name)
    assert not published.messages
    ((seconds, later),) = timer.due
    later()
    dispatcher.send("task-started", uuid="c")
    timer.due[1][1]()

    assert [names for _, names in published.messages] == [
        ["task-started a", "task-started b"],
        ["task-started c"],
    ]
    assert 0.0 < seconds <= task_events.PERIOD_S


def test_many_events_do_not_wait(dispatcher: Dispatcher, published: Published) -> None:
    """A message has a most of events, so that a busy worker keeps no heap of them."""
    for number in range(MOST):
        dispatcher.send("task-started", uuid=str(number))

    assert [len(names) for _, names in published.messages] == [MOST]


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
    following = app.events.Dispatcher(app.connection_for_write())
    following.producer = published

    following.extend_buffer(dispatcher)
    following.flush()

    assert published.messages == [("task.multi", ["task-started a", "task-succeeded a"])]
