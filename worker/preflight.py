"""What a worker looks at before it begins, and says in one line each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured

from geodes_tasks.config import loose_key_files
from geodes_tasks.errors import LedgerForbiddenError, LedgerUnavailableError
from geodes_tasks.ledger import Ledger

if TYPE_CHECKING:
    from geodes_tasks.config import Settings

logger = logging.getLogger(__name__)


def refuse_pool(module: str) -> None:
    """Refuse a pool that loses downloads.

    Raises:
        ImproperlyConfigured: gevent or eventlet: a cold stop loses their tasks, a dead worker's
            messages never come back (celery/celery#4976), and they were slower (measured).
    """
    name = module.rpartition(".")[2]
    if name in {"gevent", "eventlet"}:
        raise ImproperlyConfigured(f"--pool {name} loses downloads: use threads or prefork")


def report(settings: Settings) -> None:
    """Warn about what puts downloads at risk. Nothing here stops the worker."""
    for file in loose_key_files(settings):
        logger.warning("%s holds a key and others may read it: chmod 600 %s", file, file)
    ledger = Ledger.of(settings)
    try:
        ledger.ping()
        for warning in redis_warnings(ledger):
            logger.warning("%s", warning)
    except LedgerUnavailableError as error:
        logger.warning("%s", error)


def redis_warnings(ledger: Ledger) -> list[str]:
    """Tell what of the server's configuration can lose downloads; empty when nothing does."""
    try:
        with ledger.available():
            persistence = ledger.client.info("persistence")
            memory = ledger.client.info("memory")
    except LedgerForbiddenError:
        return ["this Redis user may not read INFO: persistence and eviction are not checked"]
    warnings = []
    if not int(persistence.get("aof_enabled", 0)):
        warnings.append(
            "Redis keeps no append-only file: if it dies, the queue and the records since its "
            "last snapshot are lost. Set `appendonly yes`."
        )
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"Redis may throw records away when its memory is full (maxmemory-policy {policy}). "
            "Set `maxmemory-policy noeviction`."
        )
    return warnings
