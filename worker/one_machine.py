"""The worker of one-machine mode: ``python -m worker.one_machine NAME SLOTS``.

It starts what ``celery worker`` starts, without loading the other commands of Celery and Flower,
which is a third of its start.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import NoReturn

from geodes_tasks.tasks import outcome
from geodes_tasks.tasks.process import worker_process
from worker import app

WAIT_S = 0.1
"""Time in seconds of one BRPOP of the broker's client, at most; a stop waits for it."""


def main(name: str, slots: str) -> NoReturn:
    """Run the worker until a signal stops it, then exit."""
    app.conf.broker_transport_options |= {"polling_interval": WAIT_S}
    worker = app.Worker(
        hostname=name,
        pool="threads",
        concurrency=int(slots),
        loglevel="INFO",
    )
    # What came is in the ledger and at the terminal: two lines a file are a twentieth of its time.
    logging.getLogger(outcome.__name__).setLevel(logging.WARNING)
    worker.start()
    # The parent watch cleans up in a thread that is no daemon; see worker.parent_watch.
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    worker_process().hooks.join()
    logging.shutdown()
    # Everything is recorded and requeued. Finalizing the interpreter would take 0.1 s.
    os._exit(worker.exitcode or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
