"""Boot steps of a worker: preflight, recovery, graceful stop, intake."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals

from geodes_tasks import config
from geodes_tasks.app import QUEUE, Sender
from geodes_tasks.ledger import Ledger
from geodes_tasks.tasks import STOP, on_intake_closed
from worker import preflight
from worker.recovery import Recovery

if TYPE_CHECKING:
    from celery import Celery
    from celery.worker import WorkController

    from geodes_tasks.errors import DiskError

logger = logging.getLogger(__name__)


def install(app: Celery) -> Celery:
    """Add the steps to an application."""
    app.steps["worker"].add(RecoveryStep)
    signals.worker_shutting_down.connect(_on_stop, weak=False)
    return app


class RecoveryStep(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """Check the set-up once, then recover in a thread of the worker's main process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **kwargs: Any) -> None:  # noqa: ANN401, D417
        """Take the worker's name and slots."""
        super().__init__(parent, **kwargs)
        self.recovery: Recovery | None = None

    def start(self, parent: WorkController) -> None:
        """Begin."""
        settings = config.load()
        preflight.report(settings)
        STOP.clear()
        self.recovery = Recovery(
            Ledger.of(settings), Sender(settings), parent.hostname, parent.concurrency
        )
        self.recovery.start()
        intake = Intake(parent)
        on_intake_closed(intake.close)

    def stop(self, parent: WorkController) -> None:  # noqa: ARG002 - celery's signature
        """End."""
        if self.recovery is not None:
            self.recovery.stop()


def _on_stop(sig: str, how: str, exitcode: int, **_: Any) -> None:  # noqa: ANN401, ARG001
    """Let downloads end within the grace time, then have them given back."""
    grace_s = config.load().grace_seconds
    logger.info("%s: no new work; downloads under way have %g s to end", sig, grace_s)
    STOP.set(grace_s)


class Intake:
    """Whether this worker takes messages; closed while its disk takes no more."""

    CHECK_S = 15.0

    def __init__(self, worker: WorkController) -> None:
        """Take the worker."""
        self.worker = worker
        self._closed = threading.Event()

    def close(self, error: DiskError) -> None:
        """Take no more work until the folder can be written to again."""
        if self._closed.is_set():
            return
        self._closed.set()
        logger.error("this worker takes no more work: %s. %s", error, error.hint)
        self.worker.consumer.call_soon(self.worker.consumer.cancel_task_queue, QUEUE)
        threading.Thread(target=self._reopen, name="intake", args=(error,), daemon=True).start()

    def _reopen(self, error: DiskError) -> None:
        while not preflight.can_write(error.path):
            time.sleep(self.CHECK_S)
        logger.warning("%s can be written to again: this worker takes work", error.path)
        self._closed.clear()
        self.worker.consumer.call_soon(self.worker.consumer.add_task_queue, QUEUE)


