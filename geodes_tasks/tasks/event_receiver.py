"""Receiver of Celery's events that drops what no worker sends.

Every user of Redis who may publish can send events. Celery's receiver and Flower keep whatever
comes, so one event with a text for a number breaks pages and the API until Flower is restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.events.receiver import EventReceiver

MOST_CHARACTERS = 64 * 1024
"""Characters of a text in an event, at most; Celery cuts arguments and results at 1,024."""
MOST_NUMBER = 1e15
"""Number in an event, at most: a later time has no date, and a larger counter no column."""
EARLIEST_S, LATEST_S = 0.0, 253_402_214_400.0
"""Seconds since 1970 of the first and the last time that has a date."""
LOADS = 3
"""Number of load averages of a worker, at most (getloadavg(3))."""


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -MOST_NUMBER <= value <= MOST_NUMBER


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and EARLIEST_S <= value <= LATEST_S


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_load(value: object) -> bool:
    return isinstance(value, list) and len(value) <= LOADS and all(map(_is_number, value))


# Source: https://docs.celeryq.dev/en/stable/userguide/monitoring.html#event-reference
_VALUES: dict[str, Callable[[object], bool]] = {
    "type": _is_text, "hostname": _is_text, "timestamp": _is_time, "local_received": _is_time,
    "loadavg": _is_load,
    **dict.fromkeys(
        ("active", "clock", "freq", "pid", "processed", "retries", "runtime", "utcoffset"),
        _is_number,
    ),
}  # fmt: skip
_TEXTS = (
    "args", "eta", "exception", "exchange", "expires", "kwargs", "name", "parent_id", "queue",
    "result", "root_id", "routing_key", "signum", "sw_ident", "sw_sys", "sw_ver", "traceback",
    "uuid",
)  # fmt: skip
_OR_NONE: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(("expired", "requeue", "terminated"), _is_flag),
}
"""Fields that may be empty (None), too."""


class Receiver(EventReceiver):  # type: ignore[misc] # celery has no types
    """Hands on the events that have the fields of Celery's own, each of the right kind."""

    def _receive(self, body: object, message: object, **more: Any) -> None:
        events = body if isinstance(body, list) else [body]
        super()._receive([known for one in events if (known := checked(one))], message, **more)


def checked(event: object) -> dict[str, Any] | None:
    """Return an event without fields that Celery does not have; None for one of a wrong kind."""
    if not isinstance(event, dict):
        return None
    known = {name: event[name] for name in event.keys() & (_VALUES.keys() | _OR_NONE.keys())}
    is_right = all(
        _VALUES[name](value) if name in _VALUES else value is None or _OR_NONE[name](value)
        for name, value in known.items()
    )
    if not is_right or not known.keys() >= {"type", "hostname", "timestamp"}:
        return None
    kind = str(known["type"])
    if kind.startswith("worker-") or (kind.startswith("task-") and known.get("uuid")):
        return known
    return None
