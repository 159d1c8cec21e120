"""The application of a worker node: ``celery -A worker worker``, ``celery -A worker flower``.

Importing it reads the settings and opens no connection.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import signals

from geodes_tasks.errors import ConfigError, write_for_shell
from geodes_tasks.settings import config
from geodes_tasks.settings.cluster import require_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.app import make


def _settings() -> Config:
    """Load the settings; a command of Celery ends with one line where they are wrong."""
    program, words = Path(sys.argv[0]), {*sys.argv[1:]}
    is_celery = "celery" in {program.name, program.parent.name}
    try:
        settings = config.load()
        if is_celery and words & {"worker", "flower"}:
            require_cluster(settings, "celery -A worker")
    except ConfigError as error:
        if not is_celery:
            raise
        from geodes_tasks.monitoring.wording import end_with

        end_with(error)
    return settings


# Logs and Flower's pages are for those who run the cluster, at a shell.
write_for_shell()
app = make(_settings())
app.set_default()


def _install(**_: object) -> None:
    from worker.bootsteps import install

    install(app)


# With the worker itself: `celery -A worker flower` and `inspect` do without its steps.
signals.celeryd_init.connect(_install)


def _send_ledger_events(tasks: Mapping[str, Any]) -> None:
    from geodes_tasks.ledger import Ledger
    from geodes_tasks.tasks.ledger_events import LedgerEvents

    LedgerEvents(app, Ledger.of(config.load()), tasks).start()


if "flower" in sys.argv[1:]:
    # Loaded here: a worker does without, and starts sooner.
    from geodes_tasks.monitoring import flower
    from geodes_tasks.tasks.event_receiver import Receiver

    flower.configure(Receiver, on_ready=_send_ledger_events)
