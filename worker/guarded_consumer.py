"""A consumer that rubbish in the broker's queue does not end.

Celery drops messages of unknown tasks and of other content types by itself. What is less than a
message ends its worker: anybody who may write to the queue could stop a fleet, one line a worker.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery.worker.consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

RUBBISH = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What Celery and kombu raise where they take the form of a message for granted."""


class NoMessageError(ConnectionError):
    """What came over the connection is no message; Celery connects anew after such an error."""


class GuardedConsumer(Consumer):  # type: ignore[misc] # celery has no types
    """Takes messages, and throws away what is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Guard the loop that reads from the broker."""
        super().__init__(*args, **kwargs)
        read: Callable[..., Any] = self.loop  # type: ignore[has-type] # celery has no types
        self.loop = guarded_loop(read)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Guard what reads a message's headers and body."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                handle(message)
            except RUBBISH as error:
                # Without its text: it may quote the message.
                logger.warning(
                    "thrown away, for it is no message of ours: %s", type(error).__name__
                )
                message.reject_log_error(logger, self.connection_errors)

        return guarded


def guarded_loop(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Connect anew when something was read that is not even the envelope of a message.

    Redis has handed it out, so it is gone; downloads under way go on, as after any lost connection.
    """

    def guarded(*args: Any) -> Any:
        try:
            return loop(*args)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            logger.exception("something in the queue is no message; connecting anew")
            raise NoMessageError(type(error).__name__) from error

    return guarded
