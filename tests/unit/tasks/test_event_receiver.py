"""Events of strangers: what Celery does not send never reaches Flower's tables."""

from __future__ import annotations

import time
from typing import Any

import pytest

from geodes_tasks.tasks.event_receiver import MOST_CHARACTERS, checked

HEARTBEAT: dict[str, Any] = {
    "type": "worker-heartbeat", "hostname": "w@host", "timestamp": time.time(), "utcoffset": -1,
    "clock": 7, "pid": 12, "freq": 2.0, "active": 0, "processed": 9, "loadavg": [0.1, 0.2, 0.3],
    "sw_ident": "py-celery", "sw_ver": "5", "sw_sys": "Linux",
}  # fmt: skip
FAILED: dict[str, Any] = {
    "type": "task-failed", "hostname": "w@host", "timestamp": time.time(), "utcoffset": 0,
    "clock": 8, "pid": 12, "uuid": "u", "name": "geodes_tasks.download", "exception": "E('x')",
    "traceback": None, "runtime": 0.5, "retries": 1, "eta": None, "terminated": False,
}  # fmt: skip
WRONG: list[object] = [
    [], {}, [1, [2]], {"a": 1}, float("inf"), float("nan"), 1e300, 10**400, "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("event", [HEARTBEAT, FAILED])
def test_an_event_of_celery_is_handed_on(event: dict[str, Any]) -> None:
    """Whole; what a later Celery adds is left out."""
    assert checked(event) == event
    assert checked(event | {"state": "EVIL", "children": [], "_fields": ()}) == event


@pytest.mark.parametrize("event", [HEARTBEAT, FAILED])
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_a_value_of_another_kind_is_dropped_with_its_event(
    event: dict[str, Any], value: object
) -> None:
    """In any field: Flower would fail at each page that shows it."""
    fields = [name for name in event if name != "loadavg"]
    assert [name for name in fields if checked(event | {name: value})] == []


@pytest.mark.parametrize(
    "event",
    [
        None, [], "x", 3, {}, HEARTBEAT | {"active": "<i>"}, HEARTBEAT | {"freq": None},
        HEARTBEAT | {"loadavg": ["1"]}, HEARTBEAT | {"loadavg": [1.0] * 4},
        HEARTBEAT | {"timestamp": -1}, HEARTBEAT | {"timestamp": 1e12},
        HEARTBEAT | {"type": "nonsense"}, HEARTBEAT | {"hostname": None},
        {name: value for name, value in HEARTBEAT.items() if name != "timestamp"},
        FAILED | {"uuid": None}, FAILED | {"uuid": ""}, FAILED | {"retries": True},
        FAILED | {"terminated": "yes"}, FAILED | {"name": "n" * (MOST_CHARACTERS + 1)},
    ],
    ids=range(19),
)  # fmt: skip
def test_what_celery_does_not_send_is_dropped(event: object) -> None:
    """Texts for numbers, times without a date, events of no task and of no worker."""
    assert checked(event) is None
