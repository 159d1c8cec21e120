"""Signed GET requests to the datalake and other S3 endpoints, over the connections of downloads.

A GET of S3 is one of HTTP with a signature. obstore and boto3 were measured for it. obstore is as
fast, but follows a redirect to any host with the session token in its headers, hides Retry-After,
hangs in a forked process, and loses the bytes of a piece that breaks off; boto3 needs several times
the processor time for a request.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, Timeout

from geodes_tasks.errors import (
    ConfigError,
    HrefRefusedError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
)
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.s3_credentials import Credentials
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.http.connections import Watch
from geodes_tasks.transports.http.pools import AGENT, Pools, WireRequest
from geodes_tasks.transports.s3.credentials import Keyring
from geodes_tasks.transports.s3.refusals import EXPIRED, S3Refusal, no_answer
from geodes_tasks.transports.s3.signature import encoded_path, encoded_query, signed_headers

CONNECT_SECONDS = 2.0
"""Seconds for a connection where the user set none: outside CNES the datalake is out of reach and
the portal is not."""
CONNECTIONS = 64
"""Number of connections to one endpoint that are kept open."""
ATTEMPTS = 2
"""Number of attempts for one request; the retry rules of the program do the rest."""
PATIENCE_SECONDS = 3.0
"""Seconds for which SlowDown is waited out before it is raised."""
SLOW_DOWN_SECONDS = 0.5
"""Seconds to wait after a SlowDown, at least; doubled each time."""

# HTTP status to the header that it refuses: another version, or too few bytes.
_CONDITION = {412: "If-Match", 416: "Range"}
_OF_AWS = re.compile(r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com\Z")


class ConditionError(Exception):
    """The object is not the version that was requested, or ends before the requested part."""


@dataclass(frozen=True, slots=True)
class S3Request:
    """A GET request to an S3 endpoint, without its signature."""

    endpoint: str
    """Scheme and host."""
    path: str
    """Bucket and key, not encoded: ``/bucket/key``, ``/bucket/``, or ``/`` for all buckets."""
    shown: str
    """Address for messages."""
    call: Call
    """The call of the thread, which ``abort`` can interrupt."""
    condition: Mapping[str, str] = field(default_factory=dict)
    """Headers that select a part or a version."""
    query: Mapping[str, str] = field(default_factory=dict)

    def part(self, span: str, etag: str | None) -> S3Request:
        """Return the request for a range of bytes, of the version that a validator names."""
        condition = {"Range": f"bytes={span}"} | ({"If-Match": etag} if etag else {})
        return replace(self, condition=condition)

    @property
    def interruption(self) -> TransferError:
        """Return the error for a request that was interrupted."""
        return TransferError(self.shown, "broken off before the answer")

    def unavailable(self, problem: str) -> SourceUnavailableError:
        """Return the error for an endpoint that no request can be sent to."""
        return SourceUnavailableError("s3", self.shown, problem, True)


class SignedRequests:
    """Sends signed GET requests. Safe to use from many threads; build it after a fork."""

    def __init__(self, settings: Config, calls: Calls) -> None:
        self._settings, self._keyring = settings, Keyring.of(settings)
        bundle = settings.ca_bundle or os.environ.get("AWS_CA_BUNDLE")
        watch = Watch(None, settings.stall_seconds, calls)
        trusted = Path(bundle) if bundle else None
        self._pools = Pools(trusted, watch, CONNECTIONS, proxies_loopback=True)
        # The variables of a child process have the default too, so it cannot count as set.
        is_set = settings.connect_seconds != Config.connect_seconds.default
        connect_s = settings.connect_seconds if is_set else CONNECT_SECONDS
        self._timeout = Timeout(connect=connect_s, read=settings.stall_seconds)
        self._regions: dict[tuple[str, str], str] = {}

    def get(self, request: S3Request) -> BaseHTTPResponse:
        """Return the response with the object, part or list; its body is not read yet.

        The request is sent again with fresh credentials when they have expired, to the region that
        the server names, and after a short SlowDown. No redirect is followed.

        Raises:
            ConditionError: the condition of the request does not hold.
            GeodesTasksError: one class for each reaction.
        """
        deadline, wait_s = time.monotonic() + PATIENCE_SECONDS, SLOW_DOWN_SECONDS
        bucket, changed = (request.endpoint, request.path.split("/")[1]), set[str]()
        while True:
            credentials = self._credentials(request)
            region = self._regions.get(bucket, self._settings.region_name)
            response, signature = self._send(request, credentials, region)
            if response.status in {200, 206}:
                return response
            secrets = (signature, credentials.secret, credentials.token)
            refusal = S3Refusal.read(response, secrets)
            if _CONDITION.get(refusal.status) in request.condition:
                raise ConditionError
            # Once only: two regions that name each other would be followed for ever.
            if refusal.region not in {None, region} and "region" not in changed:
                self._regions[bucket] = str(refusal.region)
                changed.add("region")
                continue
            if refusal.code in EXPIRED and "credentials" not in changed:
                changed.add("credentials")
                if self._credentials(request, credentials) != credentials:
                    continue
            error = refusal.error(request.shown)
            if not isinstance(error, ThrottledError):
                raise error
            # A server may name no time, one that is over, or 0.
            pause_s = max(wait_s, error.retry_after_s or 0.0)
            if time.monotonic() + pause_s > deadline:
                raise error
            request.call.sleep(pause_s)
            wait_s *= 2
            if request.call.broken_off:
                raise request.interruption

    def _credentials(self, request: S3Request, refused: Credentials | None = None) -> Credentials:
        found = self._keyring.current
        if found == refused:
            fetch = partial(self._keyring.fetch, refused)
            try:
                found = request.call.interruptible(fetch, request.interruption)
            except ConfigError as error:
                raise request.unavailable(str(error)) from error
        if found is None:
            raise request.unavailable("there are no S3 credentials")
        return found

    def _send(
        self, request: S3Request, credentials: Credentials, region: str
    ) -> tuple[BaseHTTPResponse, str]:
        """Send a request; return its response, whatever the status, and its signature."""
        endpoint, path = request.endpoint, encoded_path(request.path)
        if region != self._settings.region_name and _OF_AWS.match(endpoint):
            # AWS has a host for each region; other servers have one for all.
            endpoint = f"https://s3.{region}.amazonaws.com"
        query, host = encoded_query(request.query), urlsplit(endpoint).netloc
        target, attempts = f"{path}?{query}" if query else path, 0
        while True:
            attempts += 1
            signed = signed_headers(credentials, region, host, path, query, datetime.now(UTC))
            wire = WireRequest(endpoint + target, target, {**AGENT, **signed, **request.condition})
            try:
                response = self._pools.open(wire, request.shown, request.call, self._timeout)
            except (TransferError, HrefRefusedError) as error:
                if request.call.broken_off:
                    raise request.interruption from None
                # The server may have closed a connection that was kept open (RFC 9112 9.5).
                if attempts == ATTEMPTS or type(error) is not TransferError:
                    raise no_answer(error) from error.__cause__
            else:
                return response, signed["Authorization"].rpartition("=")[2]
