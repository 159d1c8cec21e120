"""The objects that the downloads of one process share: settings, ledger, transports, keeper."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from geodes_tasks import transports as transport_table
from geodes_tasks.errors import (
    ConfigError,
    GeodesTasksError,
    KeyMissingError,
    OutsideRootsError,
    Reaction,
    SourcePausedError,
    WorkerStoppingError,
)
from geodes_tasks.ledger import Claim, Ledger, Wakeup
from geodes_tasks.model.asset import GEODES, S3, Asset
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import of_account
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks.allowed_folders import AllowedFolders
from geodes_tasks.tasks.app import Sender
from geodes_tasks.tasks.core_binding import CoreBinding
from geodes_tasks.tasks.hooks import Hooks
from geodes_tasks.tasks.lease_keeper import LeaseKeeper
from geodes_tasks.tasks.leased_attempt import REDIS_AWAY, LeasedAttempt
from geodes_tasks.tasks.refused_volumes import RefusedVolumes
from geodes_tasks.tasks.source_order import SourceOrder
from geodes_tasks.tasks.stop_signal import STOP, restart_if_asked
from geodes_tasks.transfer import download as transfer
from geodes_tasks.transfer import retry
from geodes_tasks.transports import Transport
from geodes_tasks.transports.http.key_check import KeyCheck

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

RETRY_S = 1.0
"""Time in seconds between two tries of a command while Redis does not answer."""


class WorkerProcess:
    """Settings, ledger, transports, lease keeper: one of each for all downloads of a process."""

    def __init__(self, settings: Config) -> None:
        """Prepare; opens no connection."""
        self.settings = settings
        self.worker = ""
        """Name of the worker, known with its first task."""
        self.ledger = Ledger.of(settings)
        self.sender = Sender(settings)
        self.keeper = LeaseKeeper(
            self.ledger,
            stop=STOP,
            silence_s=max(
                settings.connect_seconds + settings.first_byte_seconds, settings.stall_seconds
            ),
            abort=self.abort,
            requeue=self.requeue_and_exit,
        )
        self.keys = KeyCheck(settings)
        self.hooks = Hooks(settings)
        self.folders = AllowedFolders(settings.allowed_folders)
        self.source_order = SourceOrder(
            self.ledger, settings.s3_again_seconds, retry.outage_s(settings)
        )
        self.volumes = RefusedVolumes(STOP, self._publish_closed)
        self.cores = CoreBinding()
        self._lock = threading.Lock()
        self._settings_of: dict[str, Config] = {}
        """Settings with the key of each account, which are read from the environment."""
        self._transports: dict[tuple[str, str], Transport] = {}
        """Transports opened so far, by account and source."""

    # --- sources ----------------------------------------------------------------------------------

    def transports_of(self, claim: Claim) -> Mapping[str, Transport]:
        """Return the transports that can serve a download, the one to try first in front.

        They carry the key of the account that pays. Paused sources are left out.

        Raises:
            KeyMissingError: this worker has no usable key of the account.
            SourcePausedError: every source that has the file is paused.
        """
        usable = self.transports(claim.account, claim.asset.hrefs)
        if usable and claim.closed_sources.issuperset(usable):
            raise SourcePausedError(claim.asset.title, next(iter(usable)))
        return self.source_order.ordered(
            {name: usable[name] for name in usable if name not in claim.closed_sources}
        )

    def transports(self, account: str, hrefs: Mapping[str, str]) -> dict[str, Transport]:
        """Return the transports of an account for the sources among ``hrefs``.

        Raises:
            KeyMissingError: this worker has no usable key of the account.
        """
        settings = self._settings_of.get(account)
        if settings is None:
            try:
                settings = self._settings_of[account] = of_account(self.settings, account)
            except ConfigError as error:
                portal = self.settings.portal_url
                raise KeyMissingError(portal, error.setting, error.problem) from error
        # Looking for S3 credentials may load botocore, 0.2 s: only where an S3 href needs it.
        in_use = self.sources_in_use(settings) if S3 in hrefs else [GEODES]
        with self._lock:
            for name in in_use:
                if name in hrefs and (account, name) not in self._transports:
                    self._transports[account, name] = transport_table.create(name, settings)
            return {name: self._transports[account, name] for name in in_use if name in hrefs}

    def sources_in_use(self, settings: Config | None = None) -> list[str]:
        """Return the sources that this worker can use, by default with its own account."""
        return transport_table.chosen(settings or self.settings)

    def abort(self, attempt: LeasedAttempt) -> None:
        """Wake an attempt that waits for the network, by closing its connection."""
        with self._lock:
            opened = list(self._transports.values())
        for transport in opened:
            transport.abort(attempt.thread)

    def record_refusal(self, attempt: LeasedAttempt, source: str, error: GeodesTasksError) -> None:
        """Pause a source or account for all workers, though this download continues elsewhere."""
        self.source_order.failed(attempt.server_of(source, error), error)
        if attempt.server_of(source) != GEODES:
            return
        decision = retry.decide(self.classify(attempt, error), 1, "", self.settings)
        if decision.pause is not None:
            with contextlib.suppress(*REDIS_AWAY):
                self.ledger.account.pause(
                    attempt.claim.account, decision.pause, decision.pause_s, decision.probe_s
                )

    def record_answer(self, attempt: LeasedAttempt) -> None:
        """Report to the fleet that a source works, if an outage of it is known."""
        for server in filter(None, (attempt.server, attempt.claim.redirect)):
            self.source_order.works(server, is_probe=attempt.claim.probes)

    def classify(self, attempt: LeasedAttempt, error: Exception) -> Exception:
        """Return an error of the portal as one of the account's key or of this file alone.

        A request that the portal cannot have counted is returned to the account's quota.
        """
        attempt.return_quota(error)
        attempt.active_at = time.monotonic()

        def gave_since() -> bool:
            with contextlib.suppress(*REDIS_AWAY):
                return self.ledger.account.gave_since(attempt.claim)
            return False

        return self.keys.classify(error, attempt.claim.account, gave_since)

    # --- folders ----------------------------------------------------------------------------------

    def checked(self, path: str) -> Path:
        """Return the path of a download if this worker may write there.

        Raises:
            OutsideRootsError: it may not; another worker takes the download where one may.
        """
        try:
            return self.folders.checked(path)
        except OutsideRootsError as error:
            if folder := self._folder_elsewhere(path):
                self.volumes.left_to_others(folder, error)
                error.reaction = Reaction.LOCAL
            raise

    def is_elsewhere(self, path: str) -> bool:
        """Return whether another worker may write to a path, and this one may not."""
        try:
            self.folders.checked(path)
        except OutsideRootsError:
            return bool(self._folder_elsewhere(path))
        return False

    def _folder_elsewhere(self, path: str) -> str | None:
        """Return the folder of another living worker that holds a path by its name."""
        own = map(str, self.folders.folders)
        others = sorted(self.ledger.dispatch.published("folders").difference(own))
        wanted = Path(os.path.normpath(path))
        return next((one for one in others if wanted.is_relative_to(one)), None)

    # --- records ----------------------------------------------------------------------------------

    def wait_for_redis(self, call: Callable[[], Answer]) -> Answer:
        """Repeat a call until Redis answers: a restart of Redis must not lose a result.

        Raises:
            Ignore: the worker must end first; the lease expires and other workers continue.
        """

        def stop(error: GeodesTasksError) -> None:
            if STOP.expired:
                raise Ignore(str(error)) from error

        return retry.until_available(call, wait_s=RETRY_S, stop=stop)

    def record(self, write: Callable[[], Sequence[Wakeup]]) -> None:
        """Record how an attempt ended, and send the downloads that may start now.

        Raises:
            LeaseLostError: another worker has the lease; nothing was recorded.
            Ignore: the worker must end before Redis is back.
        """
        released = self.wait_for_redis(write)
        try:
            self.sender.send(released)
        except OperationalError as error:
            # A message is only a wake-up: recovery sends it again after LOST_AFTER_S.
            logger.warning("%d messages could not be sent now: %s", len(released), error)

    def discard(self, asset: Asset, path: str, token: str) -> None:
        """Remove the part files of ended attempts; none where this worker may not write."""
        with contextlib.suppress(OutsideRootsError):
            transfer.discard(asset, self.folders.checked(path), token)

    def _publish_closed(self, folder: str | None) -> None:
        """Record for monitors which folder this worker cannot write to."""
        with contextlib.suppress(*REDIS_AWAY):
            self.ledger.dispatch.close(self.worker, folder)

    def requeue_and_exit(self, attempts: Sequence[LeasedAttempt]) -> None:
        """Requeue the attempts that did not stop in time, then exit: the last resort of a stop."""
        try:
            requeued = sum(1 for attempt in attempts if self.requeue(attempt))
            logger.warning(
                "%d downloads did not end in time: %d were requeued, the others continue on other "
                "workers when their leases end",
                len(attempts),
                requeued,
            )
            logging.shutdown()
        finally:
            # Not sys.exit: a thread that is blocked in the kernel would keep the process alive.
            try:
                restart_if_asked()
            finally:
                os._exit(0)

    def requeue(self, attempt: LeasedAttempt) -> bool:
        """Record that an attempt ends with this worker; return whether the ledger accepted it."""
        claim, error = attempt.claim, WorkerStoppingError(attempt.claim.download_id)
        try:
            decision = retry.decide(error, claim.attempt, "", self.settings)
            entry = attempt.history_entry("", error)
            self.sender.send(self.ledger.leases.postpone(claim, error, decision, entry))
        except (GeodesTasksError, OperationalError) as problem:
            logger.warning("%s was not requeued: %s", claim.download_id, problem)
        except Exception:
            logger.exception("%s was not requeued", claim.download_id)
        else:
            return True
        return False


_processes: list[WorkerProcess] = []
_processes_lock = threading.Lock()


def worker_process() -> WorkerProcess:
    """Return the one instance of this process, made at the first call.

    A forked child makes its own: two processes that write to one socket mix their commands.
    """
    if not _processes:
        with _processes_lock:
            if not _processes:
                _processes.append(WorkerProcess(config.load()))
    return _processes[0]


os.register_at_fork(after_in_child=_processes.clear)
