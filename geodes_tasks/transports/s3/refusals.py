"""Answers of an S3 server that hold no object, and connections without an answer, as errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape

from urllib3 import BaseHTTPResponse
from urllib3 import exceptions as wire

from geodes_tasks.errors import (
    ArchivedObjectError,
    GeodesTasksError,
    HrefRefusedError,
    NoObjectError,
    ServerError,
    SourceRefusedError,
    SourceUnavailableError,
    SourceUnreachableError,
    ThrottledError,
    TransferError,
    UnreachableError,
    UntrustedServerError,
)
from geodes_tasks.transports.http.addresses import SECRET_LENGTH, redact, scrubbed
from geodes_tasks.transports.http.responses import gist, parse_date, parse_retry_after

MESSAGE_BYTES = 64 * 1024
"""Bytes of an error response that are read, at most."""
_DENIED = "access denied to these credentials"
_SLOW_DOWN = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
# Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; a status where a
# server sends no code.
_WORDS = {
    "NoSuchKey": "no such object",
    "404": "no such object",
    "NoSuchBucket": "no such bucket",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "InvalidObjectState": "the object is archived",
}
_OF_THE_OBJECT = {
    "NoSuchKey": NoObjectError,
    "404": NoObjectError,
    "NoSuchBucket": SourceRefusedError,
    "AccessDenied": SourceRefusedError,
    "403": SourceRefusedError,
    "InvalidObjectState": ArchivedObjectError,
}
_EXPIRED_WORDS = {
    "InvalidAccessKeyId": "the access key id is not known there",
    "ExpiredToken": "the session token has expired",
    "ExpiredTokenException": "the session token has expired",
    "TokenRefreshRequired": "the session token has expired",
    "InvalidToken": "the session token is not valid",
}
EXPIRED = _EXPIRED_WORDS.keys()
"""Codes after which other credentials may help: some servers forget a key when it ends."""
# Refusals of the credentials or of this machine, whatever the object.
_OF_THE_SOURCE = _EXPIRED_WORDS | {
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key id",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
_FIELD = re.compile(r"<(Code|Region)>\s*([\w-]{1,80})\s*</", re.ASCII)
_MESSAGE = re.compile(r"<Message>([^<]*)")


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
    message: str = ""
    """What the server says for people; empty for nothing."""
    date: datetime | None = None
    """Time of the answer, by the clock of the server."""

    @classmethod
    def read(cls, response: BaseHTTPResponse, secrets: Iterable[str | None] = ()) -> S3Refusal:
        """Read an answer and close it; a message that breaks off says less.

        Args:
            response: The answer.
            secrets: Signature and credentials of the request, which the server may quote in any
                field.
        """
        start = b""
        # The connection ends the read at its timeout, however slowly the bytes come.
        with response, suppress(wire.HTTPError, OSError):
            start = response.read(MESSAGE_BYTES, decode_content=False)
        hidden = {secret for secret in secrets if secret and len(secret) >= SECRET_LENGTH}
        headers, text = response.headers, scrubbed(start.decode("utf-8", "replace"), hidden)
        if region := headers.get("x-amz-bucket-region"):
            text = f"<Region>{scrubbed(region, hidden)}</Region>{text}"
        # Of several fields of one name the first counts.
        fields = dict(reversed(_FIELD.findall(text)))
        message = _MESSAGE.search(text)
        return cls(
            response.status,
            fields.get("Code", str(response.status)),
            fields.get("Region"),
            scrubbed(redact(headers.get("Location", "")), hidden),
            parse_retry_after(headers.get("Retry-After"), now=datetime.now(UTC)),
            gist(scrubbed(unescape(message.group(1)), hidden)) if message else "",
            parse_date(headers.get("Date")),
        )

    def error(self, href: str) -> GeodesTasksError:
        """Return the error for it."""
        names_wait = self.status >= 500 and self.retry_after_s is not None
        if self.code in _SLOW_DOWN or self.status in {429, 503} or names_wait:
            status = 429 if self.code in _SLOW_DOWN else self.status
            return ThrottledError(href, self.retry_after_s, status)
        text = f"HTTP {self.status} ({self.code})".replace(f" ({self.status})", "")
        if self.status >= 500:
            return ServerError(href, text)
        if self.location:
            # Followed, it would carry the session token to a host that no setting names.
            text += f": it redirects to {self.location}, which is not followed"
        elif self.region:
            text += f": the bucket is in the region {self.region}"
        elif self.message:
            text += f": {self.message}"
        problem = (_WORDS | _OF_THE_SOURCE).get(self.code, text)
        if self.code == "RequestTimeTooSkewed" and self.date:
            here, there = (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (datetime.now(UTC), self.date))
            problem += f": it is {here} here, {there} there"
        kind = _OF_THE_OBJECT.get(self.code, SourceUnavailableError)
        return kind("s3", href, problem, self.code in _OF_THE_SOURCE)


def no_answer(error: TransferError | HrefRefusedError) -> GeodesTasksError:
    """Return the error of this source for that of a request without an answer."""
    match error:
        case HrefRefusedError():
            problem = "the request cannot be sent, check the endpoint and the credentials"
            return SourceUnavailableError("s3", error.href, problem, True)
        case UnreachableError():
            is_untrusted = isinstance(error, UntrustedServerError)
            bundle = "see GEODES_TASKS_CA_BUNDLE: " if is_untrusted else ""
            problem = f"the S3 endpoint cannot be reached from here: {bundle}{error.problem}"
            return SourceUnreachableError("s3", error.href, problem, True)
    return error
