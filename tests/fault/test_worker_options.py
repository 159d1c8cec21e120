"""Workers as users of Celery start them: each option works, or is refused at the start by name."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.tasks.app import QUEUE
from tests.fault.scene import wrong
from tests.standin import KiB

if TYPE_CHECKING:
    from tests.fault.scene import Scene


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "options"),
    [
        ("solo", ()),
        ("processes", ()),
        ("prefork", ("--autoscale", "3,1")),
        ("threads", ("-Q", f"other,{QUEUE}")),
        ("threads", ("-B",)),
        ("threads", ("-E", "-O", "fair", "--without-heartbeat")),
        ("prefork", ("--max-tasks-per-child", "1")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_works(scene: Scene, pool: str, options: tuple[str, ...]) -> None:
    """Files come with each of these, and no message is dropped or lost."""
    worker = scene.worker("one", pool=pool, options=options)

    records = scene.settled(scene.enqueue(*scene.items(6, KiB)), 60)

    assert wrong(records) == [], scene.logs
    assert "dropped" not in worker.text
    assert "messages were lost" not in worker.text


@pytest.mark.parametrize(
    ("pool", "options", "told"),
    [
        ("threads", ("--autoscale", "6,1"), "--autoscale works with --pool prefork only"),
        ("solo", ("--autoscale", "6,1"), "--autoscale works with --pool prefork only"),
        ("threads", ("-Q", "other"), f"-Q must name {QUEUE}"),
        ("threads", ("-X", QUEUE), f"-Q must name {QUEUE}"),
        pytest.param(
            "gevent",
            (),
            "--pool gevent loses downloads",
            marks=pytest.mark.skipif(find_spec("gevent") is None, reason="no gevent here"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_is_refused(scene: Scene, pool: str, options: tuple[str, ...], told: str) -> None:
    """The worker ends at its start with an exit code, and the last lines say what to do."""
    worker = scene.worker("one", pool=pool, options=options, wait=False)

    scene.until(lambda: not worker.alive, 30, "it ended")
    assert worker.returncode != 0
    assert told in worker.text, worker.text


def test_two_workers_of_one_name(scene: Scene) -> None:
    """All files come, and the log says that the names must differ."""
    for name in ("first", "second"):
        scene.worker(name, options=("-n", "same@%h"))
    scene.until(lambda: "another worker is named same@" in scene.logs_whole, 30, "it warns")

    assert wrong(scene.settled(scene.enqueue(*scene.items(8, KiB)), 60)) == [], scene.logs


@pytest.mark.slow
def test_an_error_of_the_worker_drops_no_message(scene: Scene) -> None:
    """What is a message is never called malformed: the log has the error, and it is sent again."""
    scene.worker("one", env={"PYTHONPATH": str(broken_once(scene))})

    records = scene.settled(scene.enqueue(*scene.items(3, KiB)), 60)

    assert wrong(records) == [], scene.logs
    assert "malformed" not in scene.logs_whole
    assert "AttributeError: 'TaskPool' object has no attribute 'grow'" in scene.logs_whole


def broken_once(scene: Scene) -> str:
    """Write a module that breaks the first call of the pool, as a defect of a library would."""
    folder = scene.folder.parent / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from celery.concurrency import thread\n"
        "apply, calls = thread.TaskPool.on_apply, []\n"
        "def broken(self, *args, **more):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 1:\n"
        "        self.grow\n"
        "    return apply(self, *args, **more)\n"
        "thread.TaskPool.on_apply = broken\n"
    )
    return str(folder)


def test_words_that_are_no_message_are_dropped(scene: Scene) -> None:
    """A body that is no task of ours is dropped with a line; the next message is handled."""
    worker = scene.worker("one")
    envelope = {
        "body": "bm8=", "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"id": "x", "task": "geodes_tasks.download"},
        "properties": {"delivery_info": {}, "delivery_tag": "t", "body_encoding": "base64"},
    }  # fmt: skip
    scene.ledger.connection.client.lpush(scene.ledger.connection.key(QUEUE), json.dumps(envelope))

    records = scene.settled(scene.enqueue(*scene.items(1, KiB)), 30)

    assert wrong(records) == [], scene.logs
    assert worker.alive
