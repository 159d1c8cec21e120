"""How an attempt ends: which result or exception becomes which state. No exception is lost."""

from __future__ import annotations

import logging
from collections import UserDict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from celery.exceptions import Ignore

from geodes_tasks.errors import (
    DiskError,
    DownloadCancelledError,
    GeodesTasksError,
    LeaseLostError,
    NotFoundError,
    Reaction,
    SourcePausedError,
    SourceUnavailableError,
)
from geodes_tasks.ledger import Claim
from geodes_tasks.ledger.retention import Litter
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.formatting import human_bytes, instant
from geodes_tasks.model.results import Decision, DownloadResult
from geodes_tasks.model.states import Reason
from geodes_tasks.tasks.core_binding import is_small
from geodes_tasks.tasks.leased_attempt import LeasedAttempt
from geodes_tasks.tasks.process import WorkerProcess
from geodes_tasks.tasks.task_events import FlowerRow
from geodes_tasks.transfer import retry

logger = logging.getLogger(__name__)


def log_start(claim: Claim) -> None:
    """Log that an attempt begins, and whether a worker died with the one before.

    Of a small file only at DEBUG: the line of its end follows at once, and one line is a twentieth
    of its processor time.
    """
    taken = ", taken over from a worker that died" if claim.is_taken_over else ""
    is_brief = is_small(claim.asset.size_bytes) and not taken
    level = logging.DEBUG if is_brief else logging.INFO
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "STARTED %s (attempt %d, %s%s)",
        claim.path,
        claim.attempt,
        human_bytes(claim.asset.size_bytes),
        taken,
        extra={"action": "download_taken_over" if taken else "download_started"},
    )


def succeed(
    process: WorkerProcess, claim: Claim, result: DownloadResult, seconds: float
) -> UserDict[str, Any]:
    """Record the verified file as SUCCESS; return what Flower shows as the task's result.

    Raises:
        Ignore: the lease was lost, or the worker must end before Redis is back.
    """
    try:
        process.record(lambda: process.ledger.leases.finish(claim, result))
    except LeaseLostError as error:
        _leave(error)
    if result.bytes_transferred:
        process.volumes.written(Path(result.path))
    process.hooks.file_done(claim, result)
    speed = result.bytes_transferred / max(seconds, 0.001)
    logger.info(
        "%s %s (%s, %s%s)",
        result.outcome,
        result.path,
        human_bytes(result.size_bytes),
        f"{seconds:.1f} s at {human_bytes(speed)}/s, " if result.bytes_transferred else "",
        "verified" if result.verified else "unverified: the catalogue has no checksum",
        extra={
            "action": "download_done",
            "bytes": result.bytes_transferred,
            "seconds": round(seconds, 3),
        },
    )
    shown = {
        "outcome": str(result.outcome),
        "path": result.path,
        "size_bytes": result.size_bytes,
        "checksum": str(result.checksum) if result.checksum else None,
        "verified": result.verified,
        "bytes_transferred": result.bytes_transferred,
        "source": result.source,
        "sources": dict(result.sources),
        "attempts": claim.attempt,
    }
    # Celery takes 250 calls to write a dict (celery.utils.saferepr), one for any other object.
    row = UserDict[str, Any]()
    row.data = shown
    return row


def end(
    process: WorkerProcess, row: FlowerRow, attempt: LeasedAttempt, error: Exception
) -> NoReturn:
    """Record an attempt that gave no file: RETRY, FAILURE, REVOKED, or nothing without a lease.

    Raises:
        Ignore: for Celery, which must not record a state of its own.
        GeodesTasksError: the download ends as FAILURE with this error.
    """
    # A connection that was aborted to end the attempt fails too: the reason to end counts.
    error = attempt.end_reason or error
    try:
        if isinstance(error, LeaseLostError):
            _leave(error)
        if isinstance(error, DownloadCancelledError):
            claim = attempt.claim
            # Before the record: afterwards another worker may have claimed the same path again.
            left = None
            try:
                process.discard(claim.asset, claim.path, claim.token)
            except DiskError:
                left = Litter(claim.asset, claim.path, claim.token, claim.download_id)
            process.record(lambda: process.ledger.leases.revoke(claim))
            if left:
                process.wait_for_redis(partial(process.ledger.retention.return_litter, left))
            logger.info("%s: cancelled", claim.path, extra={"action": "download_cancelled"})
            raise Ignore("cancelled")
        _retry_or_fail(process, row, attempt, error)
    except LeaseLostError as lost:
        _leave(lost)


def _leave(error: LeaseLostError) -> NoReturn:
    logger.info("%s; this attempt records nothing", error)
    raise Ignore(str(error)) from error


def _retry_or_fail(
    process: WorkerProcess, row: FlowerRow, attempt: LeasedAttempt, error: Exception
) -> NoReturn:
    claim, leases = attempt.claim, process.ledger.leases
    if not isinstance(error, GeodesTasksError):
        logger.error("%s: a defect: %r", claim.path, error, exc_info=error)
    source = attempt.source_of(error)
    if source == GEODES:
        error = decisive(attempt, error, process.classify(attempt, error))
    elif (
        isinstance(error, SourceUnavailableError | NotFoundError)
        and error.reaction is Reaction.FINAL
    ):
        usable = process.transports(claim.account, claim.asset.hrefs)
        # A source that a user paused may have it.
        for paused in claim.closed_sources.intersection(usable):
            error = SourcePausedError(claim.asset.title, paused)
    decision = retry.decide(
        error,
        claim.attempt,
        claim.download_id,
        process.settings,
        was_missing=claim.was_missing,
    )
    process.source_order.failed(attempt.server_of(source, error), error, is_probe=claim.probes)
    if attempt.server_of(source) != GEODES:
        decision = retry.not_of_the_account(decision)
    entry, name = attempt.history_entry(row.worker, error), type(error).__name__
    if not decision.retry:
        process.record(lambda: leases.fail(claim, error, entry))
        fields = {"action": "download_failed", "class": name}
        logger.error("FAILED %s: %s: %s", claim.path, name, error, extra=fields)
        process.discard(claim.asset, claim.path, claim.token)
        raise error
    now = process.wait_for_redis(process.ledger.connection.server_time)
    process.record(lambda: leases.postpone(claim, error, decision, entry))
    waits = wait_text(decision, now)
    fields = {"action": "download_waits", "class": name, "reason": str(decision.reason)}
    logger.warning("%s (%s, %s)", error, decision.reason, waits, extra=fields)
    if isinstance(error, DiskError):
        process.volumes.refused(Path(claim.path), claim.asset.size_bytes, error)
    row.send("task-retried", exception=f"{decision.reason}: {error} ({waits})", traceback="")
    raise Ignore(str(decision.reason))


def decisive(attempt: LeasedAttempt, error: Exception, classified: Exception) -> Exception:
    """Return the error that decides what follows.

    A file that the portal refuses for good may still come over another source that failed for now.
    """
    if classified is error:
        return error
    passing = (
        other
        for other in attempt.refusals.values()
        if other is not error
        and other.reaction is Reaction.TRANSIENT
        and not isinstance(other, SourceUnavailableError)
    )
    return next(passing, classified)


def wait_text(decision: Decision, now: float) -> str:
    """Return until when a download waits, as far as that is known.

    ``now`` is in seconds of the server's clock: those of workers may differ.
    """
    if decision.reason is Reason.OFFLINE:
        return "waits until it is online"
    if decision.pause and decision.pause_s is None:
        return "waits until the account is resumed"
    wait_s = decision.pause_s or decision.delay_s
    due = instant(now + wait_s).astimezone().isoformat(timespec="seconds")
    return f"waits until {due}" if wait_s else "waits for its turn"
