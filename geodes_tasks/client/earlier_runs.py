"""The batches of earlier one-machine runs: ended and forgotten while the new run works."""

from __future__ import annotations

import logging
import threading
import time

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""Seconds that a stop waits for the block under way; one takes some milliseconds."""
KEEP_DAYS = 30.0
"""Days for which the batches of earlier runs are kept, where the settings name no other number."""


class EarlierRuns(threading.Thread):
    """Clean up block by block, so that the first file of the new run does not wait for it.

    Stopped or killed, the next run continues. A download that the new run enqueues again is left
    alone, whichever of the two comes first: the scripts of the ledger see to that.
    """

    def __init__(self, ledger: Ledger, keep_days: float | None) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="earlier-runs", daemon=True)
        self._ledger, self._keep_days = ledger, keep_days or KEEP_DAYS
        self._stopped = threading.Event()

    def run(self) -> None:
        """End what earlier runs left unfinished, then forget those that are old."""
        try:
            left = True
            while left and not self._stopped.is_set():
                began = time.monotonic()
                left = self._ledger.control.end_left_overs()
                # At most half of the server's time: admission and the worker need the other half.
                self._stopped.wait(time.monotonic() - began)
            if not self._stopped.is_set():
                self._ledger.retention.forget_older(self._keep_days)
        except GeodesTasksError as error:
            logger.info("%s; the next run cleans up after earlier ones", error)
        except Exception:
            logger.exception("cleaning up after earlier runs failed; the next run continues")

    def stop(self) -> None:
        """Stop after the block under way."""
        self._stopped.set()
        self.join(STOP_S)
