"""The Celery task of one download: claim, transfer, record."""

from __future__ import annotations

import logging
import traceback
from collections import UserDict
from functools import partial
from typing import Any

import celery
from celery import shared_task
from celery.exceptions import Ignore

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Claim, Verdict
from geodes_tasks.tasks import outcome
from geodes_tasks.tasks.app import TASK
from geodes_tasks.tasks.process import worker_process
from geodes_tasks.tasks.task_events import FlowerRow
from geodes_tasks.transfer import download as transfer

logger = logging.getLogger(__name__)


@shared_task(
    bind=True,
    name=TASK,
    # Celery logs these as one line, without a traceback.
    throws=(GeodesTasksError,),
    Request="geodes_tasks.tasks.download_request:DownloadRequest",
)
def download(self: celery.Task, item: str, file: str, size: str) -> UserDict[str, Any]:  # noqa: ARG001
    """Fetch one asset. The arguments are for readers of Flower; the ledger knows the rest.

    Raises:
        Ignore: there is nothing to do, or the download waits: the ledger holds its state.
        GeodesTasksError: the download ended as FAILURE.
    """
    try:
        return _attempt(self)
    except (Ignore, GeodesTasksError) as error:
        ended = error
    _free(ended)
    try:
        raise ended.with_traceback(None)
    finally:
        del ended


def _free(ended: BaseException) -> None:
    """Free what an error holds: the frames it came through, with the buffers of a transfer.

    A frame and an error that it has a name for are a reference cycle, which stays until a full
    garbage collection, a hundred failures later. Celery would copy each of these frames with the
    positions of all its instructions (billiard/einfo.py), half a megabyte.
    """
    error: BaseException | None = ended
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        # Cut behind each, so that an error among its own causes ends the loop.
        following = error.__cause__ or error.__context__
        error.__cause__ = error.__context__ = None
        error = following


def _attempt(self: celery.Task) -> UserDict[str, Any]:
    """Claim the download of a message, transfer and record it. Raises as ``download``."""
    process, row = worker_process(), FlowerRow.of(self)
    process.worker = row.worker
    claim = process.wait_for_redis(lambda: process.ledger.leases.claim(row.identifier, row.worker))
    if not isinstance(claim, Claim):
        # The same message came twice, or it is older than its download's last claim.
        logger.info("%s: nothing to do (%s)", row.identifier, claim)
        if claim is Verdict.FINISHED:
            row.show_outcome(process.ledger)
        raise Ignore(str(claim))
    outcome.log_start(claim)
    with (
        process.cores.during(claim.asset.size_bytes),
        process.keeper.keep(claim, on_progress=row.show_progress) as attempt,
    ):
        attempt.on_refusal, attempt.on_answer = process.record_refusal, process.record_answer
        attempt.check_open = partial(process.folders.check_open, claim.path)
        try:
            # The path comes out of Redis: only this worker's settings allow it.
            path = process.checked(claim.path)
            process.volumes.check(path, claim.asset.size_bytes)
            result = transfer.download(
                claim.asset,
                path,
                process.transports_of(claim),
                callbacks=attempt,
                token=claim.token,
                proof=claim.proof,
                suspect=claim.suspect,
            )
        except SystemExit:  # SIGTERM to a process of a pool (billiard.common.reset_signals)
            process.requeue(attempt)
            raise
        except Exception as error:  # noqa: BLE001 - every failure becomes a state, none is lost
            outcome.end(process, row, attempt, error)
    return outcome.succeed(process, claim, result, attempt.seconds)
