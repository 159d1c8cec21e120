"""The worker of one-machine mode: ``python -m worker.alone NAME SLOTS``.

What ``celery worker`` does, without the other commands of Celery and Flower, whose loading would
take a third of its start.
"""

from __future__ import annotations

import sys

from worker import app


def main(name: str, slots: str) -> int:
    """Work until told to stop; gives the exit code."""
    worker = app.Worker(
        hostname=name,
        pool="threads",
        concurrency=int(slots),
        loglevel="INFO",
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
