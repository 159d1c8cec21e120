"""The gate of a worker's messages: closed while its disk or its leases cannot be written."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.tasks.app import QUEUE
from geodes_tasks.tasks.task import STOP, desk
from geodes_tasks.transfer import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from celery import Celery

    from geodes_tasks.ledger import Ledger

logger = logging.getLogger(__name__)

CHECK_S = 10.0
"""How often a folder that could not be written to is tried again."""


class Intake:
    """Closes and opens the intake of one worker.

    The pool's processes note in the ledger what they cannot write to; the main process acts.
    """

    def __init__(self, ledger: Ledger, app: Celery, worker: str) -> None:
        """Begin open."""
        self.ledger, self.app, self.worker = ledger, app, worker
        self.closed = False
        self._tried = 0.0

    @property
    def takes_none(self) -> bool:
        """Whether the worker takes no new work now, for its disk or for its leases."""
        return self.closed or STOP.is_cut_off

    def look(self) -> None:
        """Close or open as the ledger and the disk say.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        folder = self.ledger.dispatch.closed_by(self.worker)
        if folder is None:
            return
        if not self.closed:
            self._close()
        elif time.monotonic() - self._tried >= CHECK_S:
            self._try_to_open(folder)

    def _close(self) -> None:
        self.app.control.cancel_consumer(QUEUE, destination=[self.worker])
        self.closed, self._tried = True, time.monotonic()

    def _try_to_open(self, folder: str) -> None:
        self._tried = time.monotonic()
        with contextlib.suppress(GeodesTasksError):
            disk.probe(desk().roots.checked(folder))
            self.ledger.dispatch.close(self.worker, None)
            self.app.control.add_consumer(QUEUE, destination=[self.worker])
            self.closed = False
            logger.warning("%s can be written to again: this worker takes work", folder)


def close_while(window: Any, is_closed: Callable[[], bool]) -> None:
    """Have the broker's client ask for no message while a condition holds; needs no network."""
    has_room = window.can_consume

    def can_consume() -> bool:
        return not is_closed() and bool(has_room())

    window.can_consume = can_consume
