"""What somebody reaches who can write to Redis: rubbish, foreign tasks, forged records."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.model.states import State
from geodes_tasks.tasks.app import QUEUE, TASK
from tests.fault.scene import KiB, MiB, Scene, wrong
from tests.servers import wait_until

if TYPE_CHECKING:
    from geodes_tasks.client.batch import Batch

BROKER_KEYS = [QUEUE, *(f"_kombu.binding.{name}" for name in (
    QUEUE, "celeryev", "celery.pidbox", "reply.celery.pidbox"
))]  # fmt: skip
"""Keys that kombu reads or writes."""


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Have unpickling call a function."""
        return Path.touch, (self.path,)


def message(body: bytes, content_type: str = "application/json", task: str = TASK) -> str:
    """Give a message as it lies in the broker's list."""
    identifier = str(uuid.uuid4())
    return json.dumps({
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if "python" in content_type else "utf-8",
        "content-type": content_type,
        "headers": {"id": identifier, "task": task, "lang": "py"},
        "properties": {
            "body_encoding": "base64", "delivery_tag": identifier, "correlation_id": identifier,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    })  # fmt: skip


NO_TASK = json.dumps([[], {"item": "a", "file": "b", "size": "c"}, {}]).encode()
"""Body of a message for a download that nobody enqueued."""


def with_header(text: str, name: str, value: str) -> str:
    """Give a message one more header."""
    found = json.loads(text)
    found["headers"][name] = value
    return json.dumps(found)


def push(scene: Scene, *texts: str) -> None:
    """Put messages where a worker takes them first."""
    scene.ledger.connection.client.rpush(scene.ledger.connection.key(QUEUE), *texts)


def goes_on(scene: Scene) -> None:
    """Make sure that the worker does its work all the same."""
    batch = scene.enqueue(*scene.items(2, KiB))
    assert wrong(scene.settled(batch, 60)) == [], scene.logs


def test_pickle_is_never_opened(scene: Scene, tmp_path: Path) -> None:
    """A pickled message is thrown away unread, and the worker goes on."""
    trap = tmp_path / "sprung"
    pickled = pickle.dumps(((), {"item": Bomb(trap)}, {}))
    one = scene.worker("one")

    push(scene, message(pickled, "application/x-python-serialize"))

    scene.until(lambda: "ContentDisallowed" in one.text, 30, "the refusal")
    goes_on(scene)
    assert not trap.exists()
    # The trap works: it is the worker that does not step into it.
    pickle.loads(pickled)  # noqa: S301 - our own
    assert trap.exists()


def test_unknown_tasks_and_rubbish_stop_nobody(scene: Scene) -> None:
    """Other tasks, arguments that do not fit, bodies that are none, text that is no message."""
    one = scene.worker("one")
    none: bytes = json.dumps([[], {}, {}]).encode()

    push(scene, message(none, task="os.system"), message(b"{", task=TASK))
    push(scene, message(json.dumps([["a"] * 9, {"evil": 1}, {}]).encode()))
    push(scene, message(json.dumps("no list").encode()))
    scene.until(lambda: "unregistered task of type 'os.system'" in one.text, 30, "the refusal")

    goes_on(scene)
    assert one.alive


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_compressed_message_is_not_unpacked(scene: Scene, pool: str) -> None:
    """Kombu makes gigabytes of a megabyte for whoever names a compression in a header."""
    one = scene.worker("one", options=("--pool", pool))
    packer = zlib.compressobj()
    bomb = b"".join([packer.compress(bytes(MiB)) for _ in range(500)]) + packer.flush()
    kinds = "application/x-gzip", "gzip", "xz", "zstd", "no compression"

    push(scene, *[with_header(message(bomb), "compression", kind) for kind in kinds])

    goes_on(scene)
    status = Path(f"/proc/{one.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 300 * KiB, scene.logs


def test_a_message_for_later_is_dropped(scene: Scene) -> None:
    """The program sends none: Celery would keep as many as come, in memory."""
    one = scene.worker("one")

    push(scene, with_header(message(NO_TASK), "eta", "2099-01-01T00:00:00+00:00"))

    scene.until(lambda: "a malformed message was dropped" in one.text, 30, "the refusal")
    goes_on(scene)


def test_text_that_is_no_message(scene: Scene) -> None:
    """What is not even JSON in the broker's list does not end a worker."""
    one = scene.worker("one")

    push(scene, "not json", "{}", "[1, 2]", "null", '{"properties": {}}')

    goes_on(scene)
    assert one.alive, scene.logs
    assert "a malformed message was dropped" in one.text


def test_rubbish_among_commands_ends_no_worker(scene: Scene) -> None:
    """What is not even JSON on the channels of remote control costs a new connection."""
    one, ledger = scene.worker("one"), scene.ledger.connection

    for text in ("not json", "{}", "[1]"):
        heard = partial(ledger.client.publish, ledger.key("/0.celery.pidbox"), text)
        # After each one the worker connects anew.
        wait_until(heard, 10.0, "a worker that listens")
        goes_on(scene)

    assert one.alive, scene.logs


@pytest.mark.parametrize("name", BROKER_KEYS)
def test_a_key_of_the_broker_of_another_type_is_removed(scene: Scene, name: str) -> None:
    """A worker starts, and one that runs goes on, though `client` may write to these keys."""
    ledger = scene.ledger.connection
    ledger.client.set(ledger.key(name), "rubbish")
    one = scene.worker("one")
    ledger.client.delete(ledger.key(name))
    ledger.client.set(ledger.key(name), "rubbish")
    scene.until(lambda: ledger.client.type(ledger.key(name)) != "string", 30, "the repair")

    goes_on(scene)
    assert one.alive, scene.logs


def test_rubbish_ends_no_download(scene: Scene) -> None:
    """What is under way when rubbish comes goes on, and is fetched once."""
    scene.standin.settings.rate = 256 * KiB
    (item,) = scene.items(1, 512 * KiB)
    one = scene.worker("one")
    batch = scene.enqueue(item)
    scene.until(lambda: scene.downloads(item), 30, "the transfer")

    push(scene, "not json")
    scene.until(lambda: "a malformed message was dropped" in one.text, 30, "the rubbish")

    assert wrong(scene.settled(batch, 60)) == [], scene.logs
    assert scene.downloads(item) == 1


def forged(scene: Scene, batch: Batch, **fields: str) -> None:
    """Change the record of a batch's one download, as a stolen password allows."""
    (record,) = batch.results()
    key = scene.ledger.connection.key("download", record.download_id)
    scene.ledger.connection.client.hset(key, mapping=fields)


def test_a_forged_record_writes_nothing_outside_the_roots(scene: Scene, tmp_path: Path) -> None:
    """The path in the ledger leads elsewhere: the worker's own settings have the last word."""
    root = scene.settings.download_dir
    scene.change(download_roots=(root,))
    batch = scene.enqueue(*scene.items(1, KiB))
    outside = tmp_path / "outside" / "authorized_keys"
    forged(scene, batch, path=str(outside))

    scene.worker("one")

    (record,) = scene.settled(batch, 60)
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "OutsideRootsError"
    assert not outside.parent.exists()
    assert not scene.standin.downloads()


@pytest.mark.parametrize("href", ["https://192.0.2.1/a.zip", "https://files.invalid/a.zip"])
def test_a_forged_record_opens_no_other_host(scene: Scene, href: str) -> None:
    """The address in the ledger leads elsewhere: it is not opened, and nothing is published."""
    batch = scene.enqueue(*scene.items(1, KiB))
    (record,) = batch.results()
    key = scene.ledger.connection.key("download", record.download_id)
    spec = json.loads(str(scene.ledger.connection.client.hget(key, "spec")))
    forged(scene, batch, spec=json.dumps(spec | {"hrefs": {"geodes": href}}))

    scene.worker("one")

    (record,) = scene.settled(batch, 60)
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "HrefRefusedError"
    assert not list(Path(scene.settings.download_dir).glob("*.zip"))
