"""What every worker looks after: dead leases, due downloads, lost messages, litter, its disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import ImproperlyConfigured
from celery.worker import state as celery_state
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerUnavailableError, TransferError
from geodes_tasks.ledger import Claim, Ledger, Request, Wakeup
from geodes_tasks.ledger.retention import Retention
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from geodes_tasks.tasks.app import QUEUE
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.partfile import PartFile
from tests.conftest import Clock, asset_of
from worker import disk_gate as intakes
from worker import preflight
from worker.disk_gate import Intake
from worker.recovery import LOST_AFTER_S, SWEEPS, Recovery, message_ids

ENTRY = {"at": "now", "worker": "w", "source": "geodes", "bytes": 0, "transferred": 0, "error": "x"}


class Mailbox:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        """Begin empty."""
        self.sent: list[str] = []

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep them."""
        self.sent.extend(wakeup.download_id for wakeup in wakeups)


@pytest.fixture
def mailbox() -> Mailbox:
    """Where messages go."""
    return Mailbox()


@pytest.fixture
def recovery(fake_ledger: Ledger, mailbox: Mailbox) -> Recovery:
    """The recovery of one worker; the tests make it look."""
    return Recovery(fake_ledger, mailbox, "w@host", 4)  # type: ignore[arg-type] # it sends


def asked(ledger: Ledger, folder: Path = Path("/data"), name: str = "a") -> Request:
    """Ask for a file."""
    request = Request(asset_of(b"content", f"{name}.zip"), str(folder / f"{name}.zip"))
    ledger.admission.admit("b", "acc", [request], lambda _: None)
    return request


def claimed(ledger: Ledger, request: Request) -> Claim:
    """Claim what must be free."""
    answer = ledger.leases.claim(request.download_id, "w")
    assert isinstance(answer, Claim)
    return answer


def state_of(ledger: Ledger, request: Request) -> State:
    """Read a state."""
    record = ledger.reading.record(request.download_id)
    assert record is not None
    return record.state


def message_of(request: Request) -> str:
    """Write a message as kombu stores it."""
    return json.dumps({"body": "", "headers": {"id": request.download_id}, "properties": {}})


# --- looking -------------------------------------------------------------------------------------


def test_a_look_counts_the_worker_and_sends_what_has_a_place(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox
) -> None:
    """A worker that starts finds work that nobody sent yet."""
    request = asked(fake_ledger)

    recovery.look()

    assert fake_ledger.dispatch.workers() == {"w@host": 4}
    assert mailbox.sent == [request.download_id]


def test_a_dead_workers_download_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """Within a lease another worker has it."""
    request = asked(fake_ledger)
    claimed(fake_ledger, request)
    clock.advance(61.0)

    recovery.look()

    assert state_of(fake_ledger, request) is State.RETRY
    assert mailbox.sent == [request.download_id]


def test_a_due_download_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """A back-off that is over needs no Celery ETA."""
    request = asked(fake_ledger)
    wait = Decision(True, Reason.BACKOFF, 30.0)
    fake_ledger.leases.postpone(claimed(fake_ledger, request), TransferError("h", "x"), wait, ENTRY)

    recovery.look()
    early = list(mailbox.sent)
    clock.advance(31.0)
    recovery.look()

    assert (early, mailbox.sent) == ([], [request.download_id])


def test_after_a_restart_of_redis_leases_are_renewed_first(
    recovery: Recovery, fake_ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis away longer than a lease does not make every living worker a dead one."""
    request = asked(fake_ledger)
    claimed(fake_ledger, request)
    recovery.look()
    clock.advance(61.0)

    recovery.look()

    assert state_of(fake_ledger, request) is State.STARTED


def test_a_worker_that_stops_counts_no_more(recovery: Recovery, fake_ledger: Ledger) -> None:
    """Its slots are nobody's from then on."""
    recovery.look()

    recovery.stop()

    assert fake_ledger.dispatch.workers() == {}


@pytest.mark.parametrize(
    "error",
    [LedgerUnavailableError("redis://h", "x"), OperationalError("x"), ZeroDivisionError("x")],
    ids=repr,
)
def test_no_error_ends_recovery(
    recovery: Recovery, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis away or a defect of ours: it looks again at the next turn."""
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            recovery.stop()
        raise error

    monkeypatch.setattr(recovery, "look", look)
    recovery.period_s = 0.001

    recovery.run()

    assert len(looks) == 2


# --- lost messages -------------------------------------------------------------------------------


def test_a_lost_message_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """Sent, found neither in the queue nor in a worker's hands: lost, and sent again."""
    request = asked(fake_ledger)
    recovery.look()

    recovery.look()
    at_once = list(mailbox.sent)
    clock.advance(LOST_AFTER_S + 1)
    recovery.look()

    assert at_once == [request.download_id]
    assert mailbox.sent == [request.download_id] * 2


def test_a_message_that_is_there_is_not_sent_twice(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """A long queue is no loss."""
    request = asked(fake_ledger)
    recovery.look()
    fake_ledger.connection.client.lpush(fake_ledger.connection.key(QUEUE), message_of(request))
    clock.advance(LOST_AFTER_S + 1)

    recovery.look()

    assert mailbox.sent == [request.download_id]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('{"headers": {"id": "a"}}', ["a"]),
        ('[{"headers": {"id": "a"}}, "x", "y"]', ["a"]),
        ("not JSON", []),
        ("[]", []),
        ("3", []),
        ('{"headers": {}}', []),
        ('{"headers": null}', []),
    ],
)
def test_what_is_no_message_is_left_out(text: str, ids: list[str]) -> None:
    """Strange entries in the queue end nothing."""
    assert list(message_ids([text])) == ids


# --- litter --------------------------------------------------------------------------------------


def test_parts_that_nobody_owns_are_swept_up(
    recovery: Recovery, fake_ledger: Ledger, tmp_path: Path
) -> None:
    """A download cancelled while it waited leaves nothing on disk."""
    request = asked(fake_ledger, tmp_path)
    claim = claimed(fake_ledger, request)
    with PartFile(Path(request.path), str(request.asset.checksum), claim.token, "md5") as part:
        part.write(b"some")
    wait = Decision(True, Reason.BACKOFF, 30.0)
    fake_ledger.leases.postpone(claim, TransferError("h", "x"), wait, ENTRY)
    fake_ledger.control.cancel([request.download_id])

    recovery.look()

    assert not (tmp_path / PART_FOLDER).exists()
    assert fake_ledger.retention.litter() == []


def test_sweeping_never_robs_a_later_attempt(
    recovery: Recovery, fake_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for again between the look and the sweeping, a download keeps its new part."""
    request = asked(fake_ledger, tmp_path)
    claimed(fake_ledger, request)
    fake_ledger.control.cancel([request.download_id])
    fake_ledger.leases.revoke(fake_claim(fake_ledger, request))
    former = fake_ledger.connection.client.hget(
        fake_ledger.connection.key("download", request.download_id), "token"
    )
    fake_ledger.connection.client.rpush(
        fake_ledger.connection.key("litter"), f"{request.download_id} {former}"
    )
    parts: list[PartFile] = []
    real = Retention.litter

    def begun_meanwhile(retention: Retention) -> Any:
        found = real(retention)
        asked(fake_ledger, tmp_path)
        token = claimed(fake_ledger, request).token
        with PartFile(Path(request.path), str(request.asset.checksum), token, "md5") as part:
            part.write(b"some")
        parts.append(part)
        return found

    monkeypatch.setattr(Retention, "litter", begun_meanwhile)

    recovery.look()

    assert parts[0].path.exists()


def fake_claim(ledger: Ledger, request: Request) -> Claim:
    """Make the claim of whoever has the lease."""
    token = ledger.connection.client.hget(
        ledger.connection.key("download", request.download_id), "token"
    )
    return Claim(request.download_id, str(token), 1, request.asset, request.path, None, None, "acc")


def test_one_folder_that_cannot_be_swept_does_not_cost_the_others(
    recovery: Recovery, fake_ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that leads to itself among the folders: the others are swept, it is named."""
    requests = [asked(fake_ledger, tmp_path / name, name) for name in ("x", "y", "z")]
    for request in requests:
        Path(request.path).parent.mkdir()
        claim = claimed(fake_ledger, request)
        with PartFile(Path(request.path), str(request.asset.checksum), claim.token, "md5") as part:
            part.write(b"some")
        fake_ledger.control.cancel([request.download_id])
        fake_ledger.leases.postpone(
            claim, TransferError("h", "x"), Decision(True, Reason.BACKOFF), ENTRY
        )
    shutil.rmtree(tmp_path / "x")
    (tmp_path / "x").symlink_to("x")

    for _ in range(SWEEPS + 1):
        recovery.look()

    assert list((tmp_path / "y").iterdir()) == list((tmp_path / "z").iterdir()) == []
    assert f"{requests[0].path}: part files of this ended download" in caplog.text
    assert fake_ledger.retention.litter() == []


@pytest.mark.parametrize(
    "part", ["_heed_revoked", "_resend_lost", "_offer_sources", "_tell_of_batches"]
)
def test_a_part_of_a_look_that_fails_does_not_starve_the_others(
    recovery: Recovery,
    fake_ledger: Ledger,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
) -> None:
    """What follows a defect in a look is done all the same, and the defect is logged once."""

    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(recovery, part, broken)
    request = asked(fake_ledger)

    recovery.look()
    recovery.look()

    assert mailbox.sent == [request.download_id]
    assert caplog.text.count("recovery failed: ZeroDivisionError") == 1


# --- what was revoked elsewhere ------------------------------------------------------------------


def test_what_is_revoked_in_celery_is_cancelled(recovery: Recovery, fake_ledger: Ledger) -> None:
    """Flower's button cancels, and does not keep the same download from being asked for again."""
    request = asked(fake_ledger)
    celery_state.revoked.add(request.download_id)

    recovery.look()

    assert state_of(fake_ledger, request) is State.REVOKED
    assert request.download_id not in celery_state.revoked


# --- this worker's disk --------------------------------------------------------------------------


class Control:
    """Celery's remote control, as far as it is used."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.said: list[tuple[str, str, list[str]]] = []

    def cancel_consumer(self, queue: str, destination: list[str]) -> None:
        """Take no more."""
        self.said.append(("cancel", queue, destination))

    def add_consumer(self, queue: str, destination: list[str]) -> None:
        """Take again."""
        self.said.append(("add", queue, destination))


@pytest.fixture
def intake(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Intake:
    """The intake of a worker; a folder is tried again at once."""
    monkeypatch.setattr(intakes, "CHECK_S", 0.0)
    app = type("App", (), {"control": Control()})()
    return Intake(fake_ledger, app, "w@host")


def test_a_worker_that_cannot_write_takes_no_work_until_it_can(
    intake: Intake, fake_ledger: Ledger, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Closed, it has no slots; when its folder takes files again, it opens by itself."""
    folder = tmp_path / "folder"
    folder.write_bytes(b"a file stands in the way")
    recovery = Recovery(fake_ledger, mailbox, "w@host", 4, intake)  # type: ignore[arg-type] # it sends
    fake_ledger.dispatch.close("w@host", str(folder))

    recovery.look()
    recovery.look()
    closed, slots = intake.closed, fake_ledger.dispatch.workers()
    folder.unlink()
    recovery.look()

    assert (closed, slots) == (True, {"w@host": 0})
    assert (intake.closed, fake_ledger.dispatch.workers()) == (False, {"w@host": 4})
    assert intake.app.control.said == [
        ("cancel", QUEUE, ["w@host"]),
        ("add", QUEUE, ["w@host"]),
    ]


# --- preflight -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_loses_downloads_is_refused(pool: str) -> None:
    """What to use instead is in the message."""
    with pytest.raises(ImproperlyConfigured, match="use threads or prefork"):
        preflight.refuse_pool(f"celery.concurrency.{pool}")


@pytest.mark.parametrize("pool", ["thread", "prefork", "solo"])
def test_other_pools_are_taken(pool: str) -> None:
    """Threads, processes and the pool of one."""
    preflight.refuse_pool(f"celery.concurrency.{pool}")
