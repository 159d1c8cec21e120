"""The Celery application: settings that downloads rely on, and the messages."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from celery import Celery

from geodes_tasks.ledger import Wakeup
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import (
    PARENT_VARIABLE,
    QUEUE,
    TASK,
    Sender,
    celery_settings,
    make,
    readable,
)

WAKEUP = Wakeup("id-1", "URN:a:V1", "a.zip", 764_200_000)


@pytest.fixture
def sender() -> Sender:
    """A sender whose broker is in memory."""
    sender = Sender(config.load())
    memory = {"broker_url": "memory://", "broker_transport_options": {}}
    sender.app.conf.update(memory, broker_connection_retry=False)
    return sender


def received(app: Celery) -> list[Any]:
    """Take the messages out of the queue."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        return list(itertools.takewhile(bool, iter(lambda: channel.basic_get(QUEUE), None)))


def test_a_message_names_the_download_and_what_people_read(sender: Sender) -> None:
    """Task id is the download's; the arguments are item, file and size."""
    sender.send([WAKEUP, Wakeup("id-2", "URN:b", "b.zip", None)])

    first, second = received(sender.app)
    assert first.headers["id"] == "id-1"
    assert first.headers["task"] == TASK
    assert first.decode()[1] == {"item": "URN:a:V1", "file": "a.zip", "size": "764.2 MB"}
    assert second.decode()[1]["size"] == "unknown size"


def test_nothing_to_send_opens_no_connection() -> None:
    """An empty release costs nothing, wherever Redis is."""
    sender = Sender(config.load(redis_url="redis://redis.invalid:1/0"))

    sender.send([])

    assert sender.app.pool is not None


def test_messages_carry_no_secret(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker reads its own key; the message has neither key nor href."""
    monkeypatch.setenv("GEODES_API_KEY", "canary-0123456789")

    sender.send([WAKEUP])

    (message,) = received(sender.app)
    assert "canary" not in f"{message.body!r} {message.headers} {message.properties}"
    assert set(readable(WAKEUP)) == {"item", "file", "size"}


def test_one_message_a_slot() -> None:
    """Late acknowledgement with prefetch 1: no busy worker hoards what an idle one could do."""
    settings = celery_settings(config.load())

    assert settings["task_acks_late"] is True
    assert settings["worker_prefetch_multiplier"] == 1
    assert settings["task_reject_on_worker_lost"] is False


def test_a_restart_of_redis_is_outlasted() -> None:
    """Workers come back for ever, and an outage ends no download."""
    settings = celery_settings(config.load())

    assert settings["broker_connection_retry_on_startup"] is True
    assert settings["broker_connection_max_retries"] is None
    assert settings["worker_cancel_long_running_tasks_on_connection_loss"] is False


@pytest.mark.parametrize(
    ("url", "keepalive"), [("redis://h:1/0", True), ("redis+socket:///run/r.sock", False)]
)
def test_a_unix_socket_is_not_kept_alive(url: str, keepalive: bool) -> None:
    """TCP keep-alive is asked of TCP only; on a socket it is an error."""
    options = celery_settings(config.load(redis_url=url))["broker_transport_options"]

    assert options.get("socket_keepalive", False) is keepalive


def test_broker_and_ledger_share_one_prefix() -> None:
    """Several fleets may share one Redis."""
    settings = celery_settings(config.load(key_prefix="mine:"))

    assert settings["broker_transport_options"]["global_keyprefix"] == "mine:"


def test_only_json_is_taken() -> None:
    """No pickle comes in from Redis."""
    assert celery_settings(config.load())["accept_content"] == ["json"]


@pytest.mark.parametrize("alone", [False, True])
def test_only_who_can_be_seen_sends_events(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker of one-machine mode has a server that no Flower looks at."""
    if alone:
        monkeypatch.setenv(PARENT_VARIABLE, "1")
    settings = celery_settings(config.load())

    told = (settings["worker_send_task_events"], settings["task_send_sent_event"])
    assert told == (not alone, not alone)


def test_the_application_knows_its_task_and_keeps_to_itself() -> None:
    """Making it registers the task and does not become the default of other people's code."""
    app = make(config.load())
    app.loader.import_default_modules()

    assert TASK in app.tasks
    assert app.backend.__class__.__name__ == "LedgerBackend"
    assert Celery("other").tasks is not app.tasks
