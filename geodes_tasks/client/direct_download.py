"""One file, fetched by this process itself: no queue, no worker, and still patient.

The reactions of :mod:`geodes_tasks.transfer.retry` happen here by waiting in place.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from geodes_tasks import transports as transport_table
from geodes_tasks.client import single_downloads
from geodes_tasks.errors import GeodesTasksError, LeaseLostError, Reaction
from geodes_tasks.ledger import Ledger, Running
from geodes_tasks.model.asset import GEODES, PREVIEW_ROUTE, download_id
from geodes_tasks.model.formatting import human_seconds
from geodes_tasks.model.results import BatchStatus
from geodes_tasks.model.states import Reason, State
from geodes_tasks.monitoring.snapshot import Snapshot
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import publish, retry
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transports.http import key_check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geodes_tasks.model.asset import Asset
    from geodes_tasks.model.results import Decision, DownloadResult
    from geodes_tasks.monitoring.terminal import View
    from geodes_tasks.settings.config import Config
    from geodes_tasks.transports import Transport

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

SHOW_S = 0.2
"""Time between two updates of the progress, in seconds."""
SHARED_S = 0.5
"""Time to another attempt when a second download of the same file took the bytes, in seconds."""
_NO_USE = {Reaction.AUTH, Reaction.OFFLINE, Reaction.LOCAL, Reaction.FINAL}
"""Reactions that a short wait never mends: a user has to act, or hours pass."""


def transports(settings: Config) -> Mapping[str, Transport]:
    """Return the transports that these settings allow now, the preferred one first."""
    return {name: _opened(name, settings) for name in transport_table.chosen(settings)}


@lru_cache(maxsize=8)
def _opened(name: str, settings: Config) -> Transport:
    """Return a transport, kept so that the next file finds connections open; it sees a fork."""
    return transport_table.create(name, settings)


def download(
    asset: Asset,
    final: Path,
    settings: Config,
    *,
    picture: View,
    notify: Callable[[str], None],
) -> DownloadResult:
    """Fetch one asset to one path, waiting out what passes by itself.

    A file that is there and is no copy of the asset stays: the new one gets another name, which
    a warning and the result name.

    Args:
        asset: What to fetch.
        final: Where it goes, absolute, if nothing else is there.
        settings: Key, credentials, waits.
        picture: Shows the progress; entered already.
        notify: Called with a line about a long wait.

    Raises:
        GeodesTasksError: nothing that waiting would mend, or too many attempts.
    """
    shown = _ShownDownload(asset, settings, picture)
    suspect: dict[str, Any] = {}
    usable = transports(settings)

    def attempt(last: Decision | None) -> DownloadResult:
        if last and last.suspect:
            suspect["suspect"] = last.suspect
        return transfer.download(asset, final, usable, callbacks=shown, replace=False, **suspect)

    seed = download_id(str(final), asset)
    result = single_downloads.recorded(
        settings, asset, final, lambda: patiently(attempt, settings, seed, notify)
    )
    shown.done(result)
    if result.path != str(final):
        publish.warn_of_other_name(final, asset.title, Path(result.path))
    return result


def patiently(
    act: Callable[[Decision | None], Answer],
    settings: Config,
    seed: str,
    notify: Callable[[str], None],
) -> Answer:
    """Do something until it works, as long as waiting can help.

    Args:
        act: What to do; called with the decision after the attempt before.
        settings: How often and how long.
        seed: Of the jitter of the waits.
        notify: Called with a line about a long wait.

    Raises:
        GeodesTasksError: what ``act`` raised last.
    """
    decision, attempts = None, 0

    def wait_after(error: GeodesTasksError) -> float:
        nonlocal decision, attempts
        attempts += 1
        if isinstance(error, LeaseLostError) and attempts < settings.max_attempts:
            # Another thread or process downloads the same file, and continues with these bytes.
            return SHARED_S
        decision = retry.decide(error, attempts, seed, settings)
        if not decision.retry or error.reaction in _NO_USE:
            answer = key_check.KeyCheck(settings).classify(error, settings.account)
            raise answer from (None if answer is error else error)
        # A user waits here: a portal that cannot be reached ends the call after some attempts.
        if decision.reason is Reason.OUTAGE and attempts >= settings.max_attempts:
            raise error
        attempts -= not decision.counted and decision.reason is not Reason.OUTAGE
        wait_s = max(decision.delay_s, decision.pause_s or 0.0)
        write = notify if wait_s >= 5 else logger.info
        write(f"{error}; continuing in {human_seconds(wait_s)}")
        return wait_s

    return retry.until_success(lambda: act(decision), wait_after)


class _ShownDownload(Callbacks):
    """Shows one download as a batch of one, and pays for it where the quota is shared."""

    def __init__(self, asset: Asset, settings: Config, picture: View) -> None:
        self._asset, self._picture = asset, picture
        self._shown_at = time.monotonic()  # a file that is there in no time needs no progress
        self._account = settings.account
        # Only a fleet has a ledger that knows what others have spent.
        shared = "redis_url" in settings.given
        self._ledger = Ledger.of(settings) if shared else None

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:  # noqa: ARG002
        """Show the bytes, now and then."""
        now = time.monotonic()
        if now - self._shown_at >= SHOW_S:
            self._shown_at = now
            self._show(State.STARTED, done_bytes, self._asset.size_bytes or 0)

    def before_open(self, source: str) -> None:
        """Spend one request of the fleet's quota.

        Raises:
            QuotaError: it is used up; nothing was asked of the portal.
        """
        href = self._asset.hrefs[source]
        if self._ledger is None or source != GEODES or PREVIEW_ROUTE in href:
            return
        if wait_s := self._ledger.account.spend(self._account).wait_s:
            raise self._ledger.connection.limits.used_up(href, wait_s)

    def done(self, result: DownloadResult) -> None:
        """Show the end."""
        self._show(State.SUCCESS, result.size_bytes, result.size_bytes, str(result.outcome))

    def _show(self, state: State, done: int, total: int, outcome: str = "") -> None:
        asset = self._asset
        row = Running(asset.key, asset.item_id, asset.title, asset.size_bytes, done, "", "")
        status = BatchStatus(
            batch="",
            total=1,
            states=Counter({str(state): 1}),
            outcomes={outcome: 1} if outcome else {},
            bytes_total=total,
            bytes_done=done,
        )
        running = [row] if status.unfinished else []
        self._picture.show(status, lambda: Snapshot(time.time(), [status], running=running))
