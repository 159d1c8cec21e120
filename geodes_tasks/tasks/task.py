"""The Celery task: claim, download, record. The one place where an exception becomes a state."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import celery
from celery import shared_task
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from geodes_tasks import transports as transport_table
from geodes_tasks.errors import (
    CancelledError,
    ConfigError,
    DiskError,
    GeodesTasksError,
    KeyMissingError,
    LeaseLostError,
    LedgerForbiddenError,
    LedgerUnavailableError,
    OutsideRootsError,
    Reaction,
    SourceHeldError,
    SourceUnavailableError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Verdict, Wakeup
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.model.formatting import human_bytes, progress_text
from geodes_tasks.model.states import Reason
from geodes_tasks.settings import config
from geodes_tasks.tasks.allowed_folders import Roots
from geodes_tasks.tasks.app import TASK, Sender
from geodes_tasks.tasks.hooks import Hooks
from geodes_tasks.tasks.lease_keeper import LeasedAttempt, LeaseKeeper, StopSignal
from geodes_tasks.tasks.source_order import Ways
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import retry
from geodes_tasks.transports.http.key_check import KeyCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from geodes_tasks.model.asset import Asset
    from geodes_tasks.model.results import Decision, DownloadResult
    from geodes_tasks.settings.config import Settings
    from geodes_tasks.transports import Transport

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

STOP = StopSignal()
"""Shared by all processes of this worker; see :class:`StopSignal`."""


class Desk:
    """What the downloads of one process share: settings, ledger, transports, lease keeper."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; opens no connection."""
        self.settings = settings
        self._lock = threading.Lock()
        self._others: dict[str, Mapping[str, Transport]] = {}
        """Transports of accounts that have a key of their own, by account."""
        self.ledger = Ledger.of(settings)
        self.sender = Sender(settings)
        silence_s = max(
            settings.connect_seconds + settings.first_byte_seconds, settings.stall_seconds
        )
        self.keeper = LeaseKeeper(
            self.ledger,
            stop=STOP,
            silence_s=silence_s,
            break_off=self.break_off,
            give_back=self.give_back,
        )
        self.ways = Ways(self.ledger, settings.s3_again_seconds)
        self.keys = KeyCheck(settings)
        self.hooks = Hooks(settings.on_file, settings.on_batch, settings.hook_seconds)
        self.roots = Roots(settings.download_roots)
        self.policy = retry.Policy(
            settings.max_attempts,
            settings.backoff_seconds,
            settings.offline_poll_seconds,
            settings.probe_seconds,
        )

    @cached_property
    def transports(self) -> Mapping[str, Transport]:
        """The transports in use, the preferred source first."""
        return self._made(self.settings) | self._portal_only

    @cached_property
    def _portal_only(self) -> dict[str, Transport]:
        return {GEODES: transport_table.create(GEODES, self.settings)}

    def _own(self, hrefs: Mapping[str, str]) -> Mapping[str, Transport]:
        """The transports of the default account; boto3 takes a while to load, and memory."""
        known = "transports" in vars(self)
        return self.transports if known or S3 in hrefs else self._portal_only

    @staticmethod
    def _made(settings: Settings) -> dict[str, Transport]:
        sources = transport_table.chosen(settings)
        return {name: transport_table.create(name, settings) for name in sources}

    def transports_of(self, claim: Claim) -> Mapping[str, Transport]:
        """The transports with the key of the account that pays, without the sources held."""
        try:
            settings = config.of_account(self.settings, claim.account)
        except ConfigError as error:
            raise KeyMissingError(self.settings.portal_url, error.setting, error.problem) from error
        if settings is self.settings:
            found = self._own(claim.asset.hrefs)
        else:
            with self._lock:
                if claim.account not in self._others:
                    self._others[claim.account] = self._made(settings)
                found = self._others[claim.account]
        usable = [name for name in found if name in claim.asset.hrefs]
        if usable and claim.held_sources.issuperset(usable):
            raise SourceHeldError(claim.asset.title, usable[0])
        open_ways = {name: found[name] for name in found if name not in claim.held_sources}
        return self.ways.ordered(open_ways)

    def heed_refusal(self, attempt: LeasedAttempt, source: str, error: GeodesTasksError) -> None:
        """Draw for the fleet what follows from one source's refusal though another goes on."""
        self.ways.refused(source, error)
        if source != GEODES:
            return
        decision = retry.decide(self.judged(attempt, error), 1, "", self.policy)
        if decision.pause is not None:
            with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
                self.ledger.account.pause(
                    attempt.claim.account, decision.pause, decision.pause_s, decision.probe_s
                )

    def judged(self, attempt: LeasedAttempt, error: Exception) -> Exception:
        """Return what an error of the portal is: of the account's key, or of this file alone.

        What the portal cannot have counted is returned to the account's quota.
        """
        attempt.return_quota(error)
        attempt.heard = time.monotonic()

        def gave_since() -> bool:
            with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
                return self.ledger.account.gave_since(attempt.claim)
            return False

        return self.keys.judged(error, attempt.claim.account, gave_since)

    def break_off(self, attempt: LeasedAttempt) -> None:
        """Wake an attempt that waits for the network, by closing its connection."""
        with self._lock:
            all_of_them = [self._own({}), *self._others.values()]
        for transports in all_of_them:
            for transport in transports.values():
                transport.abort(attempt.thread)

    def give_back(self, attempts: Sequence[LeasedAttempt]) -> None:
        """Requeue the attempts that did not stop in time, then exit: the last resort of a stop."""
        try:
            requeued = sum(1 for attempt in attempts if self._requeue(attempt))
            logger.warning(
                "%d downloads did not end in time: %d were requeued, the others continue on other "
                "workers when their leases end",
                len(attempts),
                requeued,
            )
            logging.shutdown()
        finally:
            os._exit(0)

    def _requeue(self, attempt: LeasedAttempt) -> bool:
        """Record that an attempt ends with this worker; return whether the ledger took it."""
        error = WorkerStoppingError(attempt.claim.download_id)
        try:
            decision = retry.decide(error, attempt.claim.attempt, "", self.policy)
            entry = history_entry(attempt, "", error)
            self.sender.send(self.ledger.leases.postpone(attempt.claim, error, decision, entry))
        except (GeodesTasksError, OperationalError) as problem:
            logger.warning("%s was not requeued: %s", attempt.claim.download_id, problem)
        except Exception:
            logger.exception("%s was not requeued", attempt.claim.download_id)
        else:
            return True
        return False


_desks: list[Desk] = []
_desks_lock = threading.Lock()


def desk() -> Desk:
    """Give this process its desk; a forked child makes its own, sockets are never shared."""
    if not _desks:
        with _desks_lock:
            if not _desks:
                _desks.append(Desk(config.load()))
    return _desks[0]


os.register_at_fork(after_in_child=_desks.clear)


@shared_task(
    bind=True,
    name=TASK,
    # Expected errors are one log line, not a traceback.
    throws=(GeodesTasksError,),
)
def download(self: celery.Task, item: str, file: str, size: str) -> dict[str, Any]:  # noqa: ARG001
    """Fetch one asset; the arguments are for the reader's eyes, the ledger knows the rest."""
    claim = claimed(self)
    with desk().keeper.hold(claim, on_tick=partial(tell_flower, Row.of(self))) as attempt:
        attempt.on_refusal = desk().heed_refusal
        try:
            # Whoever can write to Redis chooses the path; this worker's settings have a say too.
            result = transfer.download(
                claim.asset,
                desk().roots.checked(claim.path),
                desk().transports_of(claim),
                callbacks=attempt,
                token=claim.token,
                proof=claim.proof,
                suspect=claim.suspect,
            )
        except Exception as error:  # noqa: BLE001 - every failure becomes a state, none is lost
            settle(self, attempt, attempt.ending or error)
        return settle_done(claim, result)


# --- before ------------------------------------------------------------------------------------


def claimed(task: celery.Task) -> Claim:
    """Claim the download that the message names, or leave at once."""
    identifier = str(task.request.id)
    answer = patiently(lambda: desk().ledger.leases.claim(identifier, str(task.request.hostname)))
    if isinstance(answer, Claim):
        return answer
    logger.info("%s: nothing to do (%s)", identifier, answer)
    if answer is Verdict.FINISHED:
        refresh_flower(task)
    raise Ignore(str(answer))


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask the ledger until it answers: what is known now must not be lost to a restart of Redis.

    Raises:
        Ignore: the worker must end first; the lease runs out and others go on.
    """
    while True:
        try:
            return ask()
        except (LedgerUnavailableError, LedgerForbiddenError) as error:
            if STOP.expired:
                raise Ignore(str(error)) from error
            time.sleep(1.0)


# --- after -------------------------------------------------------------------------------------


def settle_done(claim: Claim, result: DownloadResult) -> dict[str, Any]:
    """Record the proven file; what is returned is what Flower shows."""
    recorded(lambda: desk().ledger.leases.finish(claim, result))
    desk().hooks.file_done(claim, result)
    logger.info(
        "%s %s (%s, %s)",
        result.outcome,
        result.path,
        human_bytes(result.size_bytes),
        "verified" if result.verified else "unverified: the catalogue has no checksum",
        extra={"action": "download_done", "download": claim.download_id},
    )
    return {
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


def settle(task: celery.Task, attempt: LeasedAttempt, error: Exception) -> NoReturn:
    """End an attempt that did not succeed."""
    if isinstance(error, LeaseLostError):
        logger.info("%s; what this attempt did is void", error)
        raise Ignore(str(error)) from error
    if isinstance(error, CancelledError):
        settle_cancelled(attempt.claim)
    settle_failed(task, attempt, error)


def discard(asset: Asset, path: str, token: str) -> None:
    """Remove what attempts have left; nothing where this worker may not write."""
    with contextlib.suppress(OutsideRootsError):
        transfer.discard(asset, desk().roots.checked(path), token)


def settle_cancelled(claim: Claim) -> NoReturn:
    """Remove what the cancelled attempt has written, and record it."""
    discard(claim.asset, claim.path, claim.token)
    recorded(lambda: desk().ledger.leases.revoke(claim))
    logger.info("%s: cancelled", claim.path)
    raise Ignore("cancelled")


def settle_failed(task: celery.Task, attempt: LeasedAttempt, error: Exception) -> NoReturn:
    """Record a failed attempt: it waits for a reason, or ends with a named error."""
    claim, ledger = attempt.claim, desk().ledger
    if not isinstance(error, GeodesTasksError):
        logger.error("%s: a defect: %r", claim.path, error, exc_info=error)
    source = source_of(attempt, error)
    if source == GEODES:
        error = least_final(attempt, error, desk().judged(attempt, error))
    decision = retry.decide(error, claim.attempt, claim.download_id, desk().policy)
    if source != GEODES:
        desk().ways.refused(source, error)
        decision = retry.not_of_the_account(decision)
    entry = history_entry(attempt, str(task.request.hostname), error)
    if not decision.retry:
        recorded(lambda: ledger.leases.fail(claim, error, entry))
        logger.error("FAILED %s: %s: %s", claim.path, type(error).__name__, error)
        discard(claim.asset, claim.path, claim.token)
        raise error
    recorded(lambda: ledger.leases.postpone(claim, error, decision, entry))
    waits = wait_text(decision)
    logger.warning("%s (%s, %s)", error, decision.reason, waits)
    if isinstance(error, DiskError):
        close_intake(str(task.request.hostname), claim, error)
    Row.of(task).tell(
        "task-retried", exception=f"{decision.reason}: {error} ({waits})", traceback=""
    )
    raise Ignore(str(decision.reason))


def source_of(attempt: LeasedAttempt, error: Exception) -> str:
    """Name the source that an error is of; the portal's where no source was asked."""
    named = [name for name, refusal in attempt.refusals.items() if refusal is error]
    return named[0] if named else attempt.source or GEODES


def least_final(attempt: LeasedAttempt, error: Exception, judged: Exception) -> Exception:
    """Return what decides: a file that the portal refuses may come yet over another source."""
    if judged is error:
        return error
    passing = (
        other
        for other in attempt.refusals.values()
        if other is not error
        and other.reaction is Reaction.TRANSIENT
        and not isinstance(other, SourceUnavailableError)
    )
    return next(passing, judged)


def wait_text(decision: Decision) -> str:
    """Say how long a download waits, as far as that is known."""
    if decision.reason is Reason.OFFLINE:
        return "waits until it is online"
    if decision.pause and decision.pause_s is None:
        return "waits until somebody resumes the account"
    wait_s = decision.pause_s or decision.delay_s
    return f"waits {wait_s:.0f} s" if wait_s else "waits for its turn"


def recorded(record: Callable[[], Sequence[Wakeup]]) -> None:
    """Record, waiting for Redis if need be, and wake up who has a place now.

    Raises:
        Ignore: the lease is another worker's; nothing was recorded.
    """
    try:
        released = patiently(record)
    except LeaseLostError as error:
        logger.info("%s; what this attempt did is void", error)
        raise Ignore(str(error)) from error
    try:
        desk().sender.send(released)
    except OperationalError as error:
        # Recovery sends again what has no message.
        logger.warning("%d messages could not be sent now: %s", len(released), error)


def history_entry(attempt: LeasedAttempt, worker: str, error: Exception) -> dict[str, Any]:
    """Describe a failed attempt for the report."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "worker": worker,
        "source": attempt.source,
        "bytes": max(attempt.done_bytes, 0),
        "transferred": attempt.received_bytes,
        "sources": dict(attempt.received),
        "error": f"{type(error).__name__}: {error}",
        **refused_by(attempt, error),
    }


def refused_by(attempt: LeasedAttempt, error: Exception) -> dict[str, Any]:
    """Say for the report why other sources did not give the file either."""
    others = {name: str(why) for name, why in attempt.refusals.items() if why is not error}
    return {"refused": others} if others else {}


# --- this worker's disk ------------------------------------------------------------------------

_disk_listeners: list[Callable[[], None]] = []


def on_disk_error(listener: Callable[[], None]) -> None:
    """Register who looks at once when this process cannot write."""
    _disk_listeners.append(listener)


def close_intake(worker: str, claim: Claim, error: DiskError) -> None:
    """Have this worker take no more work until its folder can be written to again."""
    if patiently(lambda: desk().ledger.dispatch.close(worker, str(Path(claim.path).parent))):
        logger.error("this worker takes no more work: %s. %s", error, error.hint)
    for listener in _disk_listeners:
        listener()


# --- Flower ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """The row of one task in Flower; usable from any thread, unlike the task itself."""

    app: celery.Celery
    identifier: str
    worker: str
    kwargs: str
    """What it is about: told each time, for a Flower that started later has not heard of it."""

    @classmethod
    def of(cls, task: celery.Task) -> Row:
        """Give the row of the task that runs in this thread."""
        request = task.request
        return cls(task.app, str(request.id), str(request.hostname), repr(request.kwargs))

    def tell(self, event: str, **fields: object) -> None:
        """Send an event; what is recorded must not suffer from news that cannot be sent."""
        if not self.app.conf.worker_send_task_events:
            return
        try:
            with self.app.events.default_dispatcher(hostname=self.worker) as dispatcher:
                known = {"uuid": self.identifier, "name": TASK, "kwargs": self.kwargs}
                dispatcher.send(event, retry=False, **known, **fields)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            logger.debug("%s: event %s was not sent: %s", self.identifier, event, error)


def tell_flower(row: Row, attempt: LeasedAttempt) -> None:
    """Show moving numbers; ``result`` is the one free field that Flower keeps in its copies."""
    speed = attempt.received_bytes / max(time.monotonic() - attempt.started, 0.001)
    text = progress_text(attempt.done_bytes, attempt.claim.asset.size_bytes, speed)
    row.tell("task-progress", result=text)


def refresh_flower(task: celery.Task) -> None:
    """Let a duplicate's row in Flower show how the download ended, not that it started."""
    with contextlib.suppress(LedgerUnavailableError, LedgerForbiddenError):
        record = desk().ledger.reading.record(str(task.request.id))
        if record is not None and record.outcome is not None:
            Row.of(task).tell("task-succeeded", result=str(record.outcome), runtime=0.0)
