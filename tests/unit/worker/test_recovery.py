"""What every worker turns after: dead leases, due downloads, lost messages, litter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from celery.worker import state as celery_state
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerUnavailableError, TransferError
from geodes_tasks.ledger import Claim, Ledger, Request
from geodes_tasks.ledger.retention import Retention
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason, State
from geodes_tasks.tasks.allowed_folders import AllowedFolders
from geodes_tasks.tasks.app import QUEUE
from geodes_tasks.tasks.process import worker_process
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.partfile import PartFile
from tests.conftest import Clock, asset_of
from tests.unit.worker.conftest import Mailbox
from worker.recovery import LOST_AFTER_S, SWEEPS, Recovery, message_ids

ENTRY = {"at": "now", "worker": "w", "source": "geodes", "bytes": 0, "transferred": 0, "error": "x"}


@pytest.fixture
def recovery(fake_ledger: Ledger, mailbox: Mailbox) -> Recovery:
    """The recovery of one worker; the tests make it look."""
    return Recovery(fake_ledger, mailbox, "w@host", 4)  # type: ignore[arg-type] # it sends


def asked(ledger: Ledger, folder: Path = Path("/data"), name: str = "a") -> Request:
    """Ask for a file."""
    request = Request(asset_of(b"content", f"{name}.zip"), str(folder / f"{name}.zip"))
    ledger.admission.admit("b", "acc", [request], lambda _: None)()
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

    recovery.recover()

    assert fake_ledger.dispatch.workers() == {"w@host": 4}
    assert mailbox.sent == [request.download_id]


def test_a_dead_workers_download_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """Within a lease another worker has it."""
    request = asked(fake_ledger)
    claimed(fake_ledger, request)
    clock.advance(61.0)

    recovery.recover()

    assert state_of(fake_ledger, request) is State.RETRY
    assert mailbox.sent == [request.download_id]


def test_a_due_download_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """A back-off that is over needs no Celery ETA."""
    request = asked(fake_ledger)
    wait = Decision(True, Reason.BACKOFF, 30.0)
    fake_ledger.leases.postpone(claimed(fake_ledger, request), TransferError("h", "x"), wait, ENTRY)

    recovery.recover()
    early = list(mailbox.sent)
    clock.advance(31.0)
    recovery.recover()

    assert (early, mailbox.sent) == ([], [request.download_id])


def test_after_a_restart_of_redis_leases_are_renewed_first(
    recovery: Recovery, fake_ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis away longer than a lease does not make every living worker a dead one."""
    request = asked(fake_ledger)
    claimed(fake_ledger, request)
    recovery.recover()
    clock.advance(61.0)

    recovery.recover()

    assert state_of(fake_ledger, request) is State.STARTED


def test_a_worker_that_stops_counts_no_more(recovery: Recovery, fake_ledger: Ledger) -> None:
    """Its slots are nobody's from then on."""
    recovery.recover()

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
    """Redis away or a defect of ours: it turns again at the next turn."""
    turns: list[int] = []

    def recover() -> None:
        turns.append(1)
        if len(turns) == 2:
            recovery.stop()
        raise error

    monkeypatch.setattr(recovery, "recover", recover)
    recovery.period_s = 0.001

    recovery.run()

    assert len(turns) == 2


# --- lost messages -------------------------------------------------------------------------------


def test_a_lost_message_is_sent_again(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """Sent, found neither in the queue nor in a worker's hands: lost, and sent again."""
    request = asked(fake_ledger)
    recovery.recover()

    recovery.recover()
    at_once = list(mailbox.sent)
    clock.advance(LOST_AFTER_S + 1)
    recovery.recover()

    assert at_once == [request.download_id]
    assert mailbox.sent == [request.download_id] * 2


def test_a_message_that_is_there_is_not_sent_twice(
    recovery: Recovery, fake_ledger: Ledger, mailbox: Mailbox, clock: Clock
) -> None:
    """A long queue is no loss."""
    request = asked(fake_ledger)
    recovery.recover()
    fake_ledger.connection.client.lpush(fake_ledger.connection.key(QUEUE), message_of(request))
    clock.advance(LOST_AFTER_S + 1)

    recovery.recover()

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

    recovery.recover()

    assert not (tmp_path / PART_FOLDER).exists()
    assert fake_ledger.retention.litter() == []


def test_parts_in_the_folder_of_another_worker_are_left_to_it(
    recovery: Recovery, fake_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list keeps them as long as a worker lives that may write there."""
    request = asked(fake_ledger, tmp_path)
    claim = claimed(fake_ledger, request)
    wait = Decision(True, Reason.BACKOFF, 30.0)
    fake_ledger.leases.postpone(claim, TransferError("h", "x"), wait, ENTRY)
    fake_ledger.control.cancel([request.download_id])
    monkeypatch.setattr(worker_process(), "ledger", fake_ledger)
    monkeypatch.setattr(worker_process(), "folders", AllowedFolders((tmp_path / "own",)))
    fake_ledger.dispatch.register("other@host", 4)
    fake_ledger.dispatch.publish("other@host", (), "", [tmp_path])

    recovery.recover()

    (left,) = fake_ledger.retention.litter()
    assert (left.path, left.token) == (request.path, claim.token)
    fake_ledger.retention.return_litter(left)
    fake_ledger.dispatch.unregister("other@host")
    recovery.recover()
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
    fake_ledger.connection.client.zadd(
        fake_ledger.connection.key("litter"), {request.download_id: int(former)}
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

    recovery.recover()

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
        recovery.recover()

    assert list((tmp_path / "y").iterdir()) == list((tmp_path / "z").iterdir()) == []
    assert f"{requests[0].path}: part files of this ended download" in caplog.text
    assert fake_ledger.retention.litter() == []


@pytest.mark.parametrize(
    "part",
    [
        "worker.recovery.Recovery._cancel_revoked",
        "worker.recovery.Recovery._resend_lost",
        "worker.recovery.Recovery._offer_sources",
        "geodes_tasks.tasks.hooks.Hooks.batches_done",
    ],
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

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(part, broken)
    request = asked(fake_ledger)

    recovery.recover()
    recovery.recover()

    assert mailbox.sent == [request.download_id]
    assert caplog.text.count("recovery failed: ZeroDivisionError") == 1


# --- what was revoked elsewhere ------------------------------------------------------------------


def test_what_is_revoked_in_celery_is_cancelled(recovery: Recovery, fake_ledger: Ledger) -> None:
    """Flower's button cancels, and does not keep the same download from being asked for again."""
    request = asked(fake_ledger)
    celery_state.revoked.add(request.download_id)

    recovery.recover()

    assert state_of(fake_ledger, request) is State.REVOKED
    assert request.download_id not in celery_state.revoked
