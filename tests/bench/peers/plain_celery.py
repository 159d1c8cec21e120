"""The least that a Celery task can do to fetch a file: no ledger, no lease, no proof, no disk.

Its broker is named by ``PLAIN_BROKER``; everything else is as Celery has it by default.
"""

from __future__ import annotations

import os

import requests
from celery import Celery

app = Celery("plain", broker=os.environ["PLAIN_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,  # silences a warning; changes nothing else
    worker_enable_remote_control=False,
    task_ignore_result=True,
)


@app.task(name="plain.fetch")  # type: ignore[untyped-decorator]  # Celery has no types
def fetch(href: str) -> None:
    """Get one file into memory, and forget it."""
    requests.get(href, timeout=60).raise_for_status()


@app.task(name="plain.nothing")  # type: ignore[untyped-decorator]  # Celery has no types
def nothing(name: str) -> None:
    """Do nothing: what a message costs a worker of Celery."""


@app.task(name="plain.note")  # type: ignore[untyped-decorator]  # Celery has no types
def note(item: str, title: str, href: str, path: str, md5: str, size: int) -> None:
    """Take what a download needs to know; only ever sent, never run."""
