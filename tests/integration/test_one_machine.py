"""One-machine mode from end to end: one command, every file proven, nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import signal
import socket
import subprocess
import termios
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import redis

from geodes_tasks.client.enqueue_admission import proof_at
from geodes_tasks.client.local_server import MANY_FILES, OneMachine, cores
from geodes_tasks.client.planning import Selection, plan
from geodes_tasks.client.private_server import runtime_folder
from geodes_tasks.ledger import Claim, Ledger
from geodes_tasks.ledger.script_loader import script_text
from geodes_tasks.model.results import DownloadResult
from geodes_tasks.model.states import Outcome
from geodes_tasks.settings import config
from geodes_tasks.stac import readers
from tests import demo
from tests.conftest import require_server
from tests.integration.door import Door
from tests.integration.fleet import at_once
from tests.integration.test_cli import (
    CommandLine,
    command,
    file_of,
    files_in,
    one_object,
    still_running,
    write_items,
    wrong_files,
)
from tests.servers import wait_until
from tests.standin import KiB, MiB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from geodes_tasks.client.planning import Planned
    from geodes_tasks.ledger import Request
    from tests.standin import Item, StandIn

SLOW = 100 * KiB
"""Bytes a second at which no file of these tests ends before somebody interrupts it."""
STATES = dict.fromkeys(("PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"), 0)
STOP_S = 20.0
"""What a killed command's children may take to notice it and end."""


@pytest.fixture
def cli(standin: StandIn) -> Iterator[CommandLine]:
    """Give the command line, where there is a server for it to start."""
    require_server()
    cli = CommandLine(standin)
    yield cli
    cli.close()


def seed(standin: StandIn, count: int, size: int) -> list[Item]:
    """Add items, and write them to ``items.json``."""
    items = [standin.add_item(size) for _ in range(count)]
    write_items(items)
    return items


def await_transfers(standin: StandIn) -> None:
    """Wait until bytes come in."""
    wait_until(lambda: any(one.bytes_sent for one in standin.downloads()), 30.0, "a transfer")


def reap(process: subprocess.Popen[str], timeout_s: float = 30.0) -> tuple[str, str]:
    """Wait for the end of a command, and take what it wrote; too slow, it is killed."""
    try:
        return process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


# --- twice ---------------------------------------------------------------------------------------


def test_twenty_items_then_nothing_more(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """Every file is fetched once and right; asked again, nothing is; nothing is left beside."""
    items = seed(standin, 20, 2 * MiB)

    first = cli("download", "items.json", "-o", "out", "--json", "-j", "4")
    requests = len(standin.downloads())
    second = cli("download", "items.json", "-o", "out", "--json")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert one_object(first.stdout)["outcomes"]["DOWNLOADED"] == 20
    assert one_object(second.stdout)["outcomes"]["ALREADY_PRESENT"] == 20
    assert (requests, len(standin.downloads())) == (20, 20)
    assert wrong_files(standin, items) == []
    assert files_in("out") == {file_of(item).name for item in items}
    assert still_running(tmp_path) == {}


def test_a_command_for_few_files_does_not_load_celery(cli: CommandLine, standin: StandIn) -> None:
    """The worker that it starts sends the messages: Celery is loaded once, not twice."""
    items = write_items([standin.add_item(KiB) for _ in range(3)])

    done = cli("download", items, "-o", "out", PYTHONPROFILEIMPORTTIME="1")

    imports = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert done.returncode == 0, done.stderr
    assert len(files_in()) == 3
    assert imports
    assert not [line for line in imports if "celery" in line or "kombu" in line]


def test_wrong_bytes_under_the_right_name_are_replaced(cli: CommandLine, standin: StandIn) -> None:
    """A name proves nothing: other bytes of the same size are replaced, right ones are kept."""
    wrong, right = seed(standin, 2, 64 * KiB)
    Path("out").mkdir()
    file_of(wrong).write_bytes(bytes(64 * KiB))
    file_of(right).write_bytes(b"".join(standin.body(right).chunks(0, 64 * KiB)))

    said = cli("download", "items.json", "-o", "out", "--no-progress")

    assert said.stderr.splitlines()[-1] == "2 of 2 done (1 downloaded, 1 already here)"
    assert wrong_files(standin, [wrong, right]) == []
    assert standin.downloads(right) == []


# --- many small files ----------------------------------------------------------------------------


def log_of(folder: Path) -> str:
    """Give the log of the workers of the only run; empty before there is one."""
    return "".join(log.read_text() for log in folder.glob("state/*/worker.log"))


def test_many_small_files_have_a_worker_for_each_core(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """Python works on one core a process; ``-j`` stays the limit of all of them together."""
    items = seed(standin, MANY_FILES, KiB)

    said = cli("download", "items.json", "-o", "out", "-j", "2")

    assert said.returncode == 0, said.stderr
    assert log_of(tmp_path).count(" ready.") == min(cores(), 2)
    assert wrong_files(standin, items) == []
    assert at_once(standin.downloads()) <= 2
    assert still_running(tmp_path) == {}


@pytest.mark.skipif(cores() < 2, reason="one processor core")
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no list of cores on this system")
def test_a_worker_of_small_files_uses_one_core(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """The threads of a worker do not wait for each other on different cores."""
    seed(standin, MANY_FILES, 2 * KiB)
    standin.settings.rate = KiB
    process = cli.begin("download", "items.json", "-o", "out", "-j", str(4 * cores()))

    def used() -> list[int]:
        workers = [p for p, what in still_running(tmp_path).items() if "worker.one_machine" in what]
        return [len(cores_of(pid)) for pid in workers]

    wait_until(lambda: used() == [1] * cores(), 30.0, "workers with one core each")
    process.send_signal(signal.SIGINT)
    reap(process)


def cores_of(pid: int) -> set[int]:
    """Give the cores that the threads of a process may use."""
    found = set[int]()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            found |= os.sched_getaffinity(int(thread.name))
    return found


# --- ten thousand --------------------------------------------------------------------------------

MANY = 10_000
LONG_AGO_NS = 86_400 * 10**9
"""An access time before every modification time: with ``relatime`` any read moves it."""
AT_ONCE = 200
"""Downloads that are proven side by side."""


def many_items(folder: Path, portal_url: str) -> list[Item]:
    """Write files that nobody has downloaded here yet, and items that announce them."""
    folder.mkdir()
    return [small_item(folder, portal_url, number) for number in range(MANY)]


def small_item(folder: Path, portal_url: str, number: int) -> Item:
    """Write one file and announce it; its access time is long ago."""
    content, title = f"content of file {number}\n".encode(), f"P{number:05}.zip"
    digest, urn = hashlib.md5(content).hexdigest(), f"URN:FEATURE:DATA:gdh:{number}:V1"
    path = folder / title
    path.write_bytes(content)
    os.utime(path, ns=(LONG_AGO_NS, path.stat().st_mtime_ns))
    asset = {
        "href": f"{portal_url}/api/download/{urn}/files/{digest}",
        "title": title,
        "roles": ["data"],
        "description": f"File size: {len(content)} bytes\nChecksum MD5: {digest}",
    }
    properties = {"identifier": title[:-4]}
    return {"type": "Feature", "id": urn, "properties": properties, "assets": {title: asset}}


def prove_all(folder: Path, source: str) -> None:
    """Bring the private ledger to where a first run over these files would have left it."""
    settings = config.load(download_dir=folder, max_concurrent=AT_ONCE)
    with OneMachine(settings, folder) as machine:
        ledger = Ledger.of(machine.settings)
        planned: list[Planned] = list(plan(readers.read(source), Selection(folder)))
        requests = [request for one in planned for request in one.requests]
        for start in range(0, len(requests), AT_ONCE):
            prove(ledger, requests[start : start + AT_ONCE])
        ledger.connection.client.close()


def prove(ledger: Ledger, requests: list[Request]) -> None:
    """Record files as downloaded and proven."""
    ledger.admission.admit(
        "before", "default", requests, lambda one: proof_at(one.path, one.asset)
    )()
    claims = together(
        ledger, [partial(ledger.leases.claim, one.download_id, "w") for one in requests]
    )
    together(ledger, [partial(ledger.leases.finish, claim, result_of(claim)) for claim in claims])


def result_of(claim: Any) -> DownloadResult:
    """Say what the engine would have said of the file that is there."""
    assert isinstance(claim, Claim)
    proof = proof_at(claim.path, claim.asset)
    assert proof is not None
    return DownloadResult(
        outcome=Outcome.DOWNLOADED, path=claim.path, size_bytes=proof.size_bytes,
        checksum=claim.asset.checksum, verified=True, bytes_transferred=proof.size_bytes,
        source="geodes", proof=proof,
    )  # fmt: skip


class QueuedError(Exception):
    """A question was put into the pipeline; its answer comes later."""


def together(ledger: Ledger, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make calls of the ledger in one round trip: each is made twice, to ask and to be answered."""
    connection = ledger.connection
    pipeline = connection.client.pipeline(transaction=False)

    def queue(script: str, *args: Any) -> None:
        pipeline.eval(script_text(script), 1, connection.prefix, *args)
        raise QueuedError

    with patch.object(ledger.connection, "run", queue):
        for call in calls:
            with contextlib.suppress(QueuedError):
                call()
    answers = iter(pipeline.execute())

    def answer(script: str, *_: Any) -> Any:
        # An attempt's end may have room for more: nothing is left to release.
        return [""] if script == "release_downloads" else next(answers)

    with patch.object(ledger.connection, "run", answer):
        return [call() for call in calls]


def reads_show(path: Path) -> bool:
    """Tell whether this file system keeps access times, by reading a file of our own."""
    path.write_bytes(b"x")
    os.utime(path, ns=(LONG_AGO_NS, path.stat().st_mtime_ns))
    path.read_bytes()
    return path.stat().st_atime_ns != LONG_AGO_NS


@pytest.mark.slow
def test_ten_thousand_proven_files_are_not_read(
    cli: CommandLine, standin: StandIn, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    """The second run over 10,000 proven files opens none of them, and asks the portal nothing."""
    if not reads_show(tmp_path / "control"):
        pytest.skip("this file system keeps no access times")
    write_items(many_items(tmp_path / "out", standin.url))
    prove_all(tmp_path / "out", "items.json")
    begun = time.monotonic()

    said = cli("download", "items.json", "-o", "out", "--json")

    seconds = time.monotonic() - begun
    record_property("seconds", round(seconds, 1))  # type: ignore[operator] # a function, untyped
    print(f"{MANY} proven files: {seconds:.1f} s")
    assert one_object(said.stdout)["outcomes"]["ALREADY_PRESENT"] == MANY
    read = [path.name for path in Path("out").iterdir() if path.stat().st_atime_ns != LONG_AGO_NS]
    assert read == []
    assert standin.downloads() == []
    assert seconds < 30.0


# --- Ctrl-C, kill --------------------------------------------------------------------------------


def interrupt(process: subprocess.Popen[str], whom: str) -> None:
    """Send SIGINT as ``kill -INT`` does, or to the whole group as a terminal does."""
    send = os.killpg if whom == "group" else os.kill
    send(process.pid, signal.SIGINT)


def test_interrupted_then_completed(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """Ctrl-C says what is left and exits 130; the same command again brings the rest."""
    items = seed(standin, 4, MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out", GEODES_TASKS_GRACE_SECONDS="1")
    await_transfers(standin)

    interrupt(process, "group")
    _, said = reap(process)
    left_running = still_running(tmp_path)
    idle = "no run is under way: `geodes-tasks download ... -o "
    between = cli("status", "-o", "out")
    standin.settings.rate = None
    again = cli("download", "items.json", "-o", "out")

    assert process.returncode == 130
    assert idle in between.stderr
    assert idle not in cli("status", "-o", "out").stderr
    assert "interrupted: stopping" in said
    assert "4 of 4 downloads" in said
    assert "the same command again continues" in said
    assert "Traceback" not in said
    assert left_running == {}
    assert again.returncode == 0, again.stderr
    assert wrong_files(standin, items) == []
    assert files_in("out") == {file_of(item).name for item in items}


@pytest.fixture
def hangups() -> Iterator[None]:
    """Have new processes react to SIGHUP, also where `nohup` started the tests: it is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("is_terminal", [False, True], ids=["log", "terminal"])
def test_a_closed_terminal_is_ctrl_c(
    cli: CommandLine, standin: StandIn, tmp_path: Path, is_terminal: bool
) -> None:
    """SIGHUP, twice as a shell sends it, ends all processes, with the last line of Ctrl-C."""
    seed(standin, 2, MiB)
    standin.settings.rate = SLOW
    words = ("download", "items.json", "-o", "out")
    if is_terminal:
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command(*words), env=os.environ | cli.settings | {"TERM": "xterm-256color"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
        ) as process:  # fmt: skip
            os.close(theirs)
            os.set_blocking(ours, False)
            while not standin.downloads():
                with contextlib.suppress(BlockingIOError):
                    os.read(ours, 65536)
                time.sleep(0.05)
            # The kernel sends SIGHUP to the session that had the terminal.
            os.close(ours)
            code = process.wait(20)
    else:
        begun = cli.begin(*words)
        await_transfers(standin)
        begun.send_signal(signal.SIGHUP)
        begun.send_signal(signal.SIGHUP)
        _, said = reap(begun)
        code = begun.returncode
        assert said.splitlines()[-1].endswith(" left; the same command again continues")

    assert code == 130
    assert still_running(tmp_path) == {}


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [("download", "items.json", "-o", "out"), ("watch", "-o", "out")])
def test_a_signal_leaves_the_terminal_as_it_was(
    cli: CommandLine, standin: StandIn, tmp_path: Path, words: tuple[str, ...], way: signal.Signals
) -> None:
    """The cursor is shown again, keys are echoed, and the first screen is back: ``timeout 60``."""
    seed(standin, 2, MiB)
    standin.settings.rate = SLOW
    is_watch = words[0] == "watch"
    run = cli.begin("download", "items.json", "-o", "out") if is_watch else None
    if run is not None:
        await_transfers(standin)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        command(*words), env=os.environ | cli.settings | {"TERM": "xterm-256color"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:  # fmt: skip
        os.set_blocking(ours, False)
        shown = b""
        while b"\x1b[?25l" not in shown or not standin.downloads():
            with contextlib.suppress(BlockingIOError):
                shown += os.read(ours, 65536)
            time.sleep(0.05)
        process.send_signal(way)
        code = process.wait(20)
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(ours, 65536):
            shown += piece
    mode = termios.tcgetattr(theirs)
    os.close(ours)
    os.close(theirs)
    if run is not None:
        run.send_signal(signal.SIGINT)
        reap(run)

    assert code == (-signal.SIGTERM if way is signal.SIGTERM else 130)
    assert mode == before
    if way is signal.SIGTERM:  # a terminal that is closed takes no more
        assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
        assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l")
    assert still_running(tmp_path) == {}


def test_a_service_that_is_stopped_names_no_damage(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """The system and Slurm send SIGTERM to all processes at once, the private server's too."""
    seed(standin, 2, MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out")
    await_transfers(standin)
    family = [int(pid) for pid in still_running(tmp_path)]
    for pid in {process.pid, *family}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    _, said = reap(process)

    assert process.returncode == -signal.SIGTERM
    assert said.splitlines()[-1].endswith("the same command again continues")
    assert "remove" not in said
    assert still_running(tmp_path) == {}


def test_a_server_that_takes_no_changes_is_named(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """As when its volume is full: one line says so, and the run continues when it takes them."""
    seed(standin, 6, MiB)
    standin.settings.rate = MiB
    process = cli.begin("download", "items.json", "-o", "out", "-j", "1")
    await_transfers(standin)
    (path,) = runtime_folder().glob(f"*-{process.pid}.sock")
    server = redis.Redis(unix_socket_path=str(path))
    server.config_set("min-replicas-to-write", 1)
    time.sleep(6.0)
    server.config_set("min-replicas-to-write", 0)
    server.close()
    standin.settings.rate = None

    _, said = reap(process, 60.0)

    assert process.returncode == 0, said
    assert said.count("takes no changes: NOREPLICAS") == 1
    assert said.count("it continues by itself") == 1


@pytest.mark.slow
def test_an_outage_is_waited_for(cli: CommandLine, standin: StandIn) -> None:
    """The portal is away at the start and in the middle: the run waits, and ends well."""
    standin.settings.change(latency_s=0.2)
    items = seed(standin, 12, KiB)
    with Door(int(standin.url.rpartition(":")[2])) as door:
        text = Path("items.json").read_text().replace(standin.url, door.url)
        Path("items.json").write_text(text)
        variables = {"GEODES_TASKS_PORTAL_URL": door.url, "GEODES_TASKS_PROBE_SECONDS": "0.5"}
        process = cli.begin("download", "items.json", "-o", "out", **variables)
        time.sleep(4.0)
        door.open()
        wait_until(lambda: len(files_in("out")) > 2, 30.0, "the first files")
        door.shut()
        time.sleep(3.0)
        door.open()
        _, said = reap(process, 60.0)

    assert process.returncode == 0, said
    assert "(outage)" in said
    assert files_in("out") == {file_of(item).name for item in items}


def test_a_failed_run_names_its_log(cli: CommandLine, standin: StandIn) -> None:
    """The last lines of a run that did not bring all files say where the worker's log is."""
    (item,) = seed(standin, 1, KiB)
    standin.fault(item, "licence_423")

    done = cli("download", "items.json", "-o", "out")

    assert done.returncode == 3
    path = Path(done.stderr.rsplit("the log of this run's worker: ", 1)[1].strip())
    assert "LicenceError" in path.read_text()


def test_a_run_without_a_worker_names_no_log(cli: CommandLine, standin: StandIn) -> None:
    """Where every item is refused no worker starts, and there is no log to read."""
    (item,) = seed(standin, 1, KiB)
    write_items([item | {"assets": {}}])

    done = cli("download", "items.json", "-o", "out")

    assert done.returncode == 3, done.stderr
    assert "log" not in done.stderr


def test_interrupted_by_process_id(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """SIGINT to the command alone, as ``kill -INT`` sends it, ends its server and worker too."""
    seed(standin, 2, MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out", GEODES_TASKS_GRACE_SECONDS="0")
    await_transfers(standin)

    interrupt(process, "process")
    _, said = reap(process)

    assert process.returncode == 130
    assert "interrupted: stopping" in said
    assert "2 of 2 downloads" in said
    assert still_running(tmp_path) == {}


def test_interrupted_stops_within_seconds(cli: CommandLine, standin: StandIn) -> None:
    """With the settings that everybody has, Ctrl-C takes no more than five seconds."""
    seed(standin, 2, 4 * MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out")
    await_transfers(standin)

    interrupt(process, "group")
    reap(process, 5.0)

    assert process.returncode == 130


def test_a_second_ctrl_c_leaves_nothing_running(
    cli: CommandLine, standin: StandIn, tmp_path: Path
) -> None:
    """Impatience is safe: pressed twice, the command ends at once and takes its worker along."""
    seed(standin, 2, 4 * MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out", GEODES_TASKS_GRACE_SECONDS="8")
    await_transfers(standin)

    interrupt(process, "group")
    time.sleep(0.7)
    interrupt(process, "group")
    _, said = reap(process)
    left_running = still_running(tmp_path)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert left_running == {}


def test_killed_leaves_nothing_running(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """When the command is killed, its server and its worker end by themselves."""
    seed(standin, 2, 2 * MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out", GEODES_TASKS_GRACE_SECONDS="1")
    await_transfers(standin)

    process.kill()
    reap(process)

    assert still_running(tmp_path) != {}
    wait_until(lambda: not still_running(tmp_path), STOP_S, "the end of server and worker")


@pytest.mark.slow
def test_killed_with_several_workers(cli: CommandLine, standin: StandIn, tmp_path: Path) -> None:
    """All workers of a killed command requeue their downloads, then the server ends."""
    items = seed(standin, MANY_FILES, 2 * KiB)
    standin.settings.rate = KiB
    process = cli.begin(
        "download", "items.json", "-o", "out", "-j", "4", GEODES_TASKS_GRACE_SECONDS="1"
    )
    wait_until(lambda: log_of(tmp_path).count(" ready.") == min(cores(), 4), 30.0, "all workers")
    await_transfers(standin)

    process.kill()
    reap(process)
    wait_until(lambda: not still_running(tmp_path), STOP_S, "the end of server and workers")
    standin.settings.rate = None
    again = cli("download", "items.json", "-o", "out")

    assert again.returncode == 0, again.stderr
    assert wrong_files(standin, items) == []


def test_killed_and_run_again_at_once(cli: CommandLine, standin: StandIn) -> None:
    """Nobody has to wait for the remains of a killed command: the next one takes over."""
    items = seed(standin, 3, 2 * MiB)
    standin.settings.rate = SLOW
    process = cli.begin("download", "items.json", "-o", "out", GEODES_TASKS_GRACE_SECONDS="1")
    await_transfers(standin)

    process.kill()
    reap(process)
    standin.settings.rate = None
    again = cli("download", "items.json", "-o", "out")

    assert again.returncode == 0, again.stderr
    assert wrong_files(standin, items) == []


# --- two at once ---------------------------------------------------------------------------------


def test_two_folders_at_once(cli: CommandLine, standin: StandIn) -> None:
    """Two runs in two folders do not disturb each other, even over the same items."""
    items = seed(standin, 3, 128 * KiB)
    standin.settings.rate = 128 * KiB

    runs = [cli.begin("download", "items.json", "-o", folder) for folder in ("one", "two")]
    said = [reap(run, 60.0)[1] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], said
    assert wrong_files(standin, items, "one") + wrong_files(standin, items, "two") == []


def test_the_same_folder_twice_is_refused(cli: CommandLine, standin: StandIn) -> None:
    """A second run in a folder is refused in one line that names the first; that one goes on."""
    items = seed(standin, 2, 320 * KiB)
    standin.settings.rate = 64 * KiB
    first = cli.begin("download", "items.json", "-o", "out")
    await_transfers(standin)

    second = cli("download", "items.json", "-o", "out/")
    reap(first)

    (line,) = second.stderr.splitlines()
    assert second.returncode == 1
    assert "another run downloads into this folder already" in line
    assert f"process {first.pid}" in line
    assert first.returncode == 0
    assert wrong_files(standin, items) == []


# --- what is shown -------------------------------------------------------------------------------


def test_data_to_stdout_plain_lines_to_stderr(cli: CommandLine, standin: StandIn) -> None:
    """In a pipe: the status as one object on stdout; whole lines without colours on stderr."""
    seed(standin, 3, 64 * KiB)

    said = cli("download", "items.json", "-o", "out", "--json")

    lines = said.stderr.splitlines()
    told = one_object(said.stdout)
    assert told.pop("owner").endswith(f"@{socket.gethostname()}")
    assert datetime.fromisoformat(told.pop("enqueued_at")).tzinfo is not None
    assert [one["name"] for one in told.pop("accounts")] == ["default"]
    assert told.pop("workers")["silent"] == []
    assert told == {
        "batch": told["batch"],
        "bytes_per_second": 0,
        "expected_end": None,
        "paused": [],
        "failures": [],
        "total": 3,
        "states": STATES | {"SUCCESS": 3},
        "outcomes": {"DOWNLOADED": 3, "RESUMED": 0, "ALREADY_PRESENT": 0},
        "waiting": {},
        "bytes_total": 3 * 64 * KiB,
        "bytes_done": 3 * 64 * KiB,
    }
    assert "\x1b" not in said.stderr
    assert lines[-1] == "3 of 3 done (3 downloaded)"
    assert lines[0].startswith("3 files, 196.6 kB: 3 from the portal; ")
    assert all(" of 3 done" in line for line in lines[1:]), lines


def on_a_terminal(cli: CommandLine, *arguments: str) -> tuple[int, str]:
    """Run a command whose stderr is a terminal; give its exit code and what was drawn."""
    ours, theirs = pty.openpty()
    seen = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        command(*arguments), env=os.environ | cli.settings | seen,
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = drained(ours)
    os.close(ours)
    return process.returncode, drawn


def drained(terminal: int) -> str:
    """Read a terminal until nobody holds its other side."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO, how Linux says it
            piece = b""
        if not piece:
            return b"".join(pieces).decode(errors="replace")
        pieces.append(piece)


def test_bars_with_file_names_on_a_terminal(cli: CommandLine, standin: StandIn) -> None:
    """On a terminal every running file has a bar with its name, bytes and speed, and so has all."""
    names = ["FIRST_SCENE", "SECOND_SCENE"]
    write_items(standin.add_item(512 * KiB, identifier=name) for name in names)
    standin.settings.rate = 256 * KiB

    code, drawn = on_a_terminal(cli, "download", "items.json", "-o", "out")

    assert code == 0
    assert all(f"{name}.zip" in drawn for name in names)
    assert "━" in drawn
    assert "524.3 kB" in drawn
    assert "/s" in drawn
    assert "2 of 2 done (2 downloaded)" in drawn


# --- the demonstration ---------------------------------------------------------------------------


def test_the_demonstration_says_what_to_do_next(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A plain ``make run`` needs no key and no network, and ends with what to do next."""
    require_server()
    monkeypatch.setattr(demo, "RATE", None)
    monkeypatch.setattr("sys.argv", ["demo", "--to", "out"])

    code = demo.main()

    said = capfd.readouterr().err
    assert code == 0
    assert f"{len(demo.SIZES)} of {len(demo.SIZES)} done" in said
    assert len(files_in("out")) == len(demo.SIZES)
    assert "make run ITEMS=items.json TO=out" in said
    assert "download items.json -o out" in said
    assert still_running(tmp_path) == {}
