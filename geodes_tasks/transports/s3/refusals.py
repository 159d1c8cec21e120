"""Answers of an S3 server that hold no object, and connections without an answer, as errors."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from geodes_tasks.errors import (
    GeodesTasksError,
    ServerError,
    SourceUnavailableError,
    SourceUnreachableError,
    StalledError,
    ThrottledError,
    TransferError,
)
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.body_reader import BodyReader, cause_name
from geodes_tasks.transports.http.addresses import redact
from geodes_tasks.transports.http.responses import parse_retry_after

MESSAGE_BYTES = 64 * 1024
"""Bytes of an error response that are read, at most."""
MESSAGE_SECONDS = 10.0
"""Seconds after which reading an error response ends: a slow server must not block the worker."""
NO_OBJECT, DENIED = "no such object", "access denied to these credentials"
_SLOW_DOWN = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
# Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; a status where a
# server sends no code.
_WORDS = {
    "NoSuchKey": NO_OBJECT,
    "404": NO_OBJECT,
    "NoSuchBucket": "no such bucket",
    "AccessDenied": DENIED,
    "403": DENIED,
    "InvalidAccessKeyId": "the access key id is not known there",
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key id",
    "ExpiredToken": "the session token has expired",
    "ExpiredTokenException": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "InvalidObjectState": "the object is archived",
}
EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
}
"""Codes after which other credentials may help: some servers forget a key when it ends."""
# Refusals of the credentials or of this machine, whatever the object.
_OF_THE_SOURCE = EXPIRED | {"SignatureDoesNotMatch", "RequestTimeTooSkewed"}
_CODE = re.compile(rb"<Code>\s*(\w{1,80})\s*</Code>")
_REGION = re.compile(rb"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_REGION_NAME = re.compile(r"[a-z0-9-]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class S3Refusal:
    """Answer of an S3 server that holds no object."""

    status: int
    code: str
    """Error code of S3; the status where there is none."""
    region: str | None
    """Region in which the server says that the bucket is."""
    location: str
    """Address that a redirect names, for messages; empty without one."""
    retry_after_s: float | None

    @classmethod
    def read(cls, response: BaseHTTPResponse, shown: str, call: Call) -> S3Refusal:
        """Read an answer and close it; a message that breaks off says less.

        Args:
            response: The answer.
            shown: Address for messages.
            call: The call of the thread that reads.
        """
        start, deadline = bytearray(), time.monotonic() + MESSAGE_SECONDS
        with suppress(GeodesTasksError), response:
            for piece in BodyReader(response, shown, call, offset=0).pieces():
                start += piece
                if len(start) > MESSAGE_BYTES or time.monotonic() > deadline:
                    break
        headers, code, region = response.headers, _CODE.search(start), _REGION.search(start)
        named = headers.get("x-amz-bucket-region", region[1].decode() if region else "")
        return cls(
            response.status,
            code[1].decode("ascii", "replace") if code else str(response.status),
            named if _REGION_NAME.match(named) else None,
            redact(headers.get("Location", "")),
            parse_retry_after(headers.get("Retry-After"), now=datetime.now(UTC)),
        )

    def error(self, href: str) -> GeodesTasksError:
        """Return the error for it."""
        names_wait = self.status >= 500 and self.retry_after_s is not None
        if self.code in _SLOW_DOWN or self.status in {429, 503} or names_wait:
            return ThrottledError(href, self.retry_after_s)
        of_code = "" if self.code == str(self.status) else f" ({self.code})"
        text = f"HTTP {self.status}{of_code}"
        if self.status >= 500:
            return ServerError(href, text)
        if self.location:
            # Followed, it would carry the session token to a host that no setting names.
            text += f": it redirects to {self.location}, which is not followed"
        elif self.region:
            text += f": the bucket is in the region {self.region}"
        problem = _WORDS.get(self.code, text)
        return SourceUnavailableError("s3", href, problem, self.code in _OF_THE_SOURCE)


UNREACHED = (NewConnectionError, ConnectTimeoutError, ProxyError)
"""Errors of urllib3 for a connection that could not be made."""


def connection_failure(error: HTTPError, href: str) -> GeodesTasksError:
    """Return the error for a connection that brought no answer."""
    match error:
        case NewConnectionError() | ConnectTimeoutError() | ProxyError():
            problem = f"the S3 endpoint cannot be reached from here ({cause_name(error)})"
        case SSLError():
            problem = "its TLS certificate is not trusted (GEODES_TASKS_CA_BUNDLE names others)"
        case ReadTimeoutError():
            return StalledError(href, "no answer from the S3 endpoint")
        case _:
            return TransferError(href, f"the connection failed ({cause_name(error)})")
    return SourceUnreachableError("s3", href, problem, True)
