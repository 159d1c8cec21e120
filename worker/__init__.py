"""The application of a worker node: ``celery -A worker worker``, ``celery -A worker flower``.

Importing it reads the settings and opens no connection.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from celery import signals

from geodes_tasks.errors import write_for_shell
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import make

# Logs and Flower's pages are for those who run the cluster, at a shell.
write_for_shell()
app = make(config.load())
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
