"""The recovery step of every worker: dead leases, due downloads, lost messages, litter."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

from celery.worker import state as celery_state
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerForbiddenError, LedgerUnavailableError
from geodes_tasks.model.asset import S3
from geodes_tasks.tasks.app import QUEUE
from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.tasks.task import desk, discard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.ledger.retention import Litter
    from geodes_tasks.tasks.app import Sender
    from worker.disk_gate import Intake

logger = logging.getLogger(__name__)

LOST_AFTER_S = 10.0
"""A message sent so long ago, and found nowhere, is lost."""
SWEEPS = 5
"""How often one worker tries to remove the part files of one ended download."""
AWAY = (LedgerUnavailableError, LedgerForbiddenError, OperationalError)
"""Redis takes nothing from this worker now, so that no later part of a look can succeed either."""


class Recovery(threading.Thread):
    """Looks after what dead workers and a forgetful broker have left. Any number may run."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        worker: str,
        slots: int,
        intake: Intake | None = None,
        accounts: Sequence[str] = (),
    ) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="recovery", daemon=True)
        self.ledger, self.sender, self.intake = ledger, sender, intake
        self.worker, self.slots, self.accounts = worker, slots, accounts
        self.period_s = min(max(ledger.connection.limits.lease_seconds / 4, 0.5), 5.0)
        self._ended, self._awake = threading.Event(), threading.Event()
        self._guard = LoopGuard(logger, "recovery", expected=(OperationalError,))
        self._sweeps: dict[str, int] = {}
        """Failed sweeps by the token of the attempt that left the part files."""

    def run(self) -> None:
        """Look every few seconds until stopped."""
        while not self._ended.is_set():
            with self._guard:
                self.look()
            self._awake.wait(self.period_s)
            self._awake.clear()

    def wake(self, *_: object) -> None:
        """Look now rather than at the end of the period."""
        self._awake.set()

    def look(self) -> None:
        """Recover once; a part of it that fails does not keep the others from their work.

        Raises:
            LedgerUnavailableError, LedgerForbiddenError, OperationalError: Redis does not answer,
                or refuses.
        """
        self.ledger.connection.ping()
        for part in (
            self._look_at_intake,
            self._recover,
            self._heed_revoked,
            self._resend_lost,
            self._offer_sources,
            self._release,
            self._tell_of_batches,
            self._sweep_parts,
            self._sweep_records,
        ):
            self._spared(part)

    def _spared(self, part: Callable[[], None]) -> None:
        try:
            part()
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - a defect of one part must not starve the others
            self._guard.failed(error)

    def _look_at_intake(self) -> None:
        if self.intake is not None:
            self.intake.look()

    def _recover(self) -> None:
        takes_none = self.intake is not None and self.intake.takes_none
        ended, _ = self.ledger.dispatch.recover(self.worker, 0 if takes_none else self.slots)
        # Afterwards: recovery removes a record of this worker that is no record.
        self.ledger.dispatch.publish_accounts(self.worker, self.accounts)
        if ended:
            logger.warning("%d downloads taken back from workers that died or went silent", ended)

    def _offer_sources(self) -> None:
        """Note that this worker can use S3, so that downloads which S3 serves may start."""
        if S3 in desk().transports:
            desk().ways.offer(desk().transports)

    def _release(self) -> None:
        self.sender.send(self.ledger.dispatch.release())

    def _tell_of_batches(self) -> None:
        desk().hooks.batches_done(self.ledger)

    def _sweep_records(self) -> None:
        self.ledger.retention.sweep()

    def _sweep_parts(self) -> None:
        """Remove part files of ended downloads; what cannot be removed now waits, a few times."""
        for left in self.ledger.retention.litter():
            try:
                discard(left.asset, left.path, left.token)
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
            "them by hand from the folder .geodes-tasks beside it",
            left.path,
            tries,
            error,
        )

    def _heed_revoked(self) -> None:
        """Cancel in the ledger what somebody revoked in Celery or Flower.

        Celery would drop every later message of such an id, for hours: asking again must work.
        """
        for identifier in [str(one) for one in celery_state.revoked]:
            if self.ledger.control.cancel([identifier]):
                logger.info("%s: cancelled, as it was revoked", identifier)
            celery_state.revoked.discard(identifier)

    def _resend_lost(self) -> None:
        """Put back the downloads whose message is neither queued nor claimed."""
        for account in self.ledger.dispatch.accounts():
            old = self.ledger.dispatch.sent(account, LOST_AFTER_S)
            if not old:
                continue
            queued = self._queued()
            lost = [one for one in old if one not in queued]
            if lost and self.ledger.dispatch.resend(account, LOST_AFTER_S, lost):
                logger.warning("%d messages were lost and are sent again", len(lost))

    def _queued(self) -> set[str]:
        """Give the ids of all messages in the queue; bounded by the window.

        One that a worker has taken is claimed at once, unless that worker died.
        """
        return set(message_ids(self.ledger.dispatch.queued_messages(QUEUE)))

    def stop(self) -> None:
        """End, and no longer count as a worker."""
        self._ended.set()
        self._awake.set()
        try:
            self.ledger.dispatch.unregister(self.worker)
        except Exception as error:  # noqa: BLE001 - a stop must come to its end
            logger.info("%s; this worker is forgotten by itself", error)


def message_ids(texts: Iterable[str]) -> Iterable[str]:
    """Read the task ids out of messages as kombu stores them; what it cannot read is left out."""
    for text in texts:
        try:
            message: Any = json.loads(text)
            message = message[0] if isinstance(message, list) else message
            yield str(message["headers"]["id"])
        except (ValueError, KeyError, IndexError, TypeError):
            continue
