"""Cluster mode from end to end: real workers, a real broker, and all that reads the ledger."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery.result import AsyncResult

from geodes_tasks import enqueue
from geodes_tasks.errors import NoDataAssetError, NotFoundError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.asset import download_id
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.secret import Secret
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.tasks.app import QUEUE, TASK, Sender, make
from tests.conftest import KEY
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.test_cli import (
    CommandLine,
    command,
    file_of,
    one_object,
    write_items,
    wrong_files,
)
from tests.servers import Process
from tests.standin import KiB, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import Item, StandIn

WAIT_S = 30.0
FIELDS = {
    "item_id", "collection", "asset_key", "state", "outcome", "path", "size_bytes", "checksum",
    "verified", "bytes_transferred", "attempts", "source", "started_at", "finished_at", "error",
}  # fmt: skip
"""What every record has, by contract."""


@pytest.fixture
def cli(standin: StandIn, settings: Config) -> CommandLine:
    """Give the command line, with the settings that the workers have."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    return cli


@pytest.fixture
def command_worker(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Start a worker as the manual says: ``geodes-tasks worker``."""
    process = Process(tmp_path_factory.mktemp("worker") / "worker.log")
    process.spawn(command("worker", "--loglevel", "INFO"), env=os.environ | cli.settings)
    process.wait_for(" ready.")
    yield process
    process.stop()


def folder_of(settings: Config) -> str:
    """Give the download folder."""
    return str(Path(settings.download_dir))


# --- the commands --------------------------------------------------------------------------------


def test_enqueued_watched_and_reported(
    cli: CommandLine, standin: StandIn, settings: Config, command_worker: Process
) -> None:
    """A batch goes in by ``enqueue`` and can be read by every command that there is for it."""
    items = [standin.add_item(64 * KiB) for _ in range(4)]
    source = write_items([*items, standin.add_item(data=False)])

    enqueued = cli("enqueue", source, "--batch", "mine", "--json")
    watched = cli("watch", "mine")
    status = one_object(cli("status", "mine", "--json").stdout)
    told = {form: cli("report", "mine", "--format", form) for form in FORMATS}

    assert enqueued.returncode == 0, enqueued.stderr
    receipt = one_object(enqueued.stdout)
    assert (receipt["batch"], receipt["downloads"], receipt["refused"]) == ("mine", 5, 1)
    assert receipt["bytes_total"] == 4 * 64 * KiB
    assert enqueued.stderr.startswith("4 files, 262.1 kB: 4 from the portal")
    assert watched.returncode == 3
    assert "4 of 5 done (4 downloaded), 1 failed" in watched.stderr
    assert (status["states"]["SUCCESS"], status["states"]["FAILURE"]) == (4, 1)
    assert wrong_files(standin, items, folder_of(settings)) == []
    assert_reports_agree(told)
    assert_md5sum_accepts(told["md5sums"].stdout, 4)
    assert command_worker.alive


def test_the_log_of_a_service_has_no_banner(command_worker: Process) -> None:
    """Without a terminal the log begins with what the worker found."""
    assert "this worker writes below" in command_worker.text
    assert "concurrency:" not in command_worker.text


FORMATS = ("jsonl", "json", "csv", "md5sums")


def assert_reports_agree(told: dict[str, subprocess.CompletedProcess[str]]) -> None:
    """Check that the three formats with all fields say the same of the same downloads."""
    assert [one.returncode for one in told.values()] == [0] * len(told)
    lines = [json.loads(line) for line in told["jsonl"].stdout.splitlines()]
    assert json.loads(told["json"].stdout) == lines
    assert all(set(line) >= FIELDS for line in lines)
    rows = list(csv.DictReader(io.StringIO(told["csv"].stdout)))
    assert [(r["item_id"], r["state"], r["path"]) for r in rows] == [
        (line["item_id"], line["state"], line["path"]) for line in lines
    ]
    (failed,) = (line for line in lines if line["state"] == "FAILURE")
    assert failed["error"]["type"] == NoDataAssetError.__name__
    assert {row["error_type"] for row in rows} == {"", NoDataAssetError.__name__}


def assert_md5sum_accepts(sums: str, count: int) -> None:
    """Check that ``md5sum -c`` reads the lines and finds every file right."""
    checked = subprocess.run(
        ["md5sum", "-c", "--strict"], input=sums, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(": OK\n") == count


def test_wait_ends_with_the_batch(
    cli: CommandLine, standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """``enqueue --wait --json`` waits, and says on stdout what ``status --json`` would."""
    items = [standin.add_item(64 * KiB) for _ in range(2)]
    worker()

    said = cli("enqueue", write_items(items), "--wait", "--json")

    assert said.returncode == 0, said.stderr
    assert one_object(said.stdout)["outcomes"]["DOWNLOADED"] == 2
    assert wrong_files(standin, items, folder_of(settings)) == []


def test_commands_without_redis(cli: CommandLine, standin: StandIn) -> None:
    """Without Redis each command ends with one line that says where it was sought."""
    source, nowhere = write_items([standin.add_item(KiB)]), "redis://127.0.0.1:1/0"

    for words in (("enqueue", source), ("report", "mine")):
        said = cli(*words, GEODES_TASKS_REDIS_URL=nowhere)

        (line,) = said.stderr.splitlines()
        assert said.returncode == 1
        assert line.startswith(f"error: no answer from Redis at {nowhere}: ")


# --- pools ---------------------------------------------------------------------------------------


def test_workers_do_not_talk_to_each_other(worker: WorkerFactory) -> None:
    """No gossip, whose messages grow with the square of the fleet, and no search for neighbours."""
    first = worker("first", options=("--loglevel", "DEBUG"))

    assert "Starting Heart" in first.text
    assert "Starting Mingle" not in first.text
    assert "Starting Gossip" not in first.text


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_pools(standin: StandIn, settings: Config, worker: WorkerFactory, pool: str) -> None:
    """Threads and processes alike: two workers share a batch, and every file is right."""
    items = [standin.add_item(256 * KiB) for _ in range(8)]
    standin.settings.rate = 1024 * KiB
    for name in ("one", "two"):
        worker(name, pool=pool, wait=False)

    batch = enqueue(items, conf=settings)
    status = batch.wait(WAIT_S)

    assert status.outcomes["DOWNLOADED"] == 8
    assert len(standin.downloads()) == 8
    assert wrong_files(standin, items, folder_of(settings)) == []
    assert {str(record.worker).split("@")[0] for record in batch.results()} == {"one", "two"}


# --- asking twice --------------------------------------------------------------------------------


def test_asking_twice_is_asking_once(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """The same items asked for again, while under way and afterwards, are not fetched again."""
    items = [standin.add_item(64 * KiB) for _ in range(3)]
    first, second = (enqueue(items, conf=settings) for _ in range(2))
    worker()

    fetched = [first.wait(WAIT_S).outcomes, second.wait(WAIT_S).outcomes]
    third = enqueue(items, conf=settings).wait(WAIT_S)

    assert fetched == [{"DOWNLOADED": 3, "RESUMED": 0, "ALREADY_PRESENT": 0}] * 2
    assert third.outcomes == {"DOWNLOADED": 0, "RESUMED": 0, "ALREADY_PRESENT": 3}
    assert len(standin.downloads()) == 3


def test_two_items_that_want_one_name(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """The second of two different files with one name is refused, and both are named."""
    one, other = (standin.add_item(KiB, title="twin.zip") for _ in range(2))
    worker()

    batch = enqueue([one, other], conf=settings)
    batch.wait(WAIT_S)

    (refused,) = (record for record in batch.results() if record.state is State.FAILURE)
    assert refused.error is not None
    assert refused.error.type == "NameTakenError"
    assert one["id"] in refused.error.message
    assert other["id"] in refused.error.message
    assert (Path(settings.download_dir) / "twin.zip").read_bytes() == read(standin.body(one))


# --- messages ------------------------------------------------------------------------------------


def queued_messages(ledger: Ledger) -> list[dict[str, Any]]:
    """Read what the broker holds, as it holds it."""
    return [
        json.loads(text)
        for text in ledger.connection.client.lrange(ledger.connection.key(QUEUE), 0, -1)
    ]


def test_messages_are_small_readable_and_without_secrets(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """A message names the item, the file and its size; its id is that of path and checksum."""
    item = standin.add_item(2048 * KiB, identifier="SCENE")
    (asset,) = stac_assets.assets(item)

    enqueue(item, conf=settings)

    (message,) = queued_messages(ledger)
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    path = str(Path(settings.download_dir) / "SCENE.zip")
    assert message["headers"]["task"] == TASK
    assert message["headers"]["id"] == download_id(path, asset)
    assert (arguments, keywords) == (
        [], {"item": item["id"], "file": "SCENE.zip", "size": "2.1 MB"},
    )  # fmt: skip
    assert message["content-type"] == "application/json"
    assert len(json.dumps(message)) < 2048
    assert KEY not in json.dumps(message)


def test_the_id_stands_for_path_and_checksum(standin: StandIn) -> None:
    """Other bytes or another place give another id; asked again, in any process, it is the same."""
    (asset,), (other,) = (stac_assets.assets(standin.add_item(KiB)) for _ in range(2))
    code = f"from geodes_tasks.model import asset, checksum; print(asset.download_id('/a', \
asset.Asset(item_id='other', collection='', key='k', title='t', hrefs={{}},\
checksum=checksum.parse('{asset.checksum}'))))"

    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()

    assert elsewhere == download_id("/a", asset)
    assert len({download_id("/a", asset), download_id("/b", asset), download_id("/a", other)}) == 3


class Trap:
    """Makes a folder when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        """Take the folder."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Say what unpickling does."""
        return os.mkdir, (str(self.path),)


def test_pickle_is_refused(
    standin: StandIn, settings: Config, worker: WorkerFactory, tmp_path: Path
) -> None:
    """A message in pickle runs no code and breaks nothing: the next download goes through."""
    item, sprung = standin.add_item(64 * KiB), tmp_path / "sprung"
    node = worker()

    with Sender(settings).app.producer_or_acquire() as producer:
        body = pickle.dumps(((Trap(sprung),), {}, {}))
        producer.publish(
            body, routing_key=QUEUE, content_type="application/x-python-serialize",
            content_encoding="binary", headers={"task": TASK, "id": "trap"},
        )  # fmt: skip
    status = enqueue(item, conf=settings).wait(WAIT_S)
    node.wait_for("untrusted content")

    assert status.states["SUCCESS"] == 1
    assert node.alive
    assert not sprung.exists()


# --- Celery's own view ---------------------------------------------------------------------------


def test_async_result_is_the_record(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """``AsyncResult(id).get()`` waits, and gives the record that the ledger has."""
    item = standin.add_item(64 * KiB)
    worker()
    (asked,) = enqueue(item, conf=settings).results()
    result = AsyncResult(asked.download_id, app=make(settings))

    record = result.get(timeout=WAIT_S)

    kept = ledger.reading.record(asked.download_id)
    assert kept is not None
    assert record == kept.to_dict()
    assert (result.state, record["outcome"]) == ("SUCCESS", "DOWNLOADED")


def test_async_result_raises_the_named_error(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """``AsyncResult(id).get()`` of a failed download raises the error that its record names."""
    gone = standin.add_item(64 * KiB)
    standin.fault(gone, "gone_404")
    worker()
    (asked,) = enqueue(gone, conf=settings).results()
    result = AsyncResult(asked.download_id, app=make(settings))

    with pytest.raises(NotFoundError, match="no such file"):
        result.get(timeout=WAIT_S)


# --- S3 ------------------------------------------------------------------------------------------


@pytest.fixture
def datalake() -> Iterator[S3Server]:
    """Start an S3 server."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_settings(settings: Config, datalake: S3Server) -> Config:
    """Give settings with credentials for it."""
    secrets = {"aws_access_key_id": "key-id", "aws_secret_access_key": "canary-secret"}
    values = {name: Secret(value) for name, value in secrets.items()}
    return settings.replace(s3_endpoint_url=datalake.url, **values)


def item_in(datalake: S3Server, standin: StandIn, name: str, spoilt: bool = False) -> Item:
    """Add an item whose archive is in the datalake too."""
    address = f"{datalake.url}/{BUCKET}/2025/04/02/{name}.zip"
    item = standin.add_item(64 * KiB, identifier=name, endpoint_url=address)
    content = read(standin.body(item))
    datalake.put(f"2025/04/02/{name}.zip", content[::-1] if spoilt else content)
    return item


def test_s3_with_credentials(
    standin: StandIn, s3_settings: Config, worker: WorkerFactory, datalake: S3Server
) -> None:
    """With credentials the datalake is used and its bytes are proven; ``geodes`` stays away."""
    item, other = (item_in(datalake, standin, name) for name in ("ONE", "TWO"))
    worker(settings=s3_settings)

    by_itself = enqueue(item, conf=s3_settings)
    by_itself.wait(WAIT_S)
    signed = [head["Authorization"] for head in datalake.seen]
    portal_only = enqueue(other, source="geodes", conf=s3_settings)
    portal_only.wait(WAIT_S)

    ((found,), (elsewhere,)) = (by_itself.results(), portal_only.results())
    assert (found.source, found.outcome, found.verified) == ("s3", "DOWNLOADED", True)
    assert found.sources == {"s3": 64 * KiB}
    assert len(signed) == len(datalake.seen) == 1
    assert signed[0].startswith("AWS4-HMAC-SHA256 Credential=key-id/")
    assert (elsewhere.source, elsewhere.verified) == ("geodes", True)
    assert (len(standin.downloads(item)), len(standin.downloads(other))) == (0, 1)
    assert wrong_files(standin, [item, other], folder_of(s3_settings)) == []


def test_s3_bytes_that_are_wrong(
    standin: StandIn, s3_settings: Config, worker: WorkerFactory, datalake: S3Server
) -> None:
    """Bytes of the datalake that do not have the catalogue's MD5 are never published."""
    item = item_in(datalake, standin, "SPOILT", spoilt=True)
    worker(settings=s3_settings)

    batch = enqueue(item, source="s3", conf=s3_settings)
    batch.wait(WAIT_S)

    (record,) = batch.results()
    assert record.error is not None
    assert record.error.type == "CatalogueMismatchError"
    assert not file_of(item, folder_of(s3_settings)).exists()
