"""The boot steps of a worker: check the set-up, recover, poll, stop gracefully."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, bootsteps, platforms, signals
from celery.apps.worker import install_worker_term_handler
from celery.exceptions import ImproperlyConfigured, WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.monitoring.printable_log import escape_codes
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_accounts
from geodes_tasks.tasks.app import PARENT_VARIABLE, Sender
from geodes_tasks.tasks.stop_signal import STOP, restart_if_asked
from geodes_tasks.tasks.task_events import Dispatcher
from geodes_tasks.transfer import disk
from worker import preflight
from worker.json_log import use_json
from worker.message_consumer import use_own_loop
from worker.parent_watch import ParentWatch
from worker.recovery import Recovery

logger = logging.getLogger(__name__)

_HANGUP = signal.getsignal(signal.SIGHUP)
"""Reaction to SIGHUP with which this process was started, before Celery has its own."""


def install(app: Celery) -> None:
    """Add the steps to an application."""
    app.steps["worker"].add(DownloadsStep)
    app.steps["consumer"].add(MessagesStep)
    signals.worker_init.connect(use_own_loop, weak=False)
    signals.worker_shutting_down.connect(_on_stop, weak=False)
    signals.worker_process_init.connect(_leave_the_stop_to_the_parent, weak=False)
    signals.after_setup_logger.connect(_quiet_celery, weak=False)
    if config.load().log_format == "json":
        signals.after_setup_logger.connect(use_json, weak=False)
    signals.after_setup_logger.connect(escape_codes, weak=False)


def _quiet_celery(loglevel: int, **_: object) -> None:
    """Leave out Celery's two lines on each task, which repeat ours; DEBUG shows all three."""
    if loglevel > logging.DEBUG:
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(max(loglevel, logging.WARNING))


SILENT = {"without_gossip": True, "without_mingle": True}
"""Options of Celery that are off: the ledger knows which workers live and what was revoked.

With gossip each worker receives the events of every other one; mingle makes the start a second
longer."""


BROKER_SHOWN = ("transport", "hostname", "port", "virtual_host", "userid")
"""Parts of the broker's address that everyone may see who may ask a worker."""


class DownloadsStep(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """Recovery, pollers and, on one machine, the watch of the parent process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **kwargs: Any) -> None:
        """Prepare; the threads start with ``start``."""
        super().__init__(parent, **kwargs)
        parent.options |= SILENT
        self.threads: list[Any] = []
        """Threads with a ``stop`` method."""
        # Before processes are forked: each knows then what was mounted.
        for folder in config.load().allowed_folders:
            disk.check_mounted(os.path.realpath(folder))

    def start(self, parent: WorkController) -> None:
        """Start the threads, in the worker's main process.

        Raises:
            WorkerShutdown: an option, the pool or the ledger cannot be used; the log says why.
        """
        settings = config.load()
        _replace_signal_handlers(parent)
        try:
            preflight.refuse_options(parent)
            preflight.replace_pool_buttons(parent)
            preflight.report(settings)
        except (ImproperlyConfigured, GeodesTasksError) as error:
            hint = getattr(error, "hint", "")
            logger.critical("this worker ends: %s%s", error, f". {hint}" if hint else "")
            raise WorkerShutdown(2) from error
        ledger = Ledger.of(settings)
        accounts = named_accounts(settings)
        folders = settings.allowed_folders
        logger.info("this worker writes below %s", " and ".join(map(str, folders)))
        recovery = Recovery(
            ledger, Sender(settings), parent.hostname, parent.concurrency, accounts, folders
        )
        # Here, not above: they load requests, which `celery -A worker flower` does not need.
        from worker.offline_poller import OfflinePoller
        from worker.quota_poller import QuotaPoller

        self.threads = [
            recovery,
            OfflinePoller(settings, ledger, Sender(settings), parent.hostname),
            QuotaPoller(settings, ledger, Sender(settings), parent.hostname),
        ]
        for thread in self.threads:
            thread.start()
        if parent_pid := os.environ.get(PARENT_VARIABLE):
            ParentWatch(int(parent_pid), ledger).start()

    def stop(self, parent: WorkController) -> None:  # noqa: ARG002 - celery's signature
        """Stop the threads."""
        for thread in self.threads:
            thread.stop()


class MessagesStep(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """Looks after each new connection to the broker.

    Events are sent together; and now a worker can find that Redis lost the ledger.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def info(self, parent: Consumer) -> dict[str, Any]:
        """Return what ``celery inspect stats`` and Flower show of the broker.

        It replaces the answer of Celery's own step, which has the transport's options: the password
        of Sentinels is one of them.
        """
        known = parent.connection.info() if parent.connection else {}
        return {"broker": {name: known.get(name) for name in BROKER_SHOWN}}

    def start(self, parent: Consumer) -> None:
        """Keep events to send them together, and compare the ledger's id."""
        if isinstance(parent.event_dispatcher, Dispatcher):
            parent.event_dispatcher.buffer(parent.timer)
        # The private server of one-machine mode has an address of its own in each run.
        if PARENT_VARIABLE not in os.environ:
            preflight.report_lost_ledger(config.load())


def _replace_signal_handlers(worker: WorkController) -> None:
    """Have SIGQUIT and a second SIGINT requeue at once, and SIGHUP start the worker again.

    Celery's cold shutdown fails with a pool of threads and waits for its downloads without end
    (celery.apps.worker.on_cold_shutdown); after SIGHUP it waits too, and cannot start again what
    `geodes-tasks` started. It replaces its handlers before the first step starts.
    """
    handle = partial(install_worker_term_handler, worker, how="Warm", callback=None)
    for name in ("SIGTERM", "SIGQUIT"):
        handle(sig=name, exitcode=0)
    signals.worker_shutting_down.connect(partial(_handle_next, handle), weak=False)
    if _HANGUP is signal.SIG_IGN:  # nohup(1)
        platforms.signals.ignore("SIGHUP")
        return
    # Not where the terminal is closed, or on one machine: there the worker ends with its command.
    has_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    is_service = not has_terminal and PARENT_VARIABLE not in os.environ
    callback = _start_again if is_service else None
    # Nothing is printed: the terminal is gone.
    handle(sig="SIGHUP", callback=callback, exitcode=0, verbose=False)


def _handle_next(handle: Callable[..., None], sig: str, **_: Any) -> None:
    """Replace the handler of a second Ctrl-C, which Celery installs at the first one."""
    if sig == "SIGINT":
        handle(sig=sig, exitcode=1)


def _start_again(worker: WorkController) -> None:  # noqa: ARG001 - celery's signature
    """Replace this process, at its end, by one with the same command line."""
    STOP.is_restart = not STOP.deadline  # unless it was told to end
    atexit.register(restart_if_asked)


def _leave_the_stop_to_the_parent(**_: object) -> None:
    """Ignore, in a process of a pool, what comes to the whole group: it would die at once."""
    platforms.signals.ignore("SIGHUP", "SIGQUIT")


def _on_stop(sig: str, how: str, exitcode: int, **_: Any) -> None:  # noqa: ARG001
    """Set the deadline of the downloads under way."""
    is_urgent = sig == "SIGQUIT" or (sig == "SIGINT" and STOP.deadline)
    STOP.is_restart &= sig == "SIGHUP"
    grace_s = 0.0 if is_urgent else config.load().grace_seconds
    logger.info("%s: no new work; downloads under way have %g s to end", sig, grace_s)
    STOP.set(grace_s)
