"""What the downloads of one worker process share."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from geodes_tasks.errors import DiskError, LedgerUnavailableError, OutsideRootsError
from geodes_tasks.ledger import Claim, Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.tasks import process
from geodes_tasks.tasks.allowed_folders import AllowedFolders
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.process import WorkerProcess
from geodes_tasks.tasks.stop_signal import STOP
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.leftovers import stem
from tests.unit.tasks.conftest import Bench


def test_a_forked_child_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has one instance, and its forked child makes its own."""
    made: list[WorkerProcess] = []
    monkeypatch.setattr(process, "_processes", made)
    os.register_at_fork(after_in_child=made.clear)
    first, same = process.worker_process(), process.worker_process()
    child = os.fork()
    if not child:
        os._exit(process.worker_process() is first)

    assert first is same
    assert os.waitpid(child, 0)[1] == 0


def test_without_s3_credentials_the_portal_is_the_only_source() -> None:
    """boto3 is not asked for what nobody may fetch."""
    alone = WorkerProcess(config.load())
    hrefs = {"s3": "s3://b/a", "geodes": "https://p/a"}

    assert alone.sources_in_use() == list(alone.transports("default", hrefs)) == ["geodes"]


# --- a stop ---------------------------------------------------------------------------------------


class ExitedError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "error",
    [LedgerUnavailableError("redis://h", "x"), OperationalError("x"), ZeroDivisionError("x")],
    ids=lambda error: type(error).__name__,
)
def test_the_last_resort_of_a_stop_ends_the_process_whatever_raises(
    bench: Bench, fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Attempts that cannot be requeued do not keep a stopping worker alive."""

    def fails(*_: object) -> None:
        raise error

    def exits(code: int) -> None:
        raise ExitedError(str(code))

    claim = fake_ledger.leases.claim(bench.request().download_id, "w")
    assert isinstance(claim, Claim)
    monkeypatch.setattr(bench.process.sender, "send", fails)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(os, "_exit", exits)
    attempt = LeasedAttempt(claim, fake_ledger, STOP)

    with pytest.raises(ExitedError, match="0"):
        bench.process.requeue_and_exit([attempt])


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_closes_this_worker(bench: Bench) -> None:
    """The work goes back, and the ledger has the folder for monitors."""
    bench.transport.errors = [DiskError("/data", "No space left on device")]
    request = bench.request()

    with pytest.raises(Ignore, match="disk"):
        bench.run(request)

    assert bench.record(request).reason == "disk"
    (worker,) = bench.ledger.connection.client.keys("*worker:w@host")
    assert bench.ledger.connection.client.hget(worker, "closed") == str(bench.folder)


def test_a_full_disk_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What was on its way when the disk filled up goes back without a second alarm."""
    bench.transport.errors = [DiskError("/data", "No space left on device")] * 2

    for name in ("a", "b"):
        with pytest.raises(Ignore, match="disk"):
            bench.run(bench.request(name=name))

    assert caplog.text.count("takes no more work") == 1


def test_a_path_outside_the_roots_is_refused(bench: Bench, tmp_path: Path) -> None:
    """What somebody wrote into Redis: nothing is asked of the network, nothing is written."""
    bench.process.folders = AllowedFolders((tmp_path / "allowed",))
    request = bench.request()

    with pytest.raises(OutsideRootsError, match="allowed only"):
        bench.run(request)

    record = bench.record(request)
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "OutsideRootsError"
    assert bench.transport.opened == []
    assert not (bench.folder / PART_FOLDER).exists()


def test_a_path_of_another_worker_is_left_to_it(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers with different folders: each takes its own, and what is nobody's still fails."""
    bench.process.folders = AllowedFolders((tmp_path / "allowed",))
    bench.ledger.dispatch.register("other@host", 4)
    bench.ledger.dispatch.publish("other@host", (), "", [bench.folder, tmp_path / "allowed"])
    requests = [bench.request(name=name) for name in ("a", "b")]

    for request in requests:
        with pytest.raises(Ignore, match="disk"):
            bench.run(request)

    record = bench.record(requests[0])
    assert (record.state, record.reason, record.attempts) == (State.RETRY, "disk", 0)
    assert caplog.text.count(f"{bench.folder}: this worker writes below") == 1
    bench.folder /= "../elsewhere"
    with pytest.raises(OutsideRootsError, match="allowed only"):
        bench.run(bench.request(name="c"))
    bench.ledger.dispatch.unregister("other@host")
    bench.folder = tmp_path / "downloads"
    with pytest.raises(OutsideRootsError, match="allowed only"):
        bench.run(bench.request(name="d"))
    assert bench.transport.opened == []


def test_litter_outside_the_roots_stays(bench: Bench, tmp_path: Path) -> None:
    """A worker removes nothing where it may not write, whoever asks for it."""
    request = bench.request()
    folder = bench.folder / PART_FOLDER
    folder.mkdir(parents=True)
    part = folder / f"{stem(Path(request.path), str(request.asset.checksum))}.1.part"
    part.write_bytes(b"bytes")
    bench.process.folders = AllowedFolders((tmp_path / "allowed",))

    bench.process.discard(request.asset, request.path, "2")
    assert part.exists()

    bench.process.folders = AllowedFolders((bench.folder,))
    bench.process.discard(request.asset, request.path, "2")
    assert not part.exists()
