"""A consumer that survives malformed messages in the broker's queue.

Celery drops messages of unknown tasks and of other content types by itself. A message without
headers or with an unreadable envelope ends its worker: everyone who can write to the queue could
stop a fleet, one line a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""Errors of Celery and kombu where they expect the form of a message without a check."""


class NoMessageError(ConnectionError):
    """The connection delivered no message. Celery reconnects after a ConnectionError."""


class GuardedConsumer(Consumer):  # type: ignore[misc] # celery has no types
    """Consumes messages, and rejects malformed ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Guard the loop that reads from the broker."""
        super().__init__(*args, **kwargs)
        read: Callable[..., Any] = self.loop  # type: ignore[has-type] # celery has no types
        self.loop = guarded_loop(read)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return Celery's handler, guarded where it parses a message's headers and body."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                handle(message)
            except MALFORMED as error:
                if is_task(message):
                    # The ledger sends the download again: no message is lost by dropping this one.
                    logger.exception("a message could not be handled; its download is sent again")
                else:
                    # Without the error's text: it may quote the message.
                    logger.warning("a malformed message was dropped: %s", type(error).__name__)
                message.reject_log_error(logger, self.connection_errors)

        return guarded


def is_task(message: Any) -> bool:
    """Return whether a message has the form of a task, so that an error with it is the worker's."""
    try:
        arguments, named, embedded = message.payload
        headers = message.headers
        return (
            isinstance(headers["id"], str)
            and isinstance(headers["task"], str)
            and isinstance(arguments, list)
            and isinstance(named, dict)
            and isinstance(embedded, dict)
        )
    except Exception:  # noqa: BLE001 - decoding runs other people's code on other people's bytes
        return False


def guarded_loop(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return the loop with every error of a malformed envelope raised as ``NoMessageError``."""

    def guarded(*args: Any) -> Any:
        try:
            return loop(*args)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            # BRPOP has removed it from the queue; downloads under way continue meanwhile, as after
            # any lost connection.
            logger.exception("the broker's connection gave something that is no message")
            raise NoMessageError(type(error).__name__) from error

    return guarded
