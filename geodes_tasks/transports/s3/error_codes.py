"""Translate errors of botocore and urllib3 into ours, and keep debug lines free of secrets."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3 import exceptions as wire

from geodes_tasks.errors import (
    GeodesTasksError,
    ServerError,
    SourceUnavailableError,
    SourceUnreachableError,
    StalledError,
    ThrottledError,
    TransferError,
)
from geodes_tasks.transports.body_reader import cause_name
from geodes_tasks.transports.http.responses import parse_retry_after

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

# Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_SLOW_DOWN = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "429", "503"}
NO_OBJECT = "no such object"
_UNREACHED = "the S3 endpoint cannot be reached from here"
_UNTRUSTED = "its TLS certificate is not trusted (GEODES_TASKS_CA_BUNDLE names others)"
_SILENT = "no answer from the S3 endpoint"
_WORDS = {
    "NoSuchKey": NO_OBJECT,
    "404": NO_OBJECT,
    "NoSuchBucket": "no such bucket",
    "AccessDenied": "access denied to these credentials",
    "403": "access denied to these credentials",
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
# Refusals that are about us, whatever the object.
_OF_THE_WHOLE = EXPIRED | {"SignatureDoesNotMatch", "RequestTimeTooSkewed"}
# These loggers write whole requests at DEBUG, the session token and the signature among them.
_TALKATIVE = ("auth", "endpoint", "hooks", "httpsession", "credentials", "client", "regions")


def client_failure(error: ClientError, href: str) -> GeodesTasksError:
    """Return our error for an answer of the S3 server.

    Args:
        error: What botocore made of the answer.
        href: What was asked for, fit to be shown.
    """
    code = str(error.response.get("Error", {}).get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    if code in _SLOW_DOWN or status in {429, 503}:
        told = metadata.get("HTTPHeaders", {}).get("retry-after")
        return ThrottledError(href, parse_retry_after(told, now=datetime.now(UTC)))
    if status >= 500:
        return ServerError(href, f"HTTP {status} ({code})")
    problem = _WORDS.get(code) or f"HTTP {status} ({code})"
    return SourceUnavailableError("s3", href, problem, code in _OF_THE_WHOLE)


def boto_failure(error: BotoCoreError | ValueError, href: str) -> GeodesTasksError:
    """Return our error for a failure in botocore, without an answer."""
    match error:
        case NoCredentialsError():
            problem = "there are no S3 credentials"
        case EndpointConnectionError() | ConnectTimeoutError() | ProxyConnectionError():
            return SourceUnreachableError("s3", href, _UNREACHED, True)
        case SSLError():
            return SourceUnreachableError("s3", href, _UNTRUSTED, True)
        case ReadTimeoutError():
            return StalledError(href, _SILENT)
        case ConnectionClosedError() | HTTPClientError():
            return TransferError(href, f"the connection failed ({cause_name(error)})")
        case _:
            problem = f"the S3 settings cannot be used ({type(error).__name__})"
    return SourceUnavailableError("s3", href, problem, True)


def wire_failure(error: HTTPError, href: str) -> GeodesTasksError:
    """Return our error for a failure of a connection, before an answer."""
    match error:
        case wire.NewConnectionError() | wire.ConnectTimeoutError() | wire.ProxyError():
            return SourceUnreachableError("s3", href, _UNREACHED, True)
        case wire.SSLError():
            return SourceUnreachableError("s3", href, _UNTRUSTED, True)
        case wire.ReadTimeoutError():
            return StalledError(href, _SILENT)
        case _:
            return TransferError(href, f"the connection failed ({cause_name(error)})")


class _NoDebug(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


_NO_DEBUG = _NoDebug()


def hide_secrets() -> None:
    """Keep session tokens and signatures out of botocore's logs; again changes nothing."""
    for name in _TALKATIVE:
        logging.getLogger(f"botocore.{name}").addFilter(_NO_DEBUG)
