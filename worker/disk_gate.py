"""The gate of a worker's messages: closed while its disk or its leases cannot be written."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from celery import Celery

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.tasks.app import QUEUE
from geodes_tasks.tasks.process import worker_process
from geodes_tasks.tasks.stop_signal import STOP
from geodes_tasks.transfer import disk

logger = logging.getLogger(__name__)

CHECK_S = 10.0
"""Time in seconds between two tries to write to a folder that could not be written to."""


class DiskGate:
    """Stops and restarts one worker's consumption of messages.

    The pool's processes record in the ledger which folder they cannot write to; the main process
    closes the gate, and opens it when a test file could be written.
    """

    def __init__(self, ledger: Ledger, app: Celery, worker: str) -> None:
        """Begin with an open gate."""
        self.ledger, self.app, self.worker = ledger, app, worker
        self.closed = False
        self._tried = 0.0

    @property
    def takes_none(self) -> bool:
        """Return whether the worker takes no new work now, for its disk or for its leases."""
        return self.closed or STOP.is_cut_off

    def update(self) -> None:
        """Close or open the gate, after the ledger's record and a test of the disk.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        folder = self.ledger.dispatch.closed_by(self.worker)
        if folder is None:
            return
        if not self.closed:
            # By remote control, as the main process is not the loop's thread: kombu's channels are
            # not safe to use from another one.
            self.app.control.cancel_consumer(QUEUE, destination=[self.worker])
            self.closed, self._tried = True, time.monotonic()
        elif time.monotonic() - self._tried >= CHECK_S:
            self._try_to_open(folder)

    def _try_to_open(self, folder: str) -> None:
        self._tried = time.monotonic()
        with contextlib.suppress(GeodesTasksError):
            disk.probe(worker_process().folders.checked(folder))
            self.ledger.dispatch.close(self.worker, None)
            self.app.control.add_consumer(QUEUE, destination=[self.worker])
            self.closed = False
            logger.warning("%s can be written to again: this worker takes work", folder)


def close_while(window: Any, is_closed: Callable[[], bool]) -> None:
    """Keep the broker's client from reading messages while a condition is true."""
    has_room = window.can_consume

    def can_consume() -> bool:
        return not is_closed() and bool(has_room())

    window.can_consume = can_consume
