"""Programs of users: the same text on one machine without a Redis and on a cluster, and typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks import Batch, DownloadQueue, batch, batches, enqueue
from geodes_tasks.client import ledgers
from geodes_tasks.client.local_server import known_folders
from geodes_tasks.errors import (
    BatchFailedError,
    ConfigError,
    KeyMissingError,
    UnknownBatchError,
)
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import KEY, WorkerFactory
from tests.integration.test_cli import CommandLine, wrong_files
from tests.standin import KiB, MiB, StandIn

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"

MISTAKES = """
from geodes_tasks import Batch, Config, DownloadQueue, Geodes, Profile, batch, enqueue

geodes = Geodes(Config(api_key="k"))
enqueue(3)
enqueue([], source="ftp")
geodes.iter_items(colections="X")
geodes.download_item_archive(3)
DownloadQueue(None)
batch("april").wait(until="never")
reveal_type(geodes.search_items(collections="X"))
reveal_type(geodes.search_items(collections="X", return_df=False))
reveal_type(Geodes.get_last_instance())
reveal_type(geodes.conf.max_concurrent)
"""


@pytest.fixture(autouse=True)
def own_sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the private servers of this test apart from those of others."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))


def mypy(*arguments: str) -> list[str]:
    """Check programs as a user with strict settings does."""
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, *arguments]
    said = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    return said.stdout.splitlines()


@pytest.mark.slow
def test_programs_have_types() -> None:
    """A program of a user is strictly typed; a wrong word or type is found before it runs."""
    files = ["tests/programs/enqueue_tile.py", "tests/programs/follow_tile.py"]

    good = mypy("--follow-imports=silent", "--ignore-missing-imports", *files)
    bad = mypy("--follow-imports=silent", "--ignore-missing-imports", "-c", MISTAKES)

    assert good == ["Success: no issues found in 2 source files"]
    lines = {int(line.split(":")[1]) for line in bad if ": error:" in line}
    notes = [line.partition("Revealed type is ")[2] for line in bad if "Revealed" in line]
    assert lines >= {5, 6, 7, 8, 9, 10}
    assert "Item]" in notes[0]
    assert notes[0].startswith('"tuple[')
    assert notes[1].startswith('"list[')
    assert "Geodes" in notes[2]
    assert "int" in notes[3]


def run(name: str, **variables: str) -> list[str]:
    """Run a program in the current folder and return the lines that it prints."""
    said = subprocess.run(
        [sys.executable, str(PROGRAMS / name)], capture_output=True, text=True, check=False,
        env=os.environ | variables, timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_one_program_here_and_on_a_cluster(
    standin: StandIn, redis_url: str, worker: WorkerFactory, tmp_path: Path, where: str
) -> None:
    """Search, enqueue, reopen in another process, retry, data frame: the same lines everywhere."""
    items = [standin.add_item(32 * KiB, cloud_cover=5.0) for _ in range(3)]
    refused = max(items, key=lambda item: str(item["id"]))
    standin.fault(refused, "licence_423", times=1)
    (tmp_path / "pygeodes-config.json").write_text(f'{{"api_key": "{KEY}"}}')
    variables = {
        "GEODES_TASKS_PORTAL_URL": standin.url, "GEODES_TASKS_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "GEODES_TASKS_QUOTA": "off", "GEODES_TASKS_BACKOFF_SECONDS": "0.1",
    }  # fmt: skip
    if where == "cluster":
        variables["GEODES_TASKS_REDIS_URL"] = redis_url
        conf = config.load(
            api_key=KEY, portal_url=standin.url, redis_url=redis_url, download_roots=str(tmp_path),
            s3_endpoint_url="http://127.0.0.1:1", quota="off", backoff_seconds=0.1,
        )  # fmt: skip
        worker(settings=conf)

    (first,) = run("enqueue_tile.py", **variables)
    lines = run("follow_tile.py", **variables)

    assert first.split()[:2] == ["tile", "3"]
    assert lines == [
        f"{refused['id']} LicenceError",
        "1 again",
        f"3 {3 * 32 * KiB} 3 ['SUCCESS']",
    ]
    assert wrong_files(standin, items, "tile") == []


@pytest.fixture
def conf(standin: StandIn, tmp_path: Path) -> Config:
    """Return settings of one machine without a Redis."""
    return Config(
        api_key=KEY, portal_url=standin.url, download_dir=str(tmp_path / "out"), quota="off",
        s3_endpoint_url="http://127.0.0.1:1", backoff_seconds=0.1, max_concurrent=2,
    )  # fmt: skip


def test_a_wait_that_ends_early_is_continued(standin: StandIn, conf: Config) -> None:
    """After a timeout the batch is as it was; the next wait continues it, and steering works."""
    items = [standin.add_item(2 * MiB) for _ in range(3)]

    one = enqueue(items, batch="april", conf=conf)

    assert one.status().states[State.PENDING] == 3
    assert one.pause()
    blocked = one.wait(60, until="blocked", quiet=True)
    assert blocked.unfinished == 3
    assert one.resume()
    with pytest.raises(TimeoutError, match="batch april: "):
        one.wait(0, quiet=True)
    again = batch("april", conf=conf)
    done = again.wait(60, quiet=True)

    assert (done.ok, done.total) == (True, 3)
    assert [found.id for found in batches(conf=conf)] == ["april"]
    assert Batch("april", conf=conf).status().total == 3
    assert repr(again) == f"Batch('april', '{Path(conf.download_dir).resolve()}')"
    assert len(again.to_dataframe()) == 3
    assert wrong_files(standin, items, conf.download_dir) == []


def test_two_processes_share_the_server_of_a_folder(standin: StandIn, conf: Config) -> None:
    """Readers of one private ledger do not get into each other's way."""
    one = enqueue([standin.add_item(KiB)], batch="april", conf=conf)
    folder = ledgers.folder_of(conf)

    with ledgers.opened(conf, folder) as first, ledgers.opened(conf, folder) as second:
        states = [found.ledger.reading.status("april").total for found in (first, second)]

    assert states == [1, 1]
    assert one.status().total == 1


@pytest.mark.slow
def test_commands_on_the_batch_of_a_program(
    standin: StandIn, conf: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line finds the batch by its folder, by its name, and as the last one."""
    enqueue([standin.add_item(KiB) for _ in range(2)], batch="april", conf=conf)
    command, folder = CommandLine(standin), conf.download_dir

    by_folder = command("status", "-o", folder, "--json")
    by_name = command("status", "april", "--json")
    newest = command("batches")
    paused = command("pause", "--batch", "april")
    unknown = command("status", "-o", str(Path(folder).parent / "elsewhere"))
    resumed = command("resume", "--batch", "april", "-o", folder)
    ended = command("download", "-o", folder, "--collection", "PEPS_S2_L1C", "--yes")

    assert by_folder.returncode == by_name.returncode == 0
    assert by_folder.stdout == by_name.stdout
    assert f"on this machine: {folder}" in by_name.stderr
    assert "april" in newest.stdout
    assert "april: paused" in paused.stderr
    assert "takes effect at the next `geodes-tasks download" in paused.stderr
    assert "april: resumed" in resumed.stderr
    assert unknown.returncode == 2
    assert "nothing was downloaded to" in unknown.stderr
    assert ended.returncode == 0, ended.stderr


def test_nothing_enqueued_is_done(conf: Config) -> None:
    """An empty search ends a nightly script as a full one does."""
    one = enqueue([], conf=conf)

    status = one.wait(quiet=True)

    assert (status.total, status.ok, status.unfinished) == (0, True, 0)
    assert one.results() == one.failures() == []
    assert (one.retry(), one.cancel().cancelled, one.pause()) == (0, 0, False)
    assert "no items" in one._repr_html_()
    status.raise_for_status()
    queue = DownloadQueue([], conf=conf, quiet=True)
    assert queue.run().ok


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"items": None}, TypeError, "items are STAC items"),
        ({"items": 42}, TypeError, "not 42"),
        ({"source": "ftp"}, ValueError, "source is 'auto', 'geodes' or 's3', not 'ftp'"),
        ({"priority": "high"}, TypeError, "priority is a whole number, not 'high'"),
        ({"priority": 99}, ValueError, "priority is from -9 to 9, not 99"),
        ({"weight": 0}, ValueError, "weight is from 1 to 100, not 0"),
        ({"layout": "{"}, ConfigError, "layout"),
        ({"account": "a/b"}, ConfigError, "a/b"),
    ],
)
def test_mistakes_of_a_caller_raise_at_the_call(
    conf: Config, arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    """A wrong argument is no failed item that is found days later."""
    given: dict[str, object] = {"items": [], "conf": conf} | arguments

    with pytest.raises(error, match=text):
        enqueue(**given)  # type: ignore[arg-type] # on purpose


def test_a_queue_refuses_mistakes_too(conf: Config) -> None:
    """The queue checks its arguments when it is made."""
    with pytest.raises(TypeError, match="not None"):
        DownloadQueue(None, conf=conf)  # type: ignore[arg-type] # on purpose
    with pytest.raises(ValueError, match="not 'ftp'"):
        DownloadQueue([], source="ftp", conf=conf)  # type: ignore[arg-type] # on purpose


def test_a_missing_key_is_reported_before_anything_starts(standin: StandIn, conf: Config) -> None:
    """No server, no worker, no request: one error that names the setting."""
    conf.api_key = None
    queue = DownloadQueue([standin.add_item(KiB)], conf=conf, quiet=True)

    with pytest.raises(KeyMissingError, match=r"needs an API key: GEODES_API_KEY is not set"):
        queue.run()

    assert standin.downloads() == []
    assert known_folders(conf) == []


def test_unknown_names_and_twins(standin: StandIn, conf: Config, tmp_path: Path) -> None:
    """A name that is unknown, or known in two folders, is an error that says where to look."""
    enqueue([standin.add_item(KiB)], batch="april", conf=conf)
    enqueue([standin.add_item(KiB)], batch="april", conf=conf, download_dir=tmp_path / "two")

    with pytest.raises(UnknownBatchError, match="'apirl'") as unknown:
        batch("apirl", conf=conf)
    with pytest.raises(ConfigError, match="several folders have a batch 'april'"):
        batch("april", conf=conf)

    assert unknown.value.nearest == "april"
    assert len(batches(conf=conf)) == 2


def test_a_status_raises_for_what_failed(standin: StandIn, conf: Config) -> None:
    """`raise_for_status` counts what is not done."""
    bad = standin.add_item(KiB)
    standin.fault(bad, "licence_423")
    one: Batch = enqueue([bad], batch="april", conf=conf)

    status = one.wait(60, quiet=True)

    assert not status.ok
    with pytest.raises(BatchFailedError, match="1 failed, 0 cancelled, 0 unfinished of 1"):
        status.raise_for_status()
    assert [record.error.type for record in one.failures() if record.error] == ["LicenceError"]
