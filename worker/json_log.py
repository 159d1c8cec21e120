"""Logs as JSON, one object a line (``GEODES_TASKS_LOG_FORMAT=json``)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from celery import current_task

KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes that every record has; the others are the fields of the event."""


class JsonFormatter(logging.Formatter):
    """Write a record as one JSON object: time, level, logger, message, download, its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is a text in it."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # The id of a task is that of its download.
        if current_task:
            fields["download"] = current_task.request.id
        # Celery adds an object of its own to some records: only plain values are fields.
        own = {name: value for name, value in vars(record).items() if name not in KNOWN}
        fields |= {
            name: value for name, value in own.items() if isinstance(value, str | int | float)
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def use_json(logger: logging.Logger, **_: object) -> None:
    """Let every handler of a logger write JSON; a receiver of Celery's ``after_setup_logger``."""
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter())
