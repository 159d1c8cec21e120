"""The task: claim, transfer, record; duplicates, and downloads ended from outside."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from geodes_tasks.errors import OutsideRootsError, TransferError
from geodes_tasks.ledger import Request
from geodes_tasks.ledger.leases import Leases
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.tasks import core_binding
from geodes_tasks.tasks.allowed_folders import AllowedFolders
from geodes_tasks.tasks.core_binding import SMALL_BYTES
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.stop_signal import STOP
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer.destination import PART_FOLDER
from tests.conftest import Clock, asset_of
from tests.unit.tasks.conftest import CONTENT, Bench, away


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


@pytest.mark.parametrize("small_bytes", [0, SMALL_BYTES])
def test_a_download_is_logged_when_it_starts_and_when_it_ends(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    small_bytes: int,
) -> None:
    """The last line has the duration and the speed; a small file has that one only."""
    monkeypatch.setattr(core_binding, "SMALL_BYTES", small_bytes)
    request = bench.request()

    with caplog.at_level(logging.INFO):
        bench.run(request)

    *started, ended = (
        one.getMessage() for one in caplog.records if request.path in one.getMessage()
    )
    assert re.search(r"DOWNLOADED .*, \d+\.\d s at \d.*B/s, verified\)$", ended)
    begin = rf"STARTED {re.escape(request.path)} \(attempt 1, \d+.*B\)"
    assert [bool(re.fullmatch(begin, line)) for line in started] == [True] * (not small_bytes)


def test_redis_away_at_the_end_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proven file is recorded when Redis is back."""
    real, calls = Leases.finish, iter([away, away])

    def succeed(*args: Any) -> Any:
        return next(calls, real)(*args)

    monkeypatch.setattr(Leases, "finish", succeed)
    request = bench.request()

    bench.run(request)

    assert bench.record(request).state is State.SUCCESS


def test_a_failed_attempt_keeps_no_frames(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that leaves the task has one frame of it, and no error behind it."""

    def broken(*_: Any, **__: Any) -> None:
        raise TransferError("h", "reset") from ValueError("deep")

    monkeypatch.setattr(transfer, "download", broken)

    with pytest.raises(Ignore) as caught:
        bench.run(bench.request())

    frames = [one.name for one in caught.traceback if "geodes_tasks" in str(one.path)]
    assert frames == ["download"]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# --- duplicates -----------------------------------------------------------------------------------


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
    STOP.set(0.0)

    with pytest.raises(Ignore, match="no answer from Redis"):
        bench.run(request)

    assert bench.record(request).state is State.PENDING


# --- ended from outside ---------------------------------------------------------------------------


def watching(bench: Bench, monkeypatch: pytest.MonkeyPatch, request: Request, act: object) -> None:
    """Do something in the middle of a download, and let the keeper tick."""

    def download(*args: Any, callbacks: LeasedAttempt, **kwargs: Any) -> Any:
        act()  # type: ignore[operator] # a lambda
        bench.process.keeper.renew_all()
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


def test_a_folder_exchanged_before_it_is_opened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A link that comes after the first check of the path is found before the file has a name."""
    bench.process.folders = AllowedFolders((bench.folder,))
    bench.folder, outside = bench.folder / "sub", tmp_path / "outside"
    request = bench.request()
    bench.folder.mkdir(parents=True)
    outside.mkdir()

    def exchange() -> None:
        bench.folder.rmdir()
        bench.folder.symlink_to(outside)

    with pytest.raises(OutsideRootsError, match="writes below"):
        watching(bench, monkeypatch, request, exchange)

    assert bench.record(request).state is State.FAILURE
    assert not (outside / Path(request.path).name).exists()


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
        watching(bench, monkeypatch, request, lambda: STOP.set(0.0))

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
        watching(bench, monkeypatch, request, lambda: STOP.set(0.0))

    assert bench.record(request).reason == "worker-stopped"


# --- Flower ---------------------------------------------------------------------------------------


def test_flower_sees_moving_numbers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second a running row shows how far it is."""
    request = bench.request()

    def act() -> None:
        (attempt,) = bench.process.keeper.attempts
        attempt.progress(len(CONTENT) // 2, len(CONTENT) // 2)

    watching(bench, monkeypatch, request, act)

    assert bench.events[0][0] == "task-STARTED"
    assert bench.events[0][1]["result"].startswith("50 % of 204.8 kB, ")
