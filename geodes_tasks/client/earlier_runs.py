"""The downloads that earlier one-machine runs left unfinished: ended while the new run works."""

from __future__ import annotations

import logging
import threading
import time

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""Seconds that a stop waits for the block under way; one takes some milliseconds."""


class EarlierRuns(threading.Thread):
    """End them block by block, so that the first file of the new run does not wait for it.

    Stopped or killed, the next run continues. A download that the new run enqueues again is left
    alone, whichever of the two comes first: the scripts of the ledger see to that.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="earlier-runs", daemon=True)
        self._ledger, self._stopped = ledger, threading.Event()

    def run(self) -> None:
        """End block after block until none is left."""
        try:
            left = True
            while left and not self._stopped.is_set():
                began = time.monotonic()
                left = self._ledger.control.end_abandoned()
                # At most half of the server's time: admission and the worker need the other half.
                self._stopped.wait(time.monotonic() - began)
        except GeodesTasksError as error:
            logger.info("%s; the next run ends what earlier ones left", error)
        except Exception:
            logger.exception("ending the downloads of earlier runs failed; the next run continues")

    def stop(self) -> None:
        """Stop after the block under way."""
        self._stopped.set()
        self.join(STOP_S)
