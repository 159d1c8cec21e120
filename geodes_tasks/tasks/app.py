"""The Celery application: its settings, each with its reason."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.entity import Queue as BrokerQueue
from kombu.exceptions import BatchPublishError, OperationalError

from geodes_tasks.model.formatting import human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.ledger import Wakeup
    from geodes_tasks.settings.config import Settings

TASK = "geodes_tasks.download"
EVENTS = "geodes_tasks.tasks.task_events:Events"
QUEUE = "geodes"
PARENT_VARIABLE = "GEODES_TASKS_PARENT_PID"
"""Tells the worker of one-machine mode whose child it is."""
BROKER_KEYS = (QUEUE, "unacked", "unacked_index", "unacked_mutex")
"""Where the broker keeps messages in Redis, below the key prefix."""


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Give the settings that downloads need; measured, see docs/architecture.md."""
    url = settings.redis_url.get_secret_value()
    transport = {
        # The ledger knows which messages were sent and never claimed, and sends those again. The
        # broker's own copy of every message under way would cost two round trips a download, and
        # its time limit deliver again what is only slow.
        "ack_emulation": False,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        **({} if url.startswith("redis+socket") else {"socket_keepalive": True}),
        "global_keyprefix": settings.key_prefix,
        # The ledger knows priorities; the broker would look into four lists for each message.
        "priority_steps": [0],
    }
    return {
        "broker_url": url,
        "broker_transport_options": transport,
        # Redis restarts: workers come back by themselves, at start and later, for ever.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Rubbish in the queue ends no worker.
        "worker_consumer": "worker.guarded_consumer:GuardedConsumer",
        # A lost connection ends no download: the lease goes on and the record waits for Redis.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Results are the ledger's records; storing them a second time would only age.
        "result_backend": "geodes_tasks.tasks.backend:LedgerBackend",
        "result_backend_thread_safe": True,
        # Acknowledged at the end, so that prefetch 1 means exactly one message a slot: nothing
        # is hoarded by a busy worker while another is idle.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        # A killed pool process: the lease runs out and the ledger sends the download again,
        # bounded by the attempts. A redelivery beside it would have no bound.
        "task_reject_on_worker_lost": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_queues": [BrokerQueue(QUEUE)],
        "task_create_missing_queues": True,
        # Threads: as many bytes a second as processes with a tenth of the memory, and a clean
        # stop. Celery takes a pool set here for more than `--pool prefork`, so `make` looks.
        "worker_pool": "threads",
        "worker_concurrency": 16,
        # Flower: what is queued, what runs, what became of it.
        # Nobody looks at the private server of one-machine mode.
        "worker_send_task_events": is_seen(),
        "task_send_sent_event": is_seen(),
        "task_track_started": True,
        "task_store_errors_even_if_ignored": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def is_seen() -> bool:
    """Tell whether Flower can see this process: not the worker of one-machine mode."""
    return PARENT_VARIABLE not in os.environ


def make(settings: Settings) -> Celery:
    """Make the application of a worker; opens no connection."""
    prefork = asks_for_prefork(sys.argv)
    app = Celery(
        "geodes_tasks",
        set_as_current=False,
        include=["geodes_tasks.tasks.task"],
        # A pool's processes send news of their own, which must not overtake what is kept here.
        events=None if prefork else EVENTS,
    )
    app.conf.update(celery_settings(settings))
    if prefork:
        app.conf.worker_pool = "prefork"
    return app


def asks_for_prefork(arguments: Sequence[str]) -> bool:
    """Tell whether a command line says `--pool prefork`, in one of its spellings."""
    text = " ".join(arguments)
    return any(f"{flag}prefork" in text for flag in ("--pool ", "--pool=", "-P ", "-P"))


class Sender:
    """Sends wake-up messages; works in a client that has no worker and no result backend."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; opens no connection."""
        self.app = Celery("geodes_tasks.sender", set_as_current=False, events=EVENTS)
        # With a result backend every message costs a subscription, and a dead Redis 19 s.
        self.app.conf.update(celery_settings(settings) | {"result_backend": "disabled://"})

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Send one message a download. What is lost on the way, recovery sends again.

        Raises:
            kombu.exceptions.OperationalError: Redis does not answer, or refuses; its cause is the
                error of the client of Redis.
        """
        if not wakeups:
            return
        try:
            with self.app.producer_or_acquire() as producer, producer.batch(1000):
                told = [
                    self._send(producer, wakeup, is_first=not number)
                    for number, wakeup in enumerate(wakeups)
                ]
                if self.app.conf.task_send_sent_event:
                    self._dispatcher.tell("task-sent", told, producer)
        except BatchPublishError as error:
            raise OperationalError(str(error)) from error.__cause__

    def _send(self, producer: Any, wakeup: Wakeup, *, is_first: bool) -> dict[str, Any]:
        """Send one message; gives what Flower is to be told of it.

        Not by ``send_task``: that takes the task that runs here for the parent of the message,
        and declares the queue and tells Flower each time, which is two thirds of its cost.
        """
        arguments, amqp = readable(wakeup), self.app.amqp
        message = amqp.create_task_message(
            wakeup.download_id,
            TASK,
            (),
            arguments,
            ignore_result=True,
            argsrepr="()",
            kwargsrepr=repr(arguments),
            create_sent_event=True,
        )
        # The first one opens the connection, and finds out within a second that Redis is away.
        declared = (amqp.queues[QUEUE],) if is_first else ()
        amqp.send_task_message(
            producer,
            TASK,
            message._replace(sent_event=None),
            queue=QUEUE,
            declare=declared,
            retry=is_first,
        )
        return {**message.sent_event, "queue": QUEUE, "exchange": "", "routing_key": QUEUE}

    @cached_property
    def _dispatcher(self) -> Any:
        return self.app.events.Dispatcher(enabled=False)


def readable(wakeup: Wakeup) -> dict[str, str]:
    """Give the arguments of a message: for the eyes only, the task reads the ledger."""
    return {
        "item": wakeup.item_id,
        "file": wakeup.title,
        "size": human_bytes(wakeup.size_bytes),
    }
