"""One bad thing costs only itself: a batch that cannot be had, beside one that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodes_tasks.model.states import State
from tests.fault.scene import wrong
from tests.standin import KiB

if TYPE_CHECKING:
    from tests.fault.scene import Scene

FOR_EVER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bad_key", {"answer": "403"}),
    ("gone_404", {}),
    ("licence_423", {}),
    ("offline_410", {}),
    ("status_n_times", {"status": 500, "times": 1000}),
    ("corrupt", {}),
    ("truncate", {}),
    ("html_200", {"body": "Down for maintenance"}),
)
"""Faults of single files, each at every request."""


def test_one_batch_costs_its_account_nothing(scene: Scene) -> None:
    """Every file of one batch fails in another way; the other batch comes at its first tries."""
    scene.change(max_attempts=3)
    bad = scene.items(len(FOR_EVER) * 2, KiB)
    for number, item in enumerate(bad):
        mode, options = FOR_EVER[number % len(FOR_EVER)]
        scene.standin.fault(item, mode, **options)
    scene.worker("one")
    hopeless = scene.enqueue(*bad, batch="hopeless", priority=5)
    good = scene.enqueue(*scene.items(12, KiB), batch="good")

    records = scene.settled(good, 40)

    assert wrong(records) == [], scene.logs
    assert {one.attempts for one in records} == {1}
    (account,) = scene.ledger.account.states()
    assert (account.paused, account.why) == (None, "")
    scene.until(
        lambda: hopeless.status().unfinished == hopeless.status().waiting.get("offline", 0), 40,
        "only the files on tape are left",
    )  # fmt: skip
    assert hopeless.status().states[State.SUCCESS] == 0
