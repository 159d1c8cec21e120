"""Requests to S3 endpoints: objects, lists, and every refusal as one of our errors.

Every way in which the datalake cannot give a file while the portal may (no credentials, expired
ones, denied, no such key, out of reach) is SourceUnavailableError, so that the caller goes on
with the next source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
)
from urllib3.exceptions import ConnectTimeoutError as NoConnectionInTimeError
from urllib3.exceptions import HTTPError, NewConnectionError

from geodes_tasks.errors import ConfigError, GeodesTasksError, SourceUnavailableError
from geodes_tasks.transports.s3.clients import Clients
from geodes_tasks.transports.s3.error_codes import (
    EXPIRED,
    boto_failure,
    client_failure,
    wire_failure,
)
from geodes_tasks.transports.s3.patience import patiently
from geodes_tasks.transports.s3.reachability import REMEMBERED_SECONDS, Reach

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from urllib3 import BaseHTTPResponse

    from geodes_tasks.settings.config import Settings
    from geodes_tasks.transports.abort import Call, Calls
    from geodes_tasks.transports.s3.address import Address
    from geodes_tasks.transports.s3.clients import Lease

_NOT_THE_REST = {412: "If-Match", 416: "Range"}
"""Statuses that say so, with the condition that they answer: another version, fewer bytes."""
_ELSEWHERE, _OTHER_REGION = {301, 307, 308}, "AuthorizationHeaderMalformed"
"""What AWS says of a bucket in another region: a status, or a code."""
_UNREACHED = (
    EndpointConnectionError,
    ConnectTimeoutError,
    NewConnectionError,
    NoConnectionInTimeError,
)


class NotTheRestError(Exception):
    """The object is not the one of which the caller has the beginning."""


class Endpoints:
    """Asks the datalake, and other endpoints that an address names. Safe for many threads."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        """Prepare; opens no connection.

        Args:
            settings: Endpoint, credentials, waits.
            calls: Learns which socket a thread waits on.
        """
        self._own = settings.s3_endpoint_url
        self._clients = Clients(settings, calls)
        self._reach = Reach(min(REMEMBERED_SECONDS, settings.s3_again_seconds))

    def client(self, endpoint: str | None = None) -> S3Client:
        """Return this process's client of an endpoint; without one, of the datalake.

        Raises:
            BotoCoreError, ConfigError: the AWS settings or credentials cannot be had.
        """
        return self._clients.lease(endpoint or self._own).client

    def of(self, address: Address) -> str:
        """Return the endpoint that serves an address; without one, the datalake."""
        own, named = self._own, address.endpoint
        if named is None or urlsplit(named).netloc == urlsplit(own).netloc:
            return own
        return named

    def get(
        self,
        address: Address,
        shown: str,
        condition: dict[str, str],
        call: Call,
        *,
        again: bool = True,
    ) -> BaseHTTPResponse:
        """Ask once for an object; once more with fresh credentials when they have ended.

        Args:
            address: Where it is.
            shown: The same, fit for messages.
            condition: Headers, which choose a part or a version.
            call: Of the thread that waits.
            again: Whether it may be asked for with fresh credentials.

        Raises:
            NotTheRestError: the condition does not hold.
            GeodesTasksError: the class names the reaction.
        """
        endpoint = self.of(address)
        lease = self._ready(endpoint, shown, call)
        try:
            return _given(lease, address, condition, shown, call)
        except ClientError as error:
            if _NOT_THE_REST.get(_status(error)) in condition:
                raise NotTheRestError from error
            if again and _code(error) in EXPIRED and self._renewed(lease, shown, call):
                return self.get(address, shown, condition, call, again=False)
            raise client_failure(error, shown) from error
        except (BotoCoreError, HTTPError, ValueError) as error:
            if isinstance(error, _UNREACHED):
                self._reach.lost(endpoint)
            raise _failure(error, shown) from error

    def listed(self, address: Address, shown: str, most: int, call: Call) -> list[tuple[str, int]]:
        """Return key and size of the first objects of a folder, ``most`` at most.

        Raises:
            GeodesTasksError: the class names the reaction.
        """
        return patiently(lambda: self._listed(address, shown, most), shown, call)

    def _listed(self, address: Address, shown: str, most: int) -> list[tuple[str, int]]:
        try:
            pages = (
                self.client(self.of(address))
                .get_paginator("list_objects_v2")
                .paginate(
                    Bucket=address.bucket,
                    Prefix=address.prefix,
                    PaginationConfig={"MaxItems": most, "PageSize": min(most, 1000)},
                )
            )
            return [(one["Key"], one["Size"]) for page in pages for one in page.get("Contents", [])]
        except ClientError as error:
            raise client_failure(error, shown) from error
        except (BotoCoreError, ConfigError, ValueError) as error:
            raise _failure(error, shown) from error

    def _ready(self, endpoint: str, shown: str, call: Call) -> Lease:
        """Return the lease of an endpoint, after a wait where credentials have to be fetched."""
        lease = self._clients.ready(endpoint)
        if lease is None or not self._reach.is_good(endpoint):
            return patiently(lambda: self._prepared(endpoint, shown), shown, call)
        return lease

    def _prepared(self, endpoint: str, shown: str) -> Lease:
        try:
            lease = self._clients.lease(endpoint)
            lease.getter.prepare()
        except (BotoCoreError, ConfigError, ValueError) as error:
            raise _failure(error, shown) from error
        self._reach.check(endpoint)
        return lease

    def _renewed(self, lease: Lease, shown: str, call: Call) -> bool:
        return patiently(lambda: self._clients.renewed(lease.generation), shown, call)


def _given(
    lease: Lease, address: Address, condition: dict[str, str], shown: str, call: Call
) -> BaseHTTPResponse:
    """Return the answer that has the object, or the range of it that was requested.

    Raises:
        BotoCoreError, HTTPError: there is no answer.
        ClientError: it says something else.
    """
    try:
        return lease.getter.get(address.bucket, address.key, condition)
    except ClientError as error:
        if _status(error) not in _ELSEWHERE and _code(error) != _OTHER_REGION:
            raise
    # Only the client finds the region that a bucket of AWS is in.
    named: dict[str, Any] = {name.replace("-", ""): text for name, text in condition.items()}

    def find() -> BaseHTTPResponse:
        given = lease.client.get_object(Bucket=address.bucket, Key=address.key, **named)
        # Entered, the stream gives urllib3's response, which is read as the bytes come; its own
        # read waits until a piece is full. The stubs do not know.
        return cast("BaseHTTPResponse", given["Body"].__enter__())

    return patiently(find, shown, call)


def _failure(error: Exception, shown: str) -> GeodesTasksError:
    """Return our error for a request that got no answer."""
    match error:
        case ConfigError():
            return SourceUnavailableError("s3", shown, str(error), True)
        case HTTPError():
            return wire_failure(error, shown)
        case _:
            assert isinstance(error, BotoCoreError | ValueError)  # noqa: S101 - as it was caught
            return boto_failure(error, shown)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
