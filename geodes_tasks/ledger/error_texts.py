"""Errors as the JSON texts in which the ledger keeps them."""

from __future__ import annotations

import json
from typing import Any

from geodes_tasks import errors
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger.figures import UNREADABLE
from geodes_tasks.model.results import ErrorInfo


def info_json(info: ErrorInfo) -> str:
    """Return the JSON text in which the ledger keeps an error."""
    return json.dumps({"type": info.type, "message": info.message, "hint": info.hint})


def error_json(error: BaseException) -> str:
    """Return the JSON text of an error, with the values to build it again."""
    info = ErrorInfo.of(error)
    form: dict[str, Any] = {"type": info.type, "message": info.message, "hint": "", "values": []}
    # Only our own errors are raised again from their values; a foreign one may hold a socket.
    if isinstance(error, GeodesTasksError):
        form |= {"hint": error.remedy, "values": list(error.args)}
    return json.dumps(form, default=str)


def built_again(text: str) -> Exception:
    """Build the error of a JSON text: of its own class where that and its values are known."""
    try:
        form = json.loads(text)
        kind: type[Exception] | None = getattr(errors, form["type"], None)
        if kind is None or not form.get("values"):
            return GeodesTasksError(f"{form['type']}: {form['message']}")
        return kind(*form["values"])
    except UNREADABLE:
        return GeodesTasksError("the error in the record is damaged")
