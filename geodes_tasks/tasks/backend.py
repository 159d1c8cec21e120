"""Celery's view of results: ``AsyncResult(id)`` reads the ledger's record."""

from __future__ import annotations

from typing import Any

from celery import states as celery_states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError

from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config


class LedgerBackend(BaseBackend):  # type: ignore[misc] # celery has no types
    """A result backend without a store of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare; opens no connection yet."""
        super().__init__(*args, **kwargs)
        url = self.app.conf.broker_url
        # The broker's form of an address of Sentinels lacks the name of the primary.
        is_sentinel = url.startswith("sentinel:")
        self.ledger = Ledger.of(config.load() if is_sentinel else config.load(redis_url=url))

    def store_result(self, task_id: str, result: Any, state: str, **__: Any) -> Any:  # noqa: ARG002 - fixed
        """Do nothing: the task has written the ledger's record."""
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        record = self.ledger.reading.record(task_id)
        if record is None:
            return {"status": celery_states.PENDING, "result": None}
        meta: dict[str, Any] = {
            "task_id": task_id,
            "status": str(record.state),
            "result": record.to_dict(),
            "traceback": None,
            "children": [],
        }
        if record.state in {State.FAILURE, State.RETRY, State.REVOKED}:
            meta["result"] = self.ledger.reading.error(task_id) or TaskRevokedError("cancelled")
        return meta

    def _forget(self, task_id: str) -> None:
        """Keep the record: it is the ledger's."""
