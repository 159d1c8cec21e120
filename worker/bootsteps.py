"""The boot step of a worker: look at the set-up, recover, stop gracefully."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from kombu.asynchronous import get_event_loop

from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import PARENT_VARIABLE, Sender
from geodes_tasks.tasks.task import STOP, on_disk_error
from worker import preflight
from worker.disk_gate import Intake, close_while
from worker.parent_watch import OrphanWatch
from worker.recovery import Recovery

if TYPE_CHECKING:
    from celery import Celery
    from celery.worker import WorkController
    from celery.worker.consumer import Consumer

    from worker.poller import Poller

logger = logging.getLogger(__name__)


def install(app: Celery) -> Celery:
    """Add the step to an application."""
    app.steps["worker"].add(DownloadsStep)
    app.steps["consumer"].add(MessagesStep)
    signals.worker_shutting_down.connect(_on_stop, weak=False)
    signals.after_setup_logger.connect(_say_once, weak=False)
    return app


def _say_once(loglevel: int, **_: object) -> None:
    """Leave out Celery's lines on each task that was taken and how it ended: ours say it.

    Of three lines a file one is left. With DEBUG all are there.
    """
    if loglevel > logging.DEBUG:
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(max(loglevel, logging.WARNING))


SILENT = {"without_gossip": True, "without_mingle": True}
"""Workers need not know of each other: the ledger says who works and what was revoked. With gossip
each hears every other one, and mingling makes the start a second longer."""


class DownloadsStep(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """What a worker that downloads needs beside Celery's own parts."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **kwargs: Any) -> None:
        """Prepare; the threads begin with ``start``."""
        super().__init__(parent, **kwargs)
        parent.options |= SILENT
        self.recovery: Recovery | None = None
        self.poller: Poller | None = None

    def start(self, parent: WorkController) -> None:
        """Begin, in threads of the worker's main process."""
        settings = config.load()
        preflight.refuse_pool(type(parent.pool).__module__)
        preflight.report(settings)
        ledger = Ledger.of(settings)
        intake = Intake(ledger, parent.app, parent.hostname)
        accounts = config.named_accounts(settings)
        self.recovery = Recovery(
            ledger, Sender(settings), parent.hostname, parent.concurrency, intake, accounts
        )
        on_disk_error(self.recovery.wake)
        self.recovery.start()
        # Here, not above: it brings the network libraries, which look around when imported.
        from worker.poller import Poller

        self.poller = Poller(settings, ledger, Sender(settings), parent.hostname)
        self.poller.start()
        if parent_pid := os.environ.get(PARENT_VARIABLE):
            OrphanWatch(int(parent_pid), ledger).start()

    def stop(self, parent: WorkController) -> None:  # noqa: ARG002 - celery's signature
        """End."""
        if self.recovery is not None:
            self.recovery.stop()
        if self.poller is not None:
            self.poller.stop()


class MessagesStep(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """Has the broker's client forget messages: the ledger sends again what was not claimed.

    It would put back those of downloads under way when a connection breaks, and write them to a
    file in the temporary folder when it cannot. Each connection is also when a worker can find
    that Redis lost the ledger.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Consumer) -> None:
        """Do so for a connection just made."""
        channel = parent.task_consumer.channel
        channel.do_restore = False
        close_while(channel.qos, lambda: STOP.is_cut_off)
        _wake_when_free(channel.qos)
        # The private server of one-machine mode has an address of its own in each run.
        if PARENT_VARIABLE not in os.environ:
            preflight.report_lost_ledger(config.load())


def _on_stop(sig: str, how: str, exitcode: int, **_: Any) -> None:  # noqa: ARG001
    """Let downloads end within the grace time, then have them given back."""
    grace_s = config.load().grace_seconds
    logger.info("%s: no new work; downloads under way have %g s to end", sig, grace_s)
    STOP.set(grace_s)
    # This runs in the middle of the loop's wait, which goes on for up to a second afterwards. Only
    # another thread can wake it.
    threading.Thread(target=_wake_loop, name="wake", daemon=True).start()


def _wake_when_free(window: Any) -> None:
    """Have the loop ask for the next message as soon as a busy worker has a slot free.

    It would notice at the next tick of a timer only, a tenth of a second later: much for a small
    file.
    """
    acknowledge = window.ack

    def ack(tag: str) -> None:
        was_full = not window.can_consume()
        acknowledge(tag)
        if was_full:
            _wake_loop()

    window.ack = ack


def _nothing() -> None:
    """Be something for the loop to wake up for."""


def _wake_loop() -> None:
    if (loop := get_event_loop()) is not None:
        loop.call_soon(_nothing)  # type: ignore[no-untyped-call] # kombu has no types
