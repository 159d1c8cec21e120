"""Takes messages from the broker: one for each free slot, and drops malformed ones.

Celery's event loop serves every transport there is, and takes a fifth of a small file's time. In a
worker of threads the main thread waits for a message, and another one for commands of remote
control.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.bootsteps import RUN
from celery.utils import timer2
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from celery.worker.loops import asynloop
from kombu.transport.virtual import Message
from kombu.utils.json import loads

from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.tasks.stop_signal import STOP

logger = logging.getLogger(__name__)

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""Errors of Celery and kombu where they expect the form of a message without a check."""
WAIT_S = 1
"""Time in seconds that Redis waits for a message before it answers that there is none."""
REST_S = 0.2
"""Time in seconds between two looks at what nothing reports: new work is taken again, a command."""


class NoMessageError(ConnectionError):
    """The broker gave something that is no message, or no command; Celery connects again."""


def use_own_loop(sender: WorkController, **_: Any) -> None:
    """Have a worker of threads do without Celery's event loop: a receiver of ``worker_init``."""
    # The processes of a prefork pool need it: without, one that is killed while it waits for work
    # keeps the lock of their queue (billiard).
    if sender.app.conf.worker_pool == "threads":
        sender.use_eventloop = False


class Timer(timer2.Timer):  # type: ignore[misc] # celery has no types
    """Celery's timer thread, which waits for what changes where Celery's sleeps.

    The sleep, of up to a second, delays entries that come meanwhile, and a stop; where the system
    refuses it, Celery ends the whole worker (celery.utils.timer2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; the thread starts with the first entry."""
        super().__init__(*args, **kwargs)
        self._is_over = False
        self._changed = threading.Event()
        """Set when an entry has come, and at the end."""

    def _do_enter(self, *args: Any, **kwargs: Any) -> Any:
        entry = super()._do_enter(*args, **kwargs)
        self._changed.set()
        return entry

    def _next_entry(self) -> None:
        """Call what is due, or wait until something may be."""
        self._changed.clear()
        if (delay_s := super()._next_entry()) and not self._is_over:
            self._changed.wait(delay_s)

    def stop(self) -> None:
        """End the thread."""
        self._is_over = True
        self._changed.set()
        super().stop()


class MessageConsumer(Consumer):  # type: ignore[misc] # celery has no types
    """Consumes messages; a worker of threads in a loop of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; opens no connection."""
        self._ended = threading.Event()
        """Set when a task ends, and when the worker stops."""
        self._reading: Any = None
        """The connection on which Redis is asked for a message."""
        super().__init__(*args, **kwargs)
        self._refusals = LoopGuard(logger, "reading messages", expected=self.channel_errors)
        signals.worker_shutting_down.connect(self._wake)

    def loop(self, *args: Any) -> None:
        """Run until the worker stops: read a message for each free slot.

        Raises:
            ConnectionError: the broker is lost; Celery connects again and calls this anew.
        """
        if self.hub is not None:
            self._celerys_loop(*args)
            return
        handle = self.create_task_handler()
        self.on_ready()
        commands = _Commands(self.connection)
        # One machine has none, and its end would wait for the one that is read there.
        if self.app.conf.worker_enable_remote_control:
            commands.start()
        try:
            while self.blueprint.state == RUN:
                state.maybe_shutdown()
                self.perform_pending_operations()
                commands.check()
                if self._has_free_slot() and (text := self._take()) is not None:
                    handle(self._message(text))
        finally:
            commands.stop()

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Note that a task has ended: reading has removed its message, so no broker is told."""
        if self.hub is not None:
            return super().call_soon_ack(p, *args, **kwargs)
        self._ended.set()
        return p

    def _has_free_slot(self) -> bool:
        """Return whether one more download can start; wait a moment for it if none can."""
        self._ended.clear()
        is_free = len(state.reserved_requests) < self.pool.num_processes
        if is_free and not STOP.takes_none:
            return True
        self._ended.wait(REST_S)
        return False

    def _take(self) -> str | bytes | None:
        """Return the next message as Redis has it; None if none came in time."""
        client = self.connection.default_channel.client
        if client.connection is None:
            client.connection = client.connection_pool.get_connection()
        self._reading = client.connection
        queues = self.app.amqp.queues.consume_from
        command = ("BRPOP", *queues, WAIT_S)
        prefixed = getattr(client, "_prefix_args", None)
        try:
            client.connection.send_command(*(prefixed(command) if prefixed else command))
            answer = client.parse_response(client.connection, "BRPOP")
        except self.connection_errors:
            client.connection.disconnect()
            if STOP.deadline:  # closed by `_wake`
                return None
            raise
        except self.channel_errors as error:
            # The key is no list, or the primary is a replica by now: over a new connection again.
            client.connection.disconnect()
            self._refusals.failed(error)
            self._ended.wait(WAIT_S)
            return None
        return answer[1] if answer else None

    def _message(self, text: str | bytes) -> Any:
        """Return what was in the broker's list; None, which the handler drops, for no message."""
        try:
            message = Message(loads(text), self.connection.default_channel)  # type: ignore[no-untyped-call] # kombu has no types
        except MALFORMED:
            return None
        message.accept = self.task_consumer.accept  # JSON: nothing else is decoded
        return message

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return Celery's handler, guarded where it parses a message's headers and body."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                # kombu could not unpack it; Celery would keep it until its ETA, and take more.
                if message is not None and (message.errors or message.headers.get("eta")):
                    raise ValueError("compressed, or for later")
                handle(message)
            except MALFORMED as error:
                if is_task(message):
                    # The ledger sends the download again: no message is lost by dropping this one.
                    logger.exception("a message could not be handled; its download is sent again")
                else:
                    # Without the error's text: it may quote the message.
                    logger.warning("a malformed message was dropped: %s", type(error).__name__)
                if message is not None:
                    message.reject_log_error(logger, self.connection_errors)

        return guarded

    def _celerys_loop(self, *args: Any) -> None:
        """Run Celery's event loop.

        Raises:
            NoMessageError: the broker's list held something that is no message.
        """
        channel = self.task_consumer.channel
        # With do_restore kombu puts the messages of running downloads back into the queue when a
        # connection breaks, or pickles them into a temporary file when it cannot
        # (kombu.transport.virtual.QoS.restore_unacked_once).
        channel.do_restore = False
        has_room = channel.qos.can_consume
        channel.qos.can_consume = lambda: has_room() and not STOP.takes_none
        try:
            asynloop(*args)
        except MALFORMED as error:
            # Reading has removed it; downloads under way continue, as after any lost connection.
            logger.exception("the broker's connection gave something that is no message")
            raise NoMessageError(type(error).__name__) from error

    def _wake(self, **_: Any) -> None:
        """End the wait for a message or a slot: the worker stops."""
        # A signal handler runs within the wait, whose lock it may not take.
        threading.Thread(target=self._end_wait, name="wake", daemon=True).start()

    def _end_wait(self) -> None:
        self._ended.set()
        if self.hub is not None:
            self.hub.call_soon(int)  # any callback wakes Celery's loop; this one does nothing
        # Read only: PEP 475 restarts a wait after the handler of a signal.
        if (opened := getattr(self._reading, "_sock", None)) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RD)


class _Commands(threading.Thread):
    """Serves the commands of remote control that arrive over the consumer's connection."""

    def __init__(self, connection: Any) -> None:
        super().__init__(name="commands", daemon=True)
        self._connection = connection
        self._is_over = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._connection.drain_events(timeout=REST_S)
            except TimeoutError:
                continue
            except Exception as error:  # noqa: BLE001 - the consumer's loop raises it
                self._error = error
                return

    def check(self) -> None:
        """Check that the thread runs.

        Raises:
            NoMessageError: the connection is lost, or something that is no command arrived.
        """
        if self._error is not None:
            raise NoMessageError(type(self._error).__name__) from self._error

    def stop(self) -> None:
        """End the thread, before its connection is closed."""
        self._is_over.set()
        if self.is_alive():
            self.join()


def is_task(message: Any) -> bool:
    """Return whether a message has the form of our task, so that an error is the worker's."""
    try:
        arguments, named, embedded = message.payload
        headers = message.headers
        return (
            not headers.get("eta")
            and isinstance(headers["id"], str)
            and isinstance(headers["task"], str)
            and isinstance(arguments, list)
            and isinstance(named, dict)
            and isinstance(embedded, dict)
        )
    except Exception:  # noqa: BLE001 - decoding runs other people's code on other people's bytes
        return False
