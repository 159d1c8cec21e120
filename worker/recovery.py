"""The recovery thread of every worker: expired leases, due downloads, lost messages, litter."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from celery.worker import state as celery_state
from kombu.exceptions import OperationalError

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.retention import Litter
from geodes_tasks.model.asset import S3
from geodes_tasks.tasks.app import QUEUE, Sender
from geodes_tasks.tasks.leased_attempt import REDIS_AWAY
from geodes_tasks.tasks.loop_guard import LoopGuard, publish_failures
from geodes_tasks.tasks.process import worker_process
from geodes_tasks.tasks.stop_signal import STOP

logger = logging.getLogger(__name__)

LOST_AFTER_S = 10.0
"""Time in seconds after which a message that was sent and is not in the queue counts as lost."""
FORGET_S = 3600.0
"""Seconds between two turns in which batches older than KEEP_DAYS are forgotten."""
SWEPT = 5000
"""Records of a forgotten batch that one turn reads, at most: part files keep some for long."""
SWEEPS = 5
"""Number of times one worker tries to remove the part files of one ended download."""
AWAY = (*REDIS_AWAY, OperationalError)
"""Errors after which no later part of the same turn can succeed either."""


class Recovery(threading.Thread):
    """Repairs what dead workers and a broker without memory leave. Any number may run."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        worker: str,
        slots: int,
        accounts: Sequence[str] = (),
        folders: Sequence[Path] = (),
    ) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="recovery", daemon=True)
        self.ledger, self.sender = ledger, sender
        self.worker, self.slots, self.accounts, self.folders = worker, slots, accounts, folders
        # A quarter of a lease: an expired one is found within 1.25 leases.
        self.period_s = ledger.connection.limits.register_seconds
        self._ended = threading.Event()
        self._guard = LoopGuard(logger, "recovery", expected=(OperationalError,))
        self._forgot = -FORGET_S
        """Time (monotonic, in seconds) at which this worker last forgot old batches."""
        self._recovers = False
        """Whether it is this worker's turn to recover for all: each pass over the whole ledger or
        the broker's queue is made once, however many workers there are."""
        self._process = uuid.uuid4().hex
        self._has_published = self._is_warned = False
        self._sweeps: dict[str, int] = {}
        """Failed sweeps by the token of the attempt that left the part files."""

    def run(self) -> None:
        """Recover every few seconds until stopped."""
        while not self._ended.is_set():
            with self._guard:
                self.recover()
            self._ended.wait(self.period_s)

    def recover(self) -> None:
        """Run one turn; a part of it that fails does not keep the others from their work.

        Raises:
            LedgerUnavailableError, LedgerForbiddenError, OperationalError: Redis does not answer,
                or refuses.
        """
        self.ledger.connection.ping()
        for part in (
            self._recover_leases,
            lambda: publish_failures(self.ledger),
            self._cancel_revoked,
            self._resend_lost,
            self._offer_sources,
            lambda: self.sender.send(self.ledger.dispatch.release()),
            lambda: worker_process().hooks.batches_done(self.ledger),
            self._sweep_parts,
            self._sweep_records,
        ):
            try:
                part()
            except AWAY:
                raise
            except Exception as error:  # noqa: BLE001 - a defect of one part must not stop the others
                self._guard.failed(error)

    def _recover_leases(self) -> None:
        slots = 0 if STOP.takes_none else self.slots
        self._recovers = self.ledger.dispatch.register(self.worker, slots)
        ended, _ = self.ledger.dispatch.recover() if self._recovers else (0, 0)
        # Last: to register removes the record of this worker if its key holds no hash.
        before = self.ledger.dispatch.publish(
            self.worker, self.accounts, self._process, self.folders
        )
        if self._has_published and before not in {None, self._process} and not self._is_warned:
            self._is_warned = True
            logger.warning(
                "another worker is named %s too: give each its own name (-n one@%%h, -n two@%%h). "
                "Downloads are safe, but slots and shown workers are counted once for both",
                self.worker,
            )
        self._has_published = True
        if ended:
            logger.warning("%d downloads taken back from workers that died or went silent", ended)

    def _offer_sources(self) -> None:
        """Report that this worker can use S3, so that downloads which only S3 serves may start."""
        in_use = worker_process().sources_in_use()
        if S3 in in_use:
            worker_process().source_order.offer(in_use)

    def _sweep_records(self) -> None:
        """Record the end of batches, remove forgotten records and, once an hour, old batches."""
        if not self._recovers:
            return
        retention, keep_days = self.ledger.retention, worker_process().settings.keep_days
        retention.end_batches()
        retention.sweep(SWEPT)
        if keep_days and time.monotonic() - self._forgot > FORGET_S:
            self._forgot = time.monotonic()
            retention.forget_older(keep_days)

    def _sweep_parts(self) -> None:
        """Remove the part files of ended downloads; those of a folder that fails stay for later."""
        for left in self.ledger.retention.litter():
            process = worker_process()
            try:
                if process.is_elsewhere(left.path):
                    self.ledger.retention.return_litter(left)
                else:
                    process.discard(left.asset, left.path, left.token)
            except Exception as error:  # noqa: BLE001 - one folder must not cost the others
                self._sweep_later(left, error)
            else:
                self._sweeps.pop(left.token, None)

    def _sweep_later(self, left: Litter, error: Exception) -> None:
        tries = self._sweeps[left.token] = self._sweeps.get(left.token, 0) + 1
        if tries < SWEEPS:
            self.ledger.retention.return_litter(left)
            return
        del self._sweeps[left.token]
        logger.warning(
            "%s: part files of this ended download could not be removed in %d tries (%s). Remove "
            "them by hand from the folder .geodes-tasks next to it",
            left.path,
            tries,
            error,
        )

    def _cancel_revoked(self) -> None:
        """Cancel in the ledger each download whose task a user revoked in Celery or Flower."""
        # Celery drops every later message of a revoked id for three hours (REVOKE_EXPIRES): the id
        # is removed from its list, so that the download can be enqueued again at once.
        for identifier in [str(one) for one in celery_state.revoked]:
            if self.ledger.control.cancel([identifier]):
                logger.info("%s: cancelled, as it was revoked", identifier)
            celery_state.revoked.discard(identifier)

    def _resend_lost(self) -> None:
        """Send again the downloads whose message is neither queued nor claimed."""
        if not self._recovers:
            return
        for account in self.ledger.dispatch.accounts():
            old = self.ledger.dispatch.sent(account, LOST_AFTER_S)
            if not old:
                continue
            # A message that a worker took out of it is claimed at once, unless that worker died.
            lost = dict.fromkeys(old)
            for identifier in message_ids(self.ledger.dispatch.queued_messages(QUEUE)):
                lost.pop(identifier, None)
            if lost and self.ledger.dispatch.resend(account, LOST_AFTER_S, lost):
                logger.warning("%d messages were lost and are sent again", len(lost))

    def stop(self) -> None:
        """End the thread, and remove this worker from the ledger."""
        self._ended.set()
        try:
            self.ledger.dispatch.unregister(self.worker)
        except Exception as error:  # noqa: BLE001 - a stop must come to its end
            logger.info("%s; the record of this worker expires by itself", error)


def message_ids(texts: Iterable[str]) -> Iterable[str]:
    """Yield the task ids of messages as kombu stores them, without those of malformed ones."""
    for text in texts:
        try:
            message: Any = json.loads(text)
            message = message[0] if isinstance(message, list) else message
            yield str(message["headers"]["id"])
        except (ValueError, KeyError, IndexError, TypeError):
            continue
