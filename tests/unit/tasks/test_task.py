"""The task: claim, download, record. Every exception becomes a state, and none is lost."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from geodes_tasks.errors import (
    AuthError,
    DiskError,
    ForbiddenError,
    HrefRefusedError,
    LedgerUnavailableError,
    NotFoundError,
    OfflineError,
    OutsideRootsError,
    QuotaError,
    SourceUnavailableError,
    TransferError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Request, Wakeup
from geodes_tasks.ledger.leases import Leases
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings import config
from geodes_tasks.tasks import lease_keeper as attempts
from geodes_tasks.tasks import task
from geodes_tasks.tasks.allowed_folders import Roots
from geodes_tasks.tasks.app import TASK, make
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import retry
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.leftovers import stem
from tests.conftest import Clock, KiB, MemoryTransport, asset_of, some_bytes

CONTENT = some_bytes(200 * KiB)


class Bench:
    """One worker process as a test holds it: its desk, its task, what it sent and told."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        """Sit down."""
        settings = config.load(quota="off", backoff_seconds=1.0, max_attempts=3)
        self.ledger, self.folder = ledger, folder
        self.transport = MemoryTransport(CONTENT)
        self.sent: list[Wakeup] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.desk = task.Desk(settings)
        self.desk.ledger = self.desk.keeper.ledger = ledger
        self.desk.sender = self  # type: ignore[assignment] # it can send
        self.desk.transports = {"geodes": self.transport}
        self.task = make(settings).tasks[TASK]

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Take messages."""
        self.sent.extend(wakeups)

    def event(self, kind: str, **fields: Any) -> None:
        """Take an event."""
        self.events.append((kind, fields))

    def request(self, name: str = "a", **fields: Any) -> Request:
        """Ask for a file."""
        asset: Asset = asset_of(CONTENT, f"{name}.zip", **fields)
        request = Request(asset, str(self.folder / f"{name}.zip"))
        self.ledger.admission.admit("b", "default", [request], lambda _: None)
        return request

    def run(self, request: Request) -> dict[str, Any]:
        """Run the task as a worker does."""
        self.task.push_request(id=request.download_id, hostname="w@host")
        try:
            result: dict[str, Any] = self.task.run(item="i", file="f", size="1 B")
            return result
        finally:
            self.task.pop_request()

    def record(self, request: Request) -> DownloadRecord:
        """Read what was recorded."""
        record = self.ledger.reading.record(request.download_id)
        assert record is not None
        return record


@pytest.fixture
def bench(fake_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A worker process over a ledger and a transport in memory."""
    monkeypatch.setattr(attempts.LeaseKeeper, "_run", lambda _: None)
    bench = Bench(fake_ledger, tmp_path / "downloads")
    monkeypatch.setattr(task, "desk", lambda: bench.desk)
    monkeypatch.setattr(task.Row, "tell", lambda _, *a, **k: bench.event(*a, **k))
    # Of this module only: other threads of the process go on sleeping.
    clock = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    monkeypatch.setattr(task, "time", clock)
    yield bench
    task.STOP.clear()


def away(*_: object) -> None:
    """Be a Redis that does not answer."""
    raise LedgerUnavailableError("redis://h", "connection refused")


# --- success -------------------------------------------------------------------------------------


def test_a_download_ends_as_success(bench: Bench) -> None:
    """The file is there, the record says so, and so does what Flower shows."""
    request = bench.request()

    shown = bench.run(request)

    record = bench.record(request)
    assert Path(request.path).read_bytes() == CONTENT
    assert (record.state, record.outcome) == (State.SUCCESS, Outcome.DOWNLOADED)
    assert (record.verified, record.bytes_transferred) == (True, len(CONTENT))
    assert (record.worker, record.source) == ("w@host", "geodes")
    assert (shown["outcome"], shown["path"]) == ("DOWNLOADED", request.path)
    assert (shown["verified"], shown["attempts"]) == (True, 1)


def test_the_next_in_turn_is_woken(bench: Bench) -> None:
    """With its end a download hands its place on."""
    first, second = bench.request("a"), bench.request("b")

    bench.run(first)

    assert [wakeup.download_id for wakeup in bench.sent] == [second.download_id]


def test_messages_that_cannot_be_sent_change_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is recorded; recovery sends the messages later."""

    def broken(*_: object) -> None:
        raise OperationalError("broker away")

    monkeypatch.setattr(bench, "send", broken)
    request = bench.request()

    bench.run(request)

    assert bench.record(request).state is State.SUCCESS


def test_redis_away_at_the_end_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proven file is recorded when Redis is back."""
    real, calls = Leases.finish, iter([away, away])

    def succeed(*args: Any) -> Any:
        return next(calls, real)(*args)

    monkeypatch.setattr(Leases, "finish", succeed)
    request = bench.request()

    bench.run(request)

    assert bench.record(request).state is State.SUCCESS


# --- duplicates ----------------------------------------------------------------------------------


def test_a_duplicate_delivery_does_nothing(bench: Bench) -> None:
    """A finished download is not touched again, and its row in Flower shows how it ended."""
    request = bench.request()
    bench.run(request)
    before = bench.record(request)

    with pytest.raises(Ignore, match="finished"):
        bench.run(request)

    assert bench.record(request) == before
    assert len(bench.transport.opened) == 1
    assert ("task-succeeded", {"result": "DOWNLOADED", "runtime": 0.0}) in bench.events


def test_a_twin_leaves_a_running_download_alone(bench: Bench) -> None:
    """While another worker has the lease, this one leaves at once."""
    request = bench.request()
    bench.ledger.leases.claim(request.download_id, "other")

    with pytest.raises(Ignore, match="running"):
        bench.run(request)

    assert bench.transport.opened == []
    assert bench.record(request).worker == "other"


def test_an_unknown_message_is_dropped(bench: Bench) -> None:
    """A message of a ledger that was emptied does nothing."""
    unknown = Request(asset_of(CONTENT), str(bench.folder / "x.zip"))

    with pytest.raises(Ignore, match="unknown"):
        bench.run(unknown)

    assert bench.ledger.reading.record(unknown.download_id) is None


def test_a_stopping_worker_does_not_wait_to_claim(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis away and the worker ending: the message is left to others."""
    request = bench.request()
    monkeypatch.setattr(Leases, "claim", away)
    task.STOP.set(0.0)

    with pytest.raises(Ignore, match="no answer from Redis"):
        bench.run(request)

    assert bench.record(request).state is State.PENDING


# --- failures ------------------------------------------------------------------------------------


def test_a_transient_error_waits(bench: Bench) -> None:
    """RETRY with reason and due time; the part stays for the next attempt; Flower says why."""
    bench.transport.cuts = [100 * KiB]
    request = bench.request()

    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.reason, record.attempts) == (State.RETRY, "backoff", 1)
    assert record.due_at is not None
    assert record.bytes_transferred == 100 * KiB
    (entry,) = record.history
    assert (entry["worker"], entry["source"]) == ("w@host", "geodes")
    assert (entry["bytes"], entry["transferred"]) == (100 * KiB, 100 * KiB)
    assert str(entry["error"]).startswith("TruncatedBodyError: ")
    ((kind, fields),) = bench.events
    assert (kind, fields["exception"][:8]) == ("task-retried", "backoff:")


def test_the_next_attempt_resumes(bench: Bench, clock: Clock) -> None:
    """Bytes over both attempts are those of the file, and the outcome says RESUMED."""
    bench.transport.cuts = [100 * KiB]
    request = bench.request()
    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)
    clock.advance(5.0)
    bench.ledger.dispatch.recover()

    bench.run(request)

    record = bench.record(request)
    assert (record.outcome, record.attempts) == (Outcome.RESUMED, 2)
    assert record.bytes_transferred == len(CONTENT)
    assert not (bench.folder / PART_FOLDER).exists()


def test_the_last_attempt_ends_as_failure(bench: Bench, clock: Clock) -> None:
    """After the allowed attempts the error is raised for Celery and nothing is left on disk."""
    bench.transport.errors = [TransferError("h", f"reset {number}") for number in range(3)]
    request = bench.request()
    for _ in range(2):
        with pytest.raises(Ignore, match="backoff"):
            bench.run(request)
        clock.advance(60.0)

    with pytest.raises(TransferError, match="reset 2"):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.attempts, len(record.history)) == (State.FAILURE, 3, 3)
    assert record.error is not None
    assert (record.error.type, record.error.hint) == ("TransferError", TransferError.hint)
    assert not (bench.folder / PART_FOLDER).exists()


def test_a_hopeless_error_ends_at_once(bench: Bench) -> None:
    """A file that the portal does not know is not asked for twice."""
    bench.transport.errors = [NotFoundError("h", 404)]
    request = bench.request()

    with pytest.raises(NotFoundError, match="HTTP 404"):
        bench.run(request)

    assert bench.record(request).state is State.FAILURE


def test_a_defect_is_recorded_too(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody foresaw waits as a transient one, with a traceback in the log."""
    bench.transport.errors = [ZeroDivisionError("oops")]
    request = bench.request()

    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.reason) == (State.RETRY, "backoff")
    assert record.error is not None
    assert record.error.type == "ZeroDivisionError"
    assert any(line.exc_info for line in caplog.records)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AuthError("h", "the key in X", "401"), "auth"),
        (OfflineError("h", 410), "offline"),
    ],
)
def test_waiting_costs_no_attempt(bench: Bench, error: Exception, reason: str) -> None:
    """A refused key and a file on tape are not the file's failure."""
    bench.transport.errors = [error]
    request = bench.request()

    with pytest.raises(Ignore, match=reason):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.reason, record.attempts) == (State.RETRY, reason, 0)


def test_a_forbidden_file_may_come_yet_over_another_source(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The portal refuses this file and S3 broke: it is tried again; S3 lacks it too: it fails."""
    monkeypatch.setattr(bench.desk.keys, "accepts", lambda *_: True)
    seen = []
    for name, elsewhere in (
        ("a", TransferError("s3://b/a.zip", "reset")),
        ("b", SourceUnavailableError("s3", "s3://b/b.zip", "no such object")),
    ):
        datalake = MemoryTransport(CONTENT)
        datalake.errors = [elsewhere]
        bench.desk.transports = {"s3": datalake, "geodes": bench.transport}
        bench.transport.errors = [AuthError("h", "the key in X", "HTTP 403")]
        hrefs = {"s3": f"s3://b/{name}.zip", "geodes": f"https://p/{name}"}
        request = bench.request(name, hrefs=hrefs)
        with pytest.raises((Ignore, ForbiddenError)):
            bench.run(request)
        seen.append(bench.record(request))

    kinds = [one.error.type for one in seen if one.error]
    assert kinds == ["TransferError", "ForbiddenError"]
    assert [one.state for one in seen] == [State.RETRY, State.FAILURE]


def test_a_full_disk_closes_this_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes back, the ledger knows which folder it is, and the worker looks at once."""
    looked: list[int] = []
    monkeypatch.setattr(task, "_disk_listeners", [lambda: looked.append(1)])
    bench.transport.errors = [DiskError("/data", "No space left on device")]
    request = bench.request()

    with pytest.raises(Ignore, match="disk"):
        bench.run(request)

    assert bench.record(request).reason == "disk"
    assert bench.ledger.dispatch.closed_by("w@host") == str(bench.folder)
    assert looked == [1]


def test_a_full_disk_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What was on its way when the disk filled up goes back without a second alarm."""
    bench.transport.errors = [DiskError("/data", "No space left on device")] * 2

    for name in ("a", "b"):
        with pytest.raises(Ignore, match="disk"):
            bench.run(bench.request(name=name))

    assert caplog.text.count("takes no more work") == 1


def test_a_file_without_a_source_in_use_fails_with_its_reason(bench: Bench) -> None:
    """Only on S3 and no S3 credentials: the record says so."""
    request = bench.request(hrefs={"s3": "s3://bucket/a"})

    with pytest.raises(HrefRefusedError, match="no source in use"):
        bench.run(request)

    assert bench.record(request).state is State.FAILURE


# --- ended from outside --------------------------------------------------------------------------


def watching(bench: Bench, monkeypatch: pytest.MonkeyPatch, request: Request, act: object) -> None:
    """Do something in the middle of a download, and let the keeper tick."""

    def download(*args: Any, callbacks: attempts.LeasedAttempt, **kwargs: Any) -> Any:
        act()  # type: ignore[operator] # a lambda
        bench.desk.keeper.tick()
        return real(*args, callbacks=callbacks, **kwargs)

    real = transfer.download
    monkeypatch.setattr(transfer, "download", download)
    bench.run(request)


def test_a_cancelled_download_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it runs it ends REVOKED, without part or file."""
    request = bench.request()

    with pytest.raises(Ignore, match="cancelled"):
        watching(
            bench, monkeypatch, request, lambda: bench.ledger.control.cancel([request.download_id])
        )

    assert bench.record(request).state is State.REVOKED
    assert not Path(request.path).exists()
    assert not (bench.folder / PART_FOLDER).exists()


def test_a_lost_lease_records_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Taken for dead and overtaken, a worker publishes nothing and says nothing."""
    request = bench.request()

    def overtake() -> None:
        clock.advance(61.0)
        bench.ledger.dispatch.recover()
        bench.ledger.leases.claim(request.download_id, "other")

    with pytest.raises(Ignore, match="the lease went to another worker"):
        watching(bench, monkeypatch, request, overtake)

    assert bench.record(request).worker == "other"
    assert bench.record(request).state is State.STARTED
    assert not Path(request.path).exists()


def test_a_stopping_worker_gives_its_download_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on elsewhere at once, with its attempt not counted."""
    request = bench.request()

    with pytest.raises(Ignore, match="worker-stopped"):
        watching(bench, monkeypatch, request, lambda: task.STOP.set(0.0))

    record = bench.record(request)
    assert (record.state, record.reason) == (State.RETRY, "worker-stopped")
    assert (record.attempts, record.due_at) == (0, None)


def test_an_error_that_the_ending_caused_is_not_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection broken off to stop a download is a stop, not a transfer error."""
    bench.transport.errors = [TransferError("h", "aborted")]
    request = bench.request()

    with pytest.raises(Ignore, match="worker-stopped"):
        watching(bench, monkeypatch, request, lambda: task.STOP.set(0.0))

    assert bench.record(request).reason == "worker-stopped"


# --- Flower --------------------------------------------------------------------------------------


def test_flower_sees_moving_numbers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second a running row shows how far it is."""
    request = bench.request()

    def act() -> None:
        (attempt,) = bench.desk.keeper.attempts
        attempt.progress(len(CONTENT) // 2, len(CONTENT) // 2)

    watching(bench, monkeypatch, request, act)

    assert bench.events[0][0] == "task-progress"
    assert bench.events[0][1]["result"].startswith("50 % of 204.8 kB, ")


# --- the desk ------------------------------------------------------------------------------------


def test_each_process_has_one_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child makes its own: sockets are never shared."""
    desks: list[task.Desk] = []
    monkeypatch.setattr(task, "_desks", desks)
    os.register_at_fork(after_in_child=desks.clear)
    first, same = task.desk(), task.desk()
    child = os.fork()
    if not child:
        os._exit(task.desk() is first)

    assert first is same
    assert os.waitpid(child, 0)[1] == 0


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
    monkeypatch.setattr(bench.desk.sender, "send", fails)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(os, "_exit", exits)
    attempt = attempts.LeasedAttempt(claim, fake_ledger, task.STOP)

    with pytest.raises(ExitedError, match="0"):
        bench.desk.give_back([attempt])


def test_without_s3_credentials_the_portal_is_the_only_source() -> None:
    """boto3 is not asked for what nobody may fetch."""
    desk = task.Desk(config.load())

    assert list(desk.transports) == ["geodes"]


def test_a_path_outside_the_roots_is_refused(bench: Bench, tmp_path: Path) -> None:
    """What somebody wrote into Redis: nothing is asked of the network, nothing is written."""
    bench.desk.roots = Roots((tmp_path / "allowed",))
    request = bench.request()

    with pytest.raises(OutsideRootsError, match="allowed only"):
        bench.run(request)

    record = bench.record(request)
    assert record.state is State.FAILURE
    assert record.error is not None
    assert record.error.type == "OutsideRootsError"
    assert bench.transport.opened == []
    assert not (bench.folder / PART_FOLDER).exists()


def test_litter_outside_the_roots_stays(bench: Bench, tmp_path: Path) -> None:
    """A worker removes nothing where it may not write, whoever asks for it."""
    request = bench.request()
    folder = bench.folder / PART_FOLDER
    folder.mkdir(parents=True)
    part = folder / f"{stem(Path(request.path), str(request.asset.checksum))}.1.part"
    part.write_bytes(b"bytes")
    bench.desk.roots = Roots((tmp_path / "allowed",))

    task.discard(request.asset, request.path, "2")
    assert part.exists()

    bench.desk.roots = Roots(())
    task.discard(request.asset, request.path, "2")
    assert not part.exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (QuotaError("href", "used", 61.0), "waits 61 s"),
        (OfflineError("href", 410), "waits until it is online"),
        (AuthError("href", "the key", "401"), "waits until somebody resumes the account"),
        (WorkerStoppingError("id"), "waits for its turn"),
    ],
)
def test_how_long_a_download_waits_is_told(error: Exception, text: str) -> None:
    """Flower makes a time of day of the seconds."""
    assert task.wait_text(retry.decide(error, 1, "id", retry.Policy())) == text
