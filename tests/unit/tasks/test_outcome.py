"""The outcome: every exception becomes a state, and none is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from celery.exceptions import Ignore

from geodes_tasks.errors import (
    ArchivedObjectError,
    AuthError,
    DiskError,
    DownloadCancelledError,
    ForbiddenError,
    HrefRefusedError,
    LicenceError,
    NoObjectError,
    NotFoundError,
    OfflineError,
    QuotaError,
    SourceRefusedError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import News
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks import outcome
from geodes_tasks.transfer import retry
from geodes_tasks.transfer.destination import PART_FOLDER
from tests.conftest import Clock, KiB, MemoryTransport
from tests.unit.tasks.conftest import CONTENT, Bench


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


def test_the_text_in_flower_names_the_due_time_of_the_ledger(bench: Bench, clock: Clock) -> None:
    """A worker whose clock is weeks behind that of the server names the right time."""
    clock.advance(2e6)
    bench.transport.cuts = [100 * KiB]
    request = bench.request()

    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)

    due = bench.record(request).due_at
    ((_, fields),) = bench.events
    told = fields["exception"].rpartition("(waits until ")[2].rstrip(")")
    assert due is not None
    late = datetime.fromisoformat(told) - datetime.fromisoformat(due)
    assert abs(late.total_seconds()) < 5.0


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
    assert (record.error.type, record.error.hint) == ("TransferError", TransferError.remedy)
    assert not (bench.folder / PART_FOLDER).exists()


def test_the_log_has_the_class_of_an_error(
    bench: Bench, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits and what has failed is found by fields, without reading messages."""
    bench.transport.errors = [TransferError("h", "reset"), LicenceError("h", 423)]
    request = bench.request()

    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)
    clock.advance(60.0)
    with pytest.raises(LicenceError):
        bench.run(request)

    fields = [vars(record) for record in caplog.records if hasattr(record, "class")]
    assert [(one["action"], one["class"], one.get("reason")) for one in fields] == [
        ("download_waits", "TransferError", "backoff"),
        ("download_failed", "LicenceError", None),
    ]


def test_a_hopeless_error_ends_at_once(bench: Bench) -> None:
    """A file whose licence was not accepted is not requested twice."""
    bench.transport.errors = [LicenceError("h", 423)]
    request = bench.request()

    with pytest.raises(LicenceError, match="HTTP 423"):
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


def test_what_another_host_refuses_pauses_no_account(bench: Bench) -> None:
    """Only the portal's own answers do: its items wait."""
    connection, hrefs = bench.ledger.connection, {"geodes": "https://other.example/a.zip"}
    connection.limits = replace(connection.limits, portal_url="https://portal.example")
    bench.transport.errors = [ThrottledError(hrefs["geodes"], 60.0)] * 2
    bench.sources["s3"] = MemoryTransport(CONTENT)

    with pytest.raises(Ignore, match="throttled"):
        bench.run(bench.request(hrefs=hrefs))
    bench.run(bench.request("b", hrefs=hrefs | {"s3": "s3://b/b.zip"}))

    assert [one.paused for one in bench.ledger.account.states()] == [None]


def test_a_cancelled_attempt_is_no_failed_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection was aborted; its part file goes before another attempt may begin."""
    request, states = bench.request(), list[State]()
    tidy, aborted = bench.process.discard, MemoryTransport.open

    def discard(*given: Any) -> None:
        states.append(bench.record(request).state)
        tidy(*given)

    def abort(*given: Any, **known: Any) -> Any:
        bench.ledger.control.cancel([request.download_id])
        (attempt,) = bench.process.keeper.attempts
        attempt.ended = DownloadCancelledError(request.download_id)
        return aborted(*given, **known)

    bench.transport.errors = [TransferError("h", "aborted")]
    monkeypatch.setattr(bench.process, "discard", discard)
    monkeypatch.setattr(MemoryTransport, "open", abort)

    with pytest.raises(Ignore, match="cancelled"):
        bench.run(request)

    assert [*states, bench.record(request).state] == [State.STARTED, State.REVOKED]


def test_part_files_of_a_cancelled_download_that_stay_are_swept_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is away for the moment does not keep them for ever."""
    request = bench.request()

    def refuse(*_: object) -> None:
        raise DiskError("/data", "not mounted any more")

    def cancel(*given: Any, **known: Any) -> Any:
        (attempt,) = bench.process.keeper.attempts
        bench.ledger.control.cancel([request.download_id])
        attempt.ended = DownloadCancelledError(request.download_id)
        raise TransferError("h", "aborted")

    monkeypatch.setattr(bench.process, "discard", refuse)
    monkeypatch.setattr(MemoryTransport, "open", cancel)

    with pytest.raises(Ignore, match="cancelled"):
        bench.run(request)

    assert bench.record(request).state is State.REVOKED
    assert [one.download_id for one in bench.ledger.retention.litter()] == [request.download_id]


def test_a_forbidden_file_may_come_yet_over_another_source(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The portal refuses this file and S3 broke: it is tried again; S3 lacks it too: it fails."""
    monkeypatch.setattr(bench.process.keys, "accepts", lambda *_: True)
    seen = []
    for name, elsewhere in (
        ("a", TransferError("s3://b/a.zip", "reset")),
        ("b", SourceUnavailableError("s3", "s3://b/b.zip", "no such object")),
    ):
        datalake = MemoryTransport(CONTENT)
        datalake.errors = [elsewhere]
        bench.sources = {"s3": datalake, "geodes": bench.transport}
        bench.transport.errors = [AuthError("h", "the key in X", "HTTP 403")]
        hrefs = {"s3": f"s3://b/{name}.zip", "geodes": f"https://p/{name}"}
        request = bench.request(name, hrefs=hrefs)
        with pytest.raises((Ignore, ForbiddenError)):
            bench.run(request)
        seen.append(bench.record(request))

    kinds = [one.error.type for one in seen if one.error]
    assert kinds == ["TransferError", "ForbiddenError"]
    assert [one.state for one in seen] == [State.RETRY, State.FAILURE]


def test_a_missing_object_is_tried_once_more(bench: Bench, clock: Clock) -> None:
    """S3 alone has the file in use: as for a 404 of the portal, one more try after some minutes."""
    missing = NoObjectError("s3", "s3://b/a.zip", "no such object")
    bench.sources = {"s3": MemoryTransport(CONTENT, errors=[missing] * 2)}
    request = bench.request(hrefs={"s3": "s3://b/a.zip", "geodes": "https://p/a"})
    with pytest.raises(Ignore, match="backoff"):
        bench.run(request)
    clock.advance(bench.process.settings.offline_poll_seconds + 1)
    bench.ledger.dispatch.recover()

    with pytest.raises(NotFoundError, match="no such file"):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.attempts) == (State.FAILURE, 2)


@pytest.mark.parametrize("kind", [NoObjectError, ArchivedObjectError, SourceRefusedError])
def test_what_s3_lacks_waits_for_a_portal_that_is_paused(
    bench: Bench, kind: type[SourceUnavailableError]
) -> None:
    """The portal may have it: the download continues when that source is resumed."""
    lacking = MemoryTransport(CONTENT, errors=[kind("s3", "s3://b/a.zip", "none")])
    bench.sources = {"s3": lacking, "geodes": bench.transport}
    bench.ledger.sources.exchange({"s3": News(offered=True)})
    bench.ledger.control.pause("source", "geodes", "by hand")
    request = bench.request(hrefs={"s3": "s3://b/a.zip", "geodes": "https://p/a"})

    with pytest.raises(Ignore, match="paused"):
        bench.run(request)

    record = bench.record(request)
    assert (record.state, record.reason, record.attempts) == (State.RETRY, "paused", 0)
    assert record.error is not None
    assert record.error.type == "SourcePausedError"


def test_a_file_without_a_source_in_use_fails_with_its_reason(bench: Bench) -> None:
    """Only on S3 and no S3 credentials: the record says so."""
    request = bench.request(hrefs={"s3": "s3://bucket/a"})

    with pytest.raises(HrefRefusedError, match="no source in use"):
        bench.run(request)

    assert bench.record(request).state is State.FAILURE


def local(seconds: float) -> str:
    """Return a time as ISO 8601 in the local zone."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (QuotaError("href", "used", 61.0), f"waits until {local(61.0)}"),
        (OfflineError("href", 410), "waits until it is online"),
        (AuthError("href", "the key", "401"), "waits until the account is resumed"),
        (WorkerStoppingError("id"), "waits for its turn"),
    ],
)
def test_how_long_a_download_waits_is_told(error: Exception, text: str) -> None:
    """The time is that of the ledger's clock, in the local zone."""
    assert outcome.wait_text(retry.decide(error, 1, "id", Config()), 0.0) == text
