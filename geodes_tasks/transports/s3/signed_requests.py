"""Requests to the datalake and other S3 endpoints, repeated where S3 says what to change.

Every way in which the datalake cannot give a file while the portal may (no credentials, expired
ones, denied, no such key, out of reach) is SourceUnavailableError, after which the caller opens
the file at the next source.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from urllib3 import BaseHTTPResponse

from geodes_tasks.errors import (
    ConfigError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
)
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.s3.credentials import Credentials
from geodes_tasks.transports.s3.endpoint import Endpoint, S3Request
from geodes_tasks.transports.s3.keyring import Keyring
from geodes_tasks.transports.s3.refusals import EXPIRED, S3Refusal

PATIENCE_SECONDS = 3.0
"""Seconds for which SlowDown is waited out before it is raised."""
SLOW_DOWN_SECONDS = 0.5
"""Seconds to wait after a SlowDown that names no time; doubled each time."""

_CONDITION = {412: "If-Match", 416: "Range"}
"""HTTP status to the header that it refuses: another version, or too few bytes."""
_OF_AWS = re.compile(r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com\Z")
Result = TypeVar("Result")


class ConditionFailedError(Exception):
    """The object is not the version that was requested, or ends before the requested part."""


class SignedRequests:
    """Sends signed GET requests. Safe to use from many threads; build it after a fork."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        """Prepare; no connection is opened and no credentials are fetched.

        Args:
            settings: Credentials, certificates, timeouts.
            calls: Records which socket a thread waits on.
        """
        self._settings, self._calls = settings, calls
        self._keyring, self._lock = Keyring(settings), threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._regions: dict[tuple[str, str], str] = {}

    def get(self, request: S3Request) -> BaseHTTPResponse:
        """Return the response with the object, part or list; its body is not read yet.

        The request is sent again with fresh credentials when they have expired, to the region that
        the server names, and after a short SlowDown.

        Raises:
            ConditionFailedError: the condition of the request does not hold.
            GeodesTasksError: one class for each reaction.
        """
        deadline, wait_s = time.monotonic() + PATIENCE_SECONDS, SLOW_DOWN_SECONDS
        bucket, has_renewed = (request.endpoint, request.bucket), False
        while True:
            credentials = self._credentials(request)
            region = self._regions.get(bucket, self._settings.region_name)
            response = self._endpoint(request, region).send(request, credentials, region)
            if response.status in {200, 206}:
                return response
            refusal = S3Refusal.read(response, request.shown, request.call)
            if _CONDITION.get(refusal.status) in request.condition:
                raise ConditionFailedError
            # Once only: two regions that name each other would be followed for ever.
            if refusal.region not in {None, region} and bucket not in self._regions:
                self._regions[bucket] = str(refusal.region)
                continue
            if refusal.code in EXPIRED and not has_renewed:
                has_renewed = True
                if self._renewed(credentials, request):
                    continue
            error = refusal.error(request.shown)
            if not isinstance(error, ThrottledError):
                raise error
            wait_s = wait_s if error.retry_after_s is None else error.retry_after_s
            if time.monotonic() + wait_s > deadline:
                raise error
            request.call.sleep(wait_s)
            wait_s *= 2
            if request.call.broken_off:
                raise TransferError(request.shown, "broken off before the answer")

    def _credentials(self, request: S3Request) -> Credentials:
        found = self._keyring.current
        if found is None:
            try:
                found = interruptible(self._keyring.fetch, request.shown, request.call)
            except ConfigError as error:
                raise SourceUnavailableError("s3", request.shown, str(error), True) from error
        if found is None:
            raise SourceUnavailableError("s3", request.shown, "there are no S3 credentials", True)
        return found

    def _renewed(self, refused: Credentials, request: S3Request) -> bool:
        return interruptible(lambda: self._keyring.renew(refused), request.shown, request.call)

    def _endpoint(self, request: S3Request, region: str) -> Endpoint:
        url = request.endpoint
        if region != self._settings.region_name and _OF_AWS.match(url):
            # AWS has a host for each region; other servers have one for all.
            url = f"https://s3.{region}.amazonaws.com"
        with self._lock:
            if url not in self._endpoints:
                try:
                    self._endpoints[url] = Endpoint(url, self._settings, self._calls)
                except ConfigError as error:
                    raise SourceUnavailableError("s3", request.shown, str(error), True) from error
            return self._endpoints[url]


def interruptible(act: Callable[[], Result], shown: str, call: Call) -> Result:
    """Return the result of a function, which runs in a thread so that ``abort`` ends the wait.

    A credentials command has no socket that could be shut down, and may take minutes.

    Args:
        act: The function; what it raises is raised here.
        shown: Address for messages.
        call: The call of the thread that waits.

    Raises:
        TransferError: the wait was interrupted.
    """
    done: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
    interrupted = TransferError(shown, "broken off before the answer")

    def run() -> None:
        try:
            done.put((act(), None))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.put((None, error))

    threading.Thread(target=run, name="s3-credentials", daemon=True).start()
    call.waits_on(lambda: done.put((None, interrupted)))
    result, error = done.get()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # it is None only where ``act`` returned that
