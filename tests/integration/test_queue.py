"""DownloadQueue and Profile: interrupted and gone on with, checked, watched; alone, in a fleet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client import planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.planning import Selection
from geodes_tasks.errors import FolderBusyError, NotAFileError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.monitoring.terminal import View
from geodes_tasks.pygeodes.download_queue import DownloadQueue, Problem
from geodes_tasks.pygeodes.profile import Profile
from geodes_tasks.settings import config
from geodes_tasks.settings.secret import Secret
from geodes_tasks.stac import readers
from tests.servers import wait_until
from tests.standin import KiB, MiB, StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory


@pytest.fixture(autouse=True)
def own_sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the private servers of this test apart from those of others."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))


@pytest.fixture
def alone(standin: StandIn, tmp_path: Path) -> Config:
    """Give settings of one-machine mode: no Redis is named."""
    return config.load(
        api_key="standin-key-0123456789",
        portal_url=standin.url,
        s3_endpoint_url="http://127.0.0.1:1",
        download_dir=tmp_path / "downloads",
        quota="off",
        lease_seconds=2,
        backoff_seconds=0.1,
        grace_seconds=0.5,
        max_concurrent=2,
    )


def fill(standin: StandIn, count: int, size: int = 20 * KiB) -> list[dict[str, Any]]:
    """Add items."""
    return [standin.add_item(size=size) for _ in range(count)]


def paths_of(folder: Path) -> list[Path]:
    """Give the files that a folder holds, those that nobody shall see left out."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and ".geodes-tasks" not in p.parts)


# --- run ---------------------------------------------------------------------------------------


def test_a_queue_downloads_everything(
    standin: StandIn, alone: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """All files arrive, are proven, and stdout stays free for data."""
    items = fill(standin, 5)
    queue = DownloadQueue(items, conf=alone)

    status = queue.run()

    said = capfd.readouterr()
    assert status.states[State.SUCCESS] == len(paths_of(queue.download_dir)) == 5
    assert queue.check_integrity() == []
    assert all(record.verified for record in queue.results)
    assert "5 of 5 done (5 downloaded)" in said.err
    assert said.out == ""


def test_a_second_run_fetches_nothing(standin: StandIn, alone: Config) -> None:
    """What is there and proven is not asked for again, by the same queue or a new one."""
    items = fill(standin, 3)
    queue = DownloadQueue(items, conf=alone)
    queue.run()
    standin.reset_log()

    again = queue.run()
    anew = DownloadQueue(items, conf=alone).run()

    assert again.outcomes[Outcome.ALREADY_PRESENT] == anew.outcomes[Outcome.ALREADY_PRESENT] == 3
    assert again.outcomes[Outcome.DOWNLOADED] == 0
    assert standin.downloads() == []


def test_one_failure_does_not_stop_the_others(
    standin: StandIn, alone: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that is gone, and an item without data, are named; the others arrive."""
    items = fill(standin, 3)
    standin.fault(items[0], "gone_404")
    items.append(standin.add_item(data=False))
    # A first 404 is tried once more after this time.
    queue = DownloadQueue(items, conf=alone.replace(offline_poll_seconds=1.0))

    status = queue.run()

    assert status.states[State.SUCCESS] == 2
    assert status.states[State.FAILURE] == 2
    said = capfd.readouterr().err
    assert "no such file" in said
    assert "none of its assets is data" in said


def test_a_path_of_another_item_is_refused_by_name(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """A path that the ledger gave to another item fails, with both named; its file is kept."""
    one, other = (standin.add_item(KiB, title="twin.zip") for _ in range(2))
    worker()
    DownloadQueue(one, conf=settings, quiet=True).run()
    queue = DownloadQueue(other, conf=settings, quiet=True)

    status = queue.run()

    (refused,) = queue.results
    assert status.states[State.FAILURE] == 1
    assert refused.error is not None
    assert refused.error.type == "NameTakenError"
    assert one["id"] in refused.error.message
    assert other["id"] in refused.error.message
    assert (queue.download_dir / "twin.zip").stat().st_size == KiB
    assert len(standin.downloads()) == 1


def test_a_refused_key_is_said_at_once(
    standin: StandIn, alone: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a bad key the run ends, says which key and what to do, and goes on with a good one."""
    items = fill(standin, 2)
    bad = alone.replace(api_key=Secret("a-key-that-is-not-known"))

    status = DownloadQueue(items, conf=bad).run()

    assert status.waiting == {"auth": 2}
    said = capfd.readouterr().err
    assert "was refused. Make a new key" in said
    assert "a-key-that-is-not-known" not in said
    assert DownloadQueue(items, conf=alone).run().states[State.SUCCESS] == 2


def test_a_folder_that_takes_nothing_is_said_at_once(alone: Config, tmp_path: Path) -> None:
    """Where the download folder is a file, that is said before anything starts."""
    (tmp_path / "taken").write_text("a file")
    queue = DownloadQueue([], tmp_path / "taken", conf=alone)

    with pytest.raises(NotAFileError, match="taken"):
        queue.run()


def test_an_empty_queue_is_no_error(alone: Config) -> None:
    """A search that found nothing gives a queue that has nothing to do."""
    assert DownloadQueue([], conf=alone).run().total == 0


def test_a_generator_lasts_for_two_runs(standin: StandIn, alone: Config) -> None:
    """Items that can be walked through only once are there for the second run too."""
    queue = DownloadQueue((item for item in fill(standin, 2)), conf=alone, quiet=True)

    assert queue.run().total == queue.run().total == 2


def test_two_queues_in_one_folder_are_told_apart(standin: StandIn, alone: Config) -> None:
    """A second process in the same folder is told whose run is under way."""
    queue = DownloadQueue(fill(standin, 1), conf=alone)

    with (
        runs.begun([], Path(alone.download_dir).absolute(), alone),
        pytest.raises(FolderBusyError, match=f"process {os.getpid()}"),
    ):
        queue.run()


def test_a_batch_name_can_be_used_again(standin: StandIn, alone: Config) -> None:
    """The counts of a batch are right too when a forgotten batch had the same name."""
    selection = Selection(Path(alone.download_dir).absolute())
    items = fill(standin, 2)

    for _ in range(2):
        planned = planning.plan(readers.items_of(items), selection)
        with runs.begun(planned, selection.folder, alone, "mine") as run:
            status = run.watch(View())

    assert dict(status.outcomes) == {"DOWNLOADED": 0, "RESUMED": 0, "ALREADY_PRESENT": 2}


# --- interrupted -------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from geodes_tasks.pygeodes.download_queue import DownloadQueue
queue = DownloadQueue("items.json", "files")
try:
    queue.run()
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
    if sys.argv[1:] != ["again"]:
        sys.exit(130)
    queue.run()
print(json.dumps([str(finding) for finding in queue.check_integrity()]))
"""


@pytest.fixture
def script(standin: StandIn, alone: Config, tmp_path: Path) -> Iterator[Any]:
    """Give what starts a plain script with a queue of slow items."""
    # Slow enough that no file ends within the grace of a stopping worker.
    standin.settings.change(rate=0.6 * MiB, range="good")
    items = fill(standin, 4, 2 * MiB)
    (tmp_path / "items.json").write_text(json.dumps(items))
    variables = config.environment(alone)
    del variables["GEODES_TASKS_REDIS_URL"]
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *words],
            env=os.environ | variables,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def interrupted(process: subprocess.Popen[str], standin: StandIn) -> None:
    """Press Ctrl-C in the middle of the first files."""
    wait_until(lambda: sum(r.bytes_sent for r in standin.downloads()) > 1 * MiB, 30)
    process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_and_a_new_process(standin: StandIn, script: Any, tmp_path: Path) -> None:
    """A new process goes on where an interrupted one stopped; bytes on disk are not fetched."""
    first = script()
    interrupted(first, standin)
    out, err = first.communicate(timeout=60)

    assert first.returncode == 130
    assert "INTERRUPTED" in out
    assert "of 4 downloads" in err
    assert "left; run() continues" in err
    standin.settings.change(rate=None)
    second = script()
    out, err = second.communicate(timeout=60)
    assert (second.returncode, json.loads(out)) == (0, []), err
    assert any(request.status == 206 for request in standin.downloads())
    sent = sum(request.bytes_sent for request in standin.downloads())
    # What was in sockets and buffers at the moment of Ctrl-C is lost, and no more.
    assert sent < 8 * MiB + 2 * MiB
    assert len(paths_of(tmp_path / "files")) == 4


def test_ctrl_c_and_the_same_queue(standin: StandIn, script: Any, tmp_path: Path) -> None:
    """In the same process ``run()`` again goes on too, as in a notebook's cell."""
    process = script("again")
    interrupted(process, standin)

    out, err = process.communicate(timeout=90)

    interruption, findings = out.splitlines()
    assert (interruption, json.loads(findings)) == ("INTERRUPTED", []), err
    assert len(paths_of(tmp_path / "files")) == 4


# --- check -------------------------------------------------------------------------------------


def test_check_integrity_says_what_is_wrong(
    standin: StandIn, alone: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """A missing, a changed and an unfinished file are told apart, in words and as data."""
    items = fill(standin, 4)
    standin.fault(items[3], "gone_404")
    DownloadQueue(items, conf=alone.replace(offline_poll_seconds=1.0)).run()
    gone, changed, _ = paths_of(Path(alone.download_dir))
    gone.unlink()
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")

    # Another queue, as in a new process: what happened is in the ledger.
    findings = DownloadQueue(items, conf=alone).check_integrity()

    assert [(Path(f.path).name, f.problem) for f in findings] == [
        (gone.name, Problem.MISSING),
        (changed.name, Problem.CHANGED),
        (f"{items[3]['properties']['identifier']}.zip", Problem.UNFINISHED),
    ]
    assert findings[0].item_id == items[0]["id"]
    assert "no such file" in findings[2].detail
    assert "1 of 4 files correct" in capfd.readouterr().err


def test_check_integrity_before_the_first_run(standin: StandIn, alone: Config) -> None:
    """Where nothing was downloaded yet everything is unfinished, and nothing is made for it."""
    findings = DownloadQueue(fill(standin, 2), conf=alone).check_integrity()

    assert [finding.problem for finding in findings] == [Problem.UNFINISHED] * 2
    assert not Path(alone.download_dir).exists()


# --- a cluster ---------------------------------------------------------------------------------


def test_with_a_redis_the_cluster_works(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """With a Redis named the same calls send the work to its workers; nothing starts here."""
    worker(settings=settings)
    queue = DownloadQueue(fill(standin, 4), conf=settings)

    queue.run()

    assert len(paths_of(queue.download_dir)) == 4
    assert queue.check_integrity() == []
    # The worker's note of its ledger is there, no private ledger.
    assert [path.name for path in settings.state_dir.iterdir()] == ["ledgers"]
    again = queue.run()
    assert again.outcomes[Outcome.ALREADY_PRESENT] == 4
    assert Ledger.of(settings).reading.batches() == [queue.id]


# --- Profile -----------------------------------------------------------------------------------


def test_profile_tells_what_was(standin: StandIn, alone: Config) -> None:
    """After a run its downloads are recent, with times; reset begins a new history."""
    DownloadQueue(fill(standin, 2), conf=alone).run()

    profile = Profile.load(alone)

    (first, *_) = profile.recent_downloads("this_week")
    assert profile.nb_downloads == 2
    assert profile.current_downloads() == profile.pending_downloads() == []
    assert first.time_taken is not None
    assert Path(first.destination).is_file()
    assert first.time_taken.total_seconds() >= 0
    Profile.reset(alone)
    assert Profile.load(alone).nb_downloads == 0
    assert len(paths_of(Path(alone.download_dir))) == 2


def test_profile_sees_what_another_process_downloads(
    standin: StandIn, script: Any, alone: Config
) -> None:
    """Current and pending downloads of any process are seen while they are."""
    script()
    wait_until(lambda: sum(r.bytes_sent for r in standin.downloads()) > 1 * MiB, 30)

    profile = Profile.load(alone)

    running, pending = profile.current_downloads(), profile.pending_downloads()
    assert len(running) == len(pending) == 2
    assert all((one.done_bytes or 0) >= 0 for one in running)
    assert running[0].completed_at is None


@pytest.mark.slow
def test_watching_ends_with_the_downloads(
    standin: StandIn, script: Any, alone: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """``watch_downloads`` shows another process at work, and ends when that is done."""
    process = script()
    wait_until(lambda: len(standin.downloads()) > 1, 30)
    begun = time.monotonic()

    Profile.watch_downloads(refresh_rate=0.3, conf=alone)

    lines = capfd.readouterr().err.splitlines()
    assert "Current downloads: 2 | Pending downloads: 2" in lines[0]
    assert "Current downloads: 0 | Pending downloads: 0" in lines[-1]
    process.wait(30)
    assert time.monotonic() - begun < 60


def test_profile_in_a_cluster(standin: StandIn, settings: Config) -> None:
    """In a cluster the profile is that of all: what waits for a worker is pending."""
    admitted = planning.plan(
        readers.items_of(fill(standin, 3)), Selection(Path(settings.download_dir).absolute())
    )
    runs.admitted(admitted, settings)

    profile = Profile.load(settings)

    assert len(profile.pending_downloads()) == 3
    with pytest.raises(ValueError, match="'today' or 'this_week'"):
        profile.recent_downloads("ever")  # type: ignore[arg-type] # on purpose
