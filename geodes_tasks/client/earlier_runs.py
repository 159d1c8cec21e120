"""The batches of earlier one-machine runs: ended and forgotten while the new run works."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""Seconds that a stop waits for the block under way; one takes some milliseconds."""
KEEP_DAYS = 30.0
"""Days for which the batches of earlier runs are kept, where the settings name no other number."""


@contextlib.contextmanager
def cleaned_up(ledger: Ledger, keep_days: float | None) -> Iterator[None]:
    """Clean up block by block meanwhile, so that the first file of the new run does not wait.

    Stopped or killed, the next run continues. A download that the new run enqueues again is left
    alone, whichever of the two comes first: the scripts of the ledger see to that.
    """
    stopped = threading.Event()
    arguments = ledger, keep_days or KEEP_DAYS, stopped
    thread = threading.Thread(target=_clean_up, args=arguments, name="earlier-runs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(STOP_S)


def _clean_up(ledger: Ledger, keep_days: float, stopped: threading.Event) -> None:
    """End what earlier runs left unfinished, then forget those that are old."""
    try:
        left = True
        while left and not stopped.is_set():
            began = time.monotonic()
            left = ledger.control.end_left_overs()
            # At most half of the server's time: admission and the worker need the other half.
            stopped.wait(time.monotonic() - began)
        if not stopped.is_set():
            ledger.retention.forget_older(keep_days)
    except GeodesTasksError as error:
        logger.info("%s; the next run cleans up after earlier ones", error)
    except Exception:
        logger.exception("cleaning up after earlier runs failed; the next run continues")
