"""The worker of one-machine mode: ``python -m worker.one_machine NAME SLOTS``.

What ``celery worker`` does, without the other commands of Celery and Flower, whose loading would
take a third of its start.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import NoReturn

from worker import app

WAIT_S = 0.1
"""Of the broker's client for a message; at the end it is waited for."""


def main(name: str, slots: str) -> NoReturn:
    """Work until told to stop."""
    app.conf.broker_transport_options |= {"polling_interval": WAIT_S}
    worker = app.Worker(
        hostname=name,
        pool="threads",
        concurrency=int(slots),
        loglevel="INFO",
    )
    worker.start()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    logging.shutdown()
    # All is told and given back. Taking the interpreter apart would cost a tenth of a second.
    os._exit(worker.exitcode or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
