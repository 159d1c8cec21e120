"""Polls the portal for the quota left of each account; enough of it ends a pause early."""

from __future__ import annotations

import logging

from geodes_tasks.ledger.offline import NO_QUOTA, NOT_SAID
from geodes_tasks.transports.http.availability import RouteFailedError, RouteMissingError
from worker.poller import Poller

logger = logging.getLogger(__name__)


class QuotaPoller(Poller):
    """Polls ``remainingQuota``, which the portal publishes without counting a request."""

    def poll(self, account: str) -> int:
        """Record the quota left of an account; return 1 if that ended a pause, else 0."""
        polled_at = self.ledger.account.begin_quota_poll(account, self.settings.probe_seconds)
        if polled_at is None:
            return 0
        try:
            left = self.portal(account).quota_left()
        except RouteMissingError as error:
            logger.debug("%s: the portal does not publish the quota left (%s)", account, error)
            self.ledger.account.note_quota(account, NOT_SAID, polled_at)
            return 0
        except RouteFailedError as error:
            # An outage of this route alone ends no pause and starts none.
            logger.info("%s: the quota left is not known: %s", account, error)
            return 0
        quota = NO_QUOTA if left is None else left
        return int(self.ledger.account.note_quota(account, quota, polled_at))
