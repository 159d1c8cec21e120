"""Whether a worker lives, as supervisors ask: ``python -m worker.health [NAME] [--live]``.

Ends with 0 when the worker of that name has been seen in the ledger within half a minute, with 1
when it has not. NAME is that of a worker started without ``--hostname`` on this host or in this
container, unless one is given. While Redis is away nobody can be seen: that is 1 too, but 0 with
``--live``, for a supervisor that would kill workers that only wait for Redis.
"""

from __future__ import annotations

import argparse
import socket
import sys
from typing import TYPE_CHECKING

from geodes_tasks.errors import GeodesTasksError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.dispatch import WORKER_SECONDS
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from collections.abc import Sequence


def usual_name() -> str:
    """Give the name that Celery gives a worker of this host."""
    return f"celery@{socket.gethostname()}"


def judge(ledger: Ledger, worker: str, *, live: bool = False) -> tuple[int, str]:
    """Give the exit code, and the line that says why."""
    try:
        seconds = ledger.dispatch.silence(worker)
    except LedgerUnavailableError as error:
        return (0 if live else 1), str(error)
    if seconds is None:
        return 1, f"{worker} is not in the ledger"
    code = 0 if seconds < WORKER_SECONDS else 1
    return code, f"{worker} was seen {max(seconds, 0.0):.0f} s ago"


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge one worker."""
    parser = argparse.ArgumentParser(prog="python -m worker.health")
    parser.add_argument("name", nargs="?", default=None, help="as in `geodes-tasks doctor`")
    parser.add_argument("--live", action="store_true", help="0 while Redis is away")
    asked = parser.parse_args(arguments)
    try:
        ledger = Ledger.of(config.load())
        code, line = judge(ledger, asked.name or usual_name(), live=asked.live)
    except GeodesTasksError as error:
        code, line = 1, str(error)
    sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
