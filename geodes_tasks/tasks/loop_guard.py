"""Background loops that survive every exception, and log it once a minute at most."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from types import TracebackType

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger

LOG_S = 60.0
"""Time in seconds between two log lines about one kind of failure of one loop."""


_failures: Counter[str] = Counter()
"""Failures of this process's loops that are not in the ledger yet, by the work of the loop."""
_failures_lock = threading.Lock()


class LoopGuard:
    """Keep a background loop alive: a context manager around one turn of the loop.

    An exception that ends a thread is printed once, and the loop's work stops while the worker
    looks healthy. Here each exception of a turn is suppressed: the first of its class is logged at
    once, those that follow are counted, and their count is logged once a minute.
    """

    def __init__(
        self,
        logger: logging.Logger,
        work: str,
        *,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """Prepare.

        Args:
            logger: Of the loop's module.
            work: Name of what the loop does, for the log: ``recovery``.
            expected: Exceptions that are no defect, besides GeodesTasksError: no traceback.
        """
        self._logger, self._work = logger, work
        self._expected: tuple[type[Exception], ...] = (GeodesTasksError, *expected)
        self._logged: dict[type[Exception], float] = {}
        self._count: dict[type[Exception], int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Start a turn."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Suppress an Exception; let KeyboardInterrupt and SystemExit pass."""
        if isinstance(error, Exception):
            self.failed(error)
        return isinstance(error, Exception)

    def failed(self, error: Exception) -> None:
        """Log a failure, or count it if its class was logged within the last minute."""
        kind, now = type(error), time.monotonic()
        with _failures_lock:
            _failures[self._work] += 1
        with self._lock:
            count = self._count[kind] = self._count.get(kind, 0) + 1
            if now - self._logged.get(kind, -LOG_S) < LOG_S:
                return
            self._logged[kind], self._count[kind] = now, 0
        often = f" {count} times since the last report" if count > 1 else ""
        text = str(error) if isinstance(error, self._expected) else f"{kind.__name__}: {error}"
        self._logger.warning(
            "%s failed%s: %s. It is tried again until it succeeds",
            self._work,
            often,
            text,
            exc_info=None if isinstance(error, self._expected) else error,
        )


def publish_failures(ledger: Ledger) -> None:
    """Add the failures of this process's loops to the ledger's totals, for the metrics.

    Raises:
        LedgerUnavailableError: Redis does not answer; they are added the next time.
    """
    with _failures_lock:
        counts = Counter(_failures)
        _failures.clear()
    if not counts:
        return
    try:
        ledger.dispatch.count_loop_failures(counts)
    except Exception:
        with _failures_lock:
            _failures.update(counts)
        raise
