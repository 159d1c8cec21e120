"""A message that a worker has taken, and what its failed task leaves in memory."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class DownloadRequest(Request):  # type: ignore[misc] # celery has no types
    """A message of the download task; named in the task's options, as Celery provides for."""

    def on_failure(self, exc_info: Any, *args: Any, **more: Any) -> Any:
        """Report a failed task, then break the reference cycle of its error and Celery's frame.

        Celery copies the frames of each error, 0.3 MB (billiard/einfo.py). In a cycle the copy
        stays until a full garbage collection, a hundred failures later.
        """
        result = super().on_failure(exc_info, *args, **more)
        error = exc_info.exception
        # billiard wraps an error to send it from process to process, also where there is one only.
        for one in (error, getattr(error, "exc", error)):
            one.__traceback__ = None
        return result
