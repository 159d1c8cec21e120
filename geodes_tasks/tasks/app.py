"""The Celery application: its settings, each with its reason."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.redis_address import sentinel_address
from geodes_tasks.settings.urls import masked
from geodes_tasks.transports.rate import rate_limit

if TYPE_CHECKING:
    # Celery takes as long to load as all of a command whose files are there, which sends nothing.
    from celery import Celery

    from geodes_tasks.ledger import Ledger, Wakeup

TASK = "geodes_tasks.download"
EVENTS = "geodes_tasks.tasks.task_events:Events"
QUEUE = "geodes"
PARENT_VARIABLE = "GEODES_TASKS_PARENT_PID"
"""Variable with the process id of the command that started the worker of one-machine mode."""
BROKER_KEYS = (QUEUE, "unacked", "unacked_index", "unacked_mutex")
"""Keys of the broker in Redis, below the key prefix."""


def celery_settings(settings: Config) -> dict[str, Any]:
    """Return Celery's settings for downloads; measured, see docs/architecture.md."""
    from kombu.entity import Queue as BrokerQueue

    url = str(settings.redis_url)
    transport = {
        # The ledger knows which messages were sent and never claimed, and sends those again. The
        # broker's own copy of every message under way would cost two round trips a download, and
        # its visibility timeout (an hour) would deliver again what is only slow.
        "ack_emulation": False,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        **({} if url.startswith("redis+socket") else {"socket_keepalive": True}),
        "global_keyprefix": settings.key_prefix,
        # The ledger knows priorities; with them the broker reads four lists for each message.
        "priority_steps": [0],
    }
    sentinel = sentinel_address(url)
    if sentinel is not None:
        transport |= {
            "master_name": sentinel.master_name,
            "sentinel_kwargs": sentinel.sentinel_options,
        }
    return {
        "broker_url": url if sentinel is None else sentinel.broker_url,
        "broker_use_ssl": (sentinel.tls_options if sentinel else None) or None,
        "broker_transport_options": transport,
        # Workers reconnect without limit, at start and later; Celery gives up after 100 tries.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # One message a free slot, without Celery's event loop; a malformed one ends no worker.
        "worker_consumer": "worker.message_consumer:MessageConsumer",
        "worker_timer": "worker.message_consumer:Timer",
        # A lost connection ends no download: the lease continues, the record waits for Redis.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Results are the ledger's records; a second copy in Celery's store would become stale.
        "result_backend": "geodes_tasks.tasks.backend:LedgerBackend",
        "result_backend_thread_safe": True,
        # Acknowledged at the end, so that prefetch 1 means exactly one message a slot: a busy
        # worker reserves no message while another worker is idle.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        # When a pool process is killed, its lease expires and the ledger sends the download again,
        # at most MAX_ATTEMPTS times. Celery's own redelivery has no limit.
        "task_reject_on_worker_lost": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_queues": [BrokerQueue(QUEUE)],
        "task_create_missing_queues": True,
        # Threads: as many bytes a second as processes with a tenth of the memory, and a clean
        # stop. A pool set here wins over `--pool prefork`, so `make` reads the command line.
        "worker_pool": "threads",
        "worker_concurrency": 16,
        # For Flower, which never watches the private server of one-machine mode.
        "worker_enable_remote_control": is_monitored(),
        "worker_send_task_events": is_monitored(),
        "task_send_sent_event": is_monitored(),
        "task_track_started": True,
        "task_store_errors_even_if_ignored": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def is_monitored() -> bool:
    """Return whether Flower can monitor this process: not the worker of one-machine mode."""
    return PARENT_VARIABLE not in os.environ


def make(settings: Config) -> Celery:
    """Build the application of a worker; opens no connection."""
    from celery import Celery
    from kombu import compression

    # kombu unpacks what a header names, 1.5 MB into gigabytes; no message of ours is compressed.
    for kind in compression.encoders():
        compression.register(None, _refuse_compressed, kind)
    # Before the pool is forked, so that its processes share one limit.
    rate_limit(settings.rate)
    prefork = has_prefork(sys.argv)
    app = Celery(
        "geodes_tasks",
        set_as_current=False,
        include=["geodes_tasks.tasks.task"],
        # The children of a pool send events themselves: buffered ones here would arrive after them.
        events=None if prefork else EVENTS,
    )
    app.conf.update(celery_settings(settings))
    if prefork:
        app.conf.worker_pool = "prefork"
    return app


def _refuse_compressed(body: bytes) -> bytes:
    raise ValueError(f"a compressed message of {len(body)} bytes")


def has_prefork(arguments: Sequence[str]) -> bool:
    """Return whether a command line chooses the prefork pool, in one of its spellings."""
    text = " ".join(arguments)
    names = ("prefork", "processes")
    flags = ("--pool ", "--pool=", "-P ", "-P")
    return any(f"{flag}{name}" in text for flag in flags for name in names)


class Sender:
    """Sends wake-up messages; works in a client that has no worker and no result backend."""

    def __init__(self, settings: Config) -> None:
        """Prepare; opens no connection."""
        self._settings = settings

    @cached_property
    def app(self) -> Celery:
        """The application that sends; it receives nothing."""
        from celery import Celery

        app = Celery("geodes_tasks.sender", set_as_current=False, events=EVENTS)
        # With a result backend every message costs a subscription, and a dead Redis 19 s.
        app.conf.update(celery_settings(self._settings) | {"result_backend": "disabled://"})
        return app

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Send one message a download; recovery sends a lost one again.

        Raises:
            OperationalError: kombu's: Redis does not answer, or refuses. Its cause is the error
                of the Redis client.
        """
        if not wakeups:
            return
        from kombu.exceptions import BatchPublishError, OperationalError

        try:
            with self.app.producer_or_acquire() as producer, producer.batch(1000):
                sent = [
                    self._send(producer, wakeup, is_first=not number)
                    for number, wakeup in enumerate(wakeups)
                ]
                if self.app.conf.task_send_sent_event:
                    self._dispatcher.publish_many("task-sent", sent, producer)
        except BatchPublishError as error:
            raise OperationalError(str(error)) from error.__cause__

    def wake(self, ledger: Ledger) -> None:
        """Send messages for the downloads that can start now, as a command does.

        Raises:
            LedgerError: Redis does not answer, or refuses; a worker sends them later.
        """
        # The first message loads kombu: a command whose files are all there sends none.
        if not (released := ledger.dispatch.release()):
            return
        from kombu.exceptions import OperationalError

        try:
            self.send(released)
        except OperationalError as error:
            # kombu raises this for a server that is away and for one that refuses: its cause tells.
            known = ledger.connection.failure(error.__cause__)
            url = masked(ledger.connection.url)
            raise known or LedgerUnavailableError(url, str(error)) from error

    def _send(self, producer: Any, wakeup: Wakeup, *, is_first: bool) -> dict[str, Any]:
        """Send one message; return its event for Flower."""
        # Not by send_task: it records the task that runs here as the parent of the message, and
        # declares the queue and sends an event each time, which is two thirds of its cost.
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
        # The first one opens the connection, and fails within a second if Redis is away.
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
    """Return the arguments of a message, for readers of Flower: the task reads the ledger."""
    return {
        "item": wakeup.item_id,
        "file": wakeup.title,
        "size": human_bytes(wakeup.size_bytes),
    }
