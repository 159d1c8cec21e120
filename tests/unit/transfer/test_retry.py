"""What becomes of a failed attempt: a table of errors and decisions."""

from __future__ import annotations

import time

import pytest

from geodes_tasks import errors
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.model.results import Complaint, Decision
from geodes_tasks.model.states import Reason
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import retry
from geodes_tasks.transfer.retry import BACKOFF_CAP_S, backoff, decide, jittered
from tests.conftest import md5

POLICY = Config(max_attempts=3, probe_seconds=60.0)
WRONG = str(md5(b"wrong"))
RIGHT = str(md5(b"right"))

FINAL = Decision(False)
BACK_OFF = Decision(True, Reason.BACKOFF, backoff(1, 2.0, "id"))


def paused(reason: Reason, seconds: float, complaint: Complaint | None = None) -> Decision:
    """Say that the whole account waits."""
    probe_s = 60.0 if complaint is Complaint.REFUSED else None
    return Decision(
        True,
        reason,
        counted=False,
        pause=reason,
        pause_s=seconds,
        probe_s=probe_s,
        complaint=complaint,
    )


def throttled(seconds: float) -> Decision:
    """Say that the whole account waits, and has fewer places afterwards."""
    return paused(Reason.THROTTLED, seconds, Complaint.THROTTLED)


def waits_for_the_portal(reason: Reason) -> Decision:
    """Say that one download, which S3 did not give, waits as its account does."""
    return Decision(True, reason, counted=False, held="geodes")


TABLE: list[tuple[BaseException, Decision]] = [
    (errors.TransferError("h", "reset"), BACK_OFF),
    (errors.StalledError("h", "silent"), BACK_OFF),
    (errors.ServerError("h", "503"), BACK_OFF),
    (
        errors.UnreachableError("h", "refused"),
        Decision(True, Reason.OUTAGE, jittered(retry.OUTAGE_S, 1, "id"), counted=False),
    ),
    (
        errors.SourceUnreachableError("s3", "h", "refused", True),
        Decision(True, Reason.OUTAGE, jittered(retry.OUTAGE_S, 1, "id"), counted=False),
    ),
    (
        errors.SourceUnavailableError("s3", "h", "the session token has expired", True),
        Decision(True, Reason.OUTAGE, jittered(retry.OUTAGE_S, 1, "id"), counted=False),
    ),
    (errors.SourceRefusedError("s3", "h", "denied"), Decision(False)),
    (errors.FolderError("s3", "h", "it is a folder there"), Decision(False)),
    (errors.TruncatedBodyError("h", 2, 1), BACK_OFF),
    (errors.SourceUnavailableError("s3", "h", "denied"), BACK_OFF),
    (errors.UnexpectedAnswerError("h", 418, "tea"), BACK_OFF),
    (errors.SizeMismatchError("p", 1, 2), BACK_OFF),
    (errors.LedgerUnavailableError("redis://h", "connection refused"), BACK_OFF),
    (errors.ChecksumMismatchError("p", RIGHT, WRONG, False), BACK_OFF),
    (ZeroDivisionError("a defect of ours"), BACK_OFF),
    (errors.AccountPausedError("h", "quota"), waits_for_the_portal(Reason.QUOTA)),
    (errors.AccountPausedError("h", "paused"), waits_for_the_portal(Reason.PAUSED)),
    (errors.AccountPausedError("h", "401 from h"), waits_for_the_portal(Reason.AUTH)),
    (OSError(5, "something of a library"), BACK_OFF),
    (
        errors.ChecksumMismatchError("p", RIGHT, WRONG, True),
        Decision(True, Reason.BACKOFF, backoff(1, 2.0, "id"), suspect=md5(b"wrong")),
    ),
    (errors.QuotaError("h", "50 an hour", 12.5, True), paused(Reason.QUOTA, 12.5)),
    (
        errors.QuotaError("h", "the portal names a time", 12.5),
        paused(Reason.QUOTA, 12.5, Complaint.REFUSED),
    ),
    (
        errors.QuotaError("h", "the portal says so"),
        paused(Reason.QUOTA, 60.0, Complaint.REFUSED),
    ),
    (errors.ThrottledError("h", 30.0), throttled(30.0)),
    (errors.ThrottledError("h", 0.0), throttled(1.0)),
    (errors.ThrottledError("h", None), throttled(retry.THROTTLE_S)),
    (
        errors.AuthError("h", "the key in X", "401"),
        Decision(
            True,
            Reason.AUTH,
            counted=False,
            pause="401 from h: the key in X was refused",
        ),
    ),
    (
        errors.UntrustedServerError("h", "its TLS certificate is not trusted"),
        Decision(True, Reason.OUTAGE, jittered(retry.OUTAGE_S, 1, "id"), counted=False),
    ),
    (
        errors.RedirectUnreachableError("h", "refused", "files.example:8443"),
        Decision(
            True,
            Reason.OUTAGE,
            jittered(retry.OUTAGE_S, 1, "id"),
            counted=False,
            held="geodes->files.example:8443",
        ),
    ),
    (errors.OfflineError("h", 410), Decision(True, Reason.OFFLINE, 150.0, counted=False)),
    (
        errors.SourcePausedError("t", "s3"),
        Decision(True, Reason.PAUSED, counted=False, held="s3"),
    ),
    (errors.DiskError("p", "full"), Decision(True, Reason.DISK, retry.DISK_S, counted=False)),
    (errors.WorkerStoppingError("id"), Decision(True, Reason.WORKER_STOPPED, counted=False)),
    (errors.NotFoundError("h", 404), Decision(True, Reason.BACKOFF, 600.0)),
    (errors.NotFoundError("h", 404, 7.0), Decision(True, Reason.BACKOFF, 7.0)),
    (errors.LicenceError("h", 423), FINAL),
    (errors.ForbiddenError("h", "the key in X", "HTTP 403"), FINAL),
    (errors.HrefRefusedError("h", "ftp"), FINAL),
    (errors.NotAFileError("p", "folder"), FINAL),
    (errors.CatalogueMismatchError("p", RIGHT, WRONG, "q"), FINAL),
]


@pytest.mark.parametrize(
    ("error", "expected"), TABLE, ids=[type(error).__name__ for error, _ in TABLE]
)
def test_each_error_has_its_reaction(error: BaseException, expected: Decision) -> None:
    """Transient waits, the account pauses, tape is polled, and the hopeless ends."""
    assert decide(error, 1, "id", POLICY) == expected


TRANSIENT = [
    error for error, decision in TABLE if decision.reason is Reason.BACKOFF and decision.counted
]
PATIENT = [error for error, decision in TABLE if not decision.counted]


@pytest.mark.parametrize(
    "error", [e for e in TRANSIENT if decide(e, 1, "id", POLICY).retry], ids=repr
)
def test_attempts_that_moved_bytes_are_bounded(error: BaseException) -> None:
    """The last of the allowed attempts ends the download."""
    assert decide(error, POLICY.max_attempts - 1, "id", POLICY).retry
    assert not decide(error, POLICY.max_attempts, "id", POLICY).retry


@pytest.mark.parametrize("error", PATIENT, ids=repr)
def test_waiting_for_account_tape_or_disk_has_no_end(error: BaseException) -> None:
    """However long the account, the tape or the disk takes, no attempt is used up."""
    assert decide(error, 10_000, "id", POLICY).retry


def test_every_error_that_ends_an_attempt_is_in_the_table() -> None:
    """A new class of a reaction other than FINAL must say here what it does."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    reacting = {
        kind
        for kind in kinds
        if issubclass(kind, GeodesTasksError) and kind.reaction is not errors.Reaction.FINAL
    }
    tried = {type(error) for error, _ in TABLE}

    missing = {kind for kind in reacting if not any(issubclass(kind, base) for base in tried)}

    assert missing == set()


def test_back_off_doubles_up_to_a_cap() -> None:
    """Each wait lies between half and all of twice the one before, five minutes at most."""
    for attempt in range(1, 40):
        wait = min(2.0 * 2.0 ** (attempt - 1), BACKOFF_CAP_S)
        assert wait / 2 <= backoff(attempt, 2.0, "id") <= wait


def test_downloads_that_failed_together_do_not_come_back_together() -> None:
    """The jitter is the download's own, and the same each time it is asked for."""
    waits = [backoff(3, 2.0, f"id-{number}") for number in range(100)]

    assert len(set(waits)) == 100
    assert max(waits) - min(waits) > 3.0
    assert waits == [backoff(3, 2.0, f"id-{number}") for number in range(100)]


def test_a_call_to_the_ledger_is_repeated_until_redis_answers() -> None:
    """A server that is away and rights that were lost are waited for; the answer is returned."""
    failures: list[GeodesTasksError] = [
        errors.LedgerUnavailableError("redis://host", "refused"),
        errors.LedgerForbiddenError("redis://host", "NOPERM"),
    ]
    left, seen = list(failures), list[GeodesTasksError]()

    def action() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    assert retry.until_available(action, wait_s=0.0, stop=seen.append) == "answer"
    assert seen == failures


def test_an_attempt_that_must_end_waits_for_redis_no_longer() -> None:
    """The wait ends with the error that the caller names; the action was called once."""
    calls = []

    def action() -> None:
        calls.append(1)
        raise errors.LedgerUnavailableError("redis://host", "refused")

    def stop(error: GeodesTasksError) -> None:
        raise errors.WorkerStoppingError("id") from error

    with pytest.raises(errors.WorkerStoppingError, match="id"):
        retry.until_available(action, wait_s=60.0, stop=stop)
    assert calls == [1]


def test_other_errors_of_the_ledger_end_the_repetition() -> None:
    """Only a Redis that does not serve is waited for: a lost lease is raised at once."""

    def action() -> None:
        raise errors.LeaseLostError("id")

    with pytest.raises(errors.LeaseLostError, match="id"):
        retry.until_available(action, wait_s=60.0, stop=lambda _: None)


def test_each_failure_sets_the_wait_before_the_next_call() -> None:
    """The caller computes the wait from the error, in seconds."""
    begun, waits = time.monotonic(), iter((0.05, 0.1))
    left: list[GeodesTasksError] = [errors.TransferError("h", "reset")] * 2

    def action() -> float:
        if left:
            raise left.pop()
        return time.monotonic()

    assert retry.until_success(action, lambda _: next(waits)) - begun >= 0.15


@pytest.mark.parametrize(("delay_s", "pause_s", "wait_s"), [(5.0, 60.0, 60.0), (5.0, None, 5.0)])
def test_another_source_pauses_no_account(
    delay_s: float, pause_s: float | None, wait_s: float
) -> None:
    """The download itself waits as long as its account would have."""
    known = Decision(
        True, Reason.THROTTLED, delay_s, pause="throttled", pause_s=pause_s, probe_s=1.0,
        complaint=Complaint.THROTTLED,
    )  # fmt: skip

    found = retry.not_of_the_account(known)

    assert found == Decision(True, Reason.THROTTLED, wait_s)
