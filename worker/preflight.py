"""Checks of a worker at its start and at each connection: one line in the log a problem."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from celery.exceptions import ImproperlyConfigured
from celery.worker import WorkController
from celery.worker.control import Panel, nok, revoke

from geodes_tasks.errors import GeodesTasksError, LedgerSchemaError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.checks import Level, server_checks
from geodes_tasks.ledger.key_repair import remove_rubbish
from geodes_tasks.model.atomic_write import replacing
from geodes_tasks.settings.account_keys import loose_key_files
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.urls import masked
from geodes_tasks.tasks.app import QUEUE

logger = logging.getLogger(__name__)

KEPT_S = 90 * 86400.0
"""Age in seconds at which the stored id of a ledger is removed that no worker connects to."""


def refuse_options(worker: WorkController) -> None:
    """Refuse options of Celery with which downloads are lost or never start.

    Raises:
        ImproperlyConfigured: it names the option and what to use in its place.
    """
    pool = type(worker.pool).__module__.rpartition(".")[2]
    if pool in {"gevent", "eventlet"}:
        # A cold stop loses their tasks, a dead worker's messages never come back
        # (celery/celery#4976), and they were slower (measured).
        raise ImproperlyConfigured(f"--pool {pool} loses downloads: use threads or prefork")
    if worker.autoscale and pool != "prefork":
        # Celery's other pools have no method to grow (celery.concurrency.thread).
        raise ImproperlyConfigured(
            "--autoscale works with --pool prefork only: add --pool prefork, or "
            "use --concurrency, which costs nothing while nothing runs"
        )
    if QUEUE not in worker.app.amqp.queues.consume_from:
        raise ImproperlyConfigured(
            f"-Q must name {QUEUE}, the only queue with downloads: leave out -Q and -X, or add it"
        )


def replace_pool_buttons(worker: WorkController) -> None:
    """Replace the commands behind buttons of Flower that a pool of threads does not support.

    One sentence answers those that change its size, and *Terminate* revokes: recovery cancels what
    was revoked. Celery's own commands end with an error and a traceback in the log.
    """
    if hasattr(worker.pool, "grow"):
        return
    kind = type(worker.pool).__module__.rpartition(".")[2]
    text = (
        f"the {kind} pool has a fixed size: start the worker with another --concurrency, or set "
        "the limit of the account: geodes-tasks limit ACCOUNT N"
    )
    for command in ("pool_grow", "pool_shrink", "autoscale"):
        Panel.data[command] = lambda *_, **__: nok(text)
    for command in ("revoke", "terminate"):
        Panel.data[command] = lambda state, task_id, **_: revoke(state, task_id)


def report(settings: Config) -> None:
    """Log a warning for each setting that puts downloads at risk, and mend keys of another type.

    Raises:
        ImproperlyConfigured: the ledger has downloads that this version cannot work on.
        LedgerForbiddenError: Redis refuses the user, its password or a command.
    """
    for file in loose_key_files(settings):
        logger.warning("%s holds a key and others may read it: chmod 600 %s", file, file)
    ledger = Ledger.of(settings)
    try:
        ledger.connection.ping()
        for check in server_checks(ledger.connection):
            if check.level is not Level.OK:
                logger.warning("%s", check)
        # Of the broker's keys too: Celery does not start with one of another type.
        remove_rubbish(ledger.connection)
    except LedgerSchemaError as error:
        raise ImproperlyConfigured(f"{error}. {error.hint}") from error
    except LedgerUnavailableError as error:
        logger.warning("%s", error)


def report_lost_ledger(settings: Config) -> None:
    """Warn when the ledger is another one than at the last connection of a worker with this folder.

    Compares the id in Redis with the one in ``STATE_DIR`` and keeps the new one. A first start
    finds nothing to compare with and logs nothing. Nothing here stops the worker.
    """
    ledger = Ledger.of(settings)
    try:
        current = ledger.connection.ledger_id()
    except GeodesTasksError:
        # Of the connection: Redis is away, full or refuses. Logged elsewhere; the ids are compared
        # at the next connection.
        return
    finally:
        ledger.close()
    address = masked(str(settings.redis_url))
    # A digest: file names must not show host and user to others, and may not hold "/".
    digest = hashlib.sha256(f"{address} {settings.key_prefix}".encode()).hexdigest()[:16]
    file = settings.state_dir.expanduser() / "ledgers" / digest
    try:
        before = _remembered(file)
        _remember(file, current)
    except OSError as error:
        logger.info("%s: a loss of the ledger cannot be noticed here", error)
        return
    if before and before[0] != current:
        logger.warning(
            "the ledger at %s was emptied or replaced by another one: a worker here last connected "
            "to the old one at %s. Enqueue your items again: files that are complete are not "
            "downloaded twice. Why Redis loses a ledger, and how to get it back: docs/troubles.md",
            address, before[1],
        )  # fmt: skip


def _remembered(file: Path) -> tuple[str, str] | None:
    """Return the id and the time of the last connection; None when there was none."""
    try:
        words = file.read_text(errors="replace").split()
    except FileNotFoundError:
        return None
    return (words[0], words[1]) if len(words) == 2 else None


def _remember(file: Path, ledger_id: str) -> None:
    """Replace the file atomically, and remove those of ledgers that are not used any more."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with replacing(file) as stream:
        stream.write(f"{ledger_id} {datetime.now(UTC).isoformat(timespec='seconds')}\n")
    for other in file.parent.iterdir():
        # Another worker may remove it first.
        with contextlib.suppress(FileNotFoundError):
            if other.stat().st_mtime < time.time() - KEPT_S:
                other.unlink()
