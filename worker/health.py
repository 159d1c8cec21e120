"""The health check of a worker for supervisors: ``python -m worker.health [NAME] [--live]``.

Exits with 0 if the worker of that name has renewed its record in the ledger within half a minute,
else with 1. Without NAME it is the worker started without ``--hostname`` on this host or in this
container. While Redis does not answer or accepts no writes, the exit code is 1 too, but 0 with
``--live``: a liveness probe must not kill workers that only wait for Redis.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

from geodes_tasks.errors import GeodesTasksError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.dead_workers import WORKER_SECONDS
from geodes_tasks.settings import config


def usual_name() -> str:
    """Return the name that Celery gives a worker of this host."""
    return f"celery@{socket.gethostname()}"


def judge(ledger: Ledger, worker: str, *, live: bool = False) -> tuple[int, str]:
    """Return the exit code, and a line with the reason."""
    try:
        seconds = ledger.dispatch.silence(worker)
        if live and (seconds is None or seconds >= WORKER_SECONDS):
            # While Redis is full, no worker can renew its record.
            ledger.connection.check_writes()
    except LedgerUnavailableError as error:
        return (0 if live else 1), str(error)
    if seconds is None:
        return 1, f"{worker} is not in the ledger"
    code = 0 if seconds < WORKER_SECONDS else 1
    return code, f"{worker} was seen {max(seconds, 0.0):.0f} s ago"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check one worker; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.health")
    parser.add_argument("name", nargs="?", default=None, help="as in `geodes-tasks doctor`")
    parser.add_argument("--live", action="store_true", help="0 while Redis is away")
    options = parser.parse_args(arguments)
    try:
        ledger = Ledger.of(config.load())
        code, line = judge(ledger, options.name or usual_name(), live=options.live)
    except GeodesTasksError as error:
        code, line = 1, str(error)
    sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
