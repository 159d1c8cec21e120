"""What a failed task leaves in memory: nothing, also before the next garbage collection."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any, NoReturn

import pytest
from billiard.einfo import ExceptionInfo
from celery.worker.request import Request

from geodes_tasks.errors import TransferError
from geodes_tasks.tasks import task
from geodes_tasks.tasks.download_request import DownloadRequest


class Buffer:
    """What a frame of a transfer holds."""


def fail(buffer: Buffer) -> NoReturn:
    """Raise an error that the frame has a name for, too."""
    error = TransferError("href", "broken")
    held: list[Any] = [buffer, error]
    raise error from held[1]


@pytest.fixture(autouse=True)
def _no_collections() -> object:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_an_error_gives_back_its_frames() -> None:
    """Also those of the error that was its cause, and which is its own cause here."""
    buffer = Buffer()
    alive = weakref.ref(buffer)
    try:
        try:
            fail(buffer)
        except TransferError as cause:
            raise ValueError("outer") from cause
    except ValueError as error:
        ended = error
    del buffer
    ended.with_traceback(None)

    task._free(ended)

    assert alive() is None
    assert ended.__cause__ is ended.__context__ is None


def test_a_failed_message_is_in_no_reference_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's frame has names for the error and for its copy of the frames."""
    seen: list[object] = []
    monkeypatch.setattr(Request, "on_failure", lambda _, info, **__: seen.append(info))

    def traced() -> weakref.ref[ExceptionInfo]:
        try:
            fail(Buffer())
        except TransferError:
            info = ExceptionInfo(sys.exc_info())
        DownloadRequest.__new__(DownloadRequest).on_failure(info, return_ok=True)
        seen.clear()
        return weakref.ref(info)

    assert traced()() is None
