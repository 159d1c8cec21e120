"""Opens objects of the S3 datalake, or of another S3 endpoint, and lists its folders."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from geodes_tasks.errors import FolderError, SourceUnavailableError
from geodes_tasks.settings.urls import is_loopback
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.http.addresses import AddressPolicy, origin, redact
from geodes_tasks.transports.http.responses import strong_etag
from geodes_tasks.transports.s3.address import Address
from geodes_tasks.transports.s3.clients import ATTEMPTS, has_credentials
from geodes_tasks.transports.s3.endpoint import Endpoints
from geodes_tasks.transports.s3.error_codes import NO_OBJECT
from geodes_tasks.transports.s3.object import S3Object

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_s3 import S3Client

    from geodes_tasks.settings.config import Settings
    from geodes_tasks.transports.abort import Call
    from geodes_tasks.transports.s3.object import ObjectAnswer

__all__ = ["ATTEMPTS", "Address", "S3Transport", "has_credentials"]

MOST_MEMBERS = 20_000
"""Number of objects in a folder, at most; a larger one is no product."""


class S3Transport:
    """Opens S3 hrefs; what it knows of endpoints is the whole process's."""

    source = "s3"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = AddressPolicy(settings)
        self._calls = Calls()
        self._endpoints = Endpoints(settings, self._calls)

    def client(self, endpoint: str | None = None) -> S3Client:
        """Return this process's client of an endpoint; without one, of the datalake.

        Raises:
            BotoCoreError, ConfigError: the AWS settings or credentials cannot be had.
        """
        return self._endpoints.client(endpoint)

    @contextmanager
    def open(self, href: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Body]:
        """Open an object, from ``offset`` on when it is still the one that ``etag`` names.

        Raises:
            GeodesTasksError: as the contract says; the class names the reaction.
        """
        address = Address.parse(href)
        self._check(address, href)
        with self._calls.begin() as call:
            wanted = S3Object(self._endpoints, address, redact(href), call)
            answer = self._begin(wanted, offset, strong_etag(etag), call)
            with closing(answer.response) as response, closing(wanted.pieces(answer)) as pieces:
                call.waits_on(response.shutdown)
                yield Body(answer.start, answer.total, answer.etag, pieces)

    def _begin(self, wanted: S3Object, offset: int, etag: str | None, call: Call) -> ObjectAnswer:
        """Get the beginning of an object; where there is none, see whether a folder is there."""
        address, shown = wanted.address, wanted.href
        if not address.key.endswith("/"):
            try:
                return wanted.begin(offset, etag)
            except SourceUnavailableError as error:
                if error.problem != NO_OBJECT or not self._endpoints.listed(
                    address, shown, 1, call
                ):
                    raise
        raise FolderError("s3", shown, "it is a folder there")

    def members(self, href: str) -> Sequence[Member]:
        """List the objects below a folder.

        Raises:
            SourceUnavailableError: there are none, or too many, or they cannot be listed.
        """
        address, shown = Address.parse(href), redact(href)
        self._check(address, href)
        with self._calls.begin() as call:
            found = self._endpoints.listed(address, shown, MOST_MEMBERS + 1, call)
        members = [
            Member(key.removeprefix(address.prefix), address.below(key), size)
            for key, size in found
            if not key.endswith("/")
        ]
        if not members or len(found) > MOST_MEMBERS:
            raise SourceUnavailableError("s3", shown, f"a folder of {len(members)} objects")
        return members

    def abort(self, thread: int) -> None:
        """Break off whatever a thread waits for."""
        self._calls.abort(thread)

    def _check(self, address: Address, href: str) -> None:
        """Let pass the configured endpoint and hosts that the settings allow."""
        endpoint = self._endpoints.of(address)
        if endpoint == self._settings.s3_endpoint_url:
            return
        scheme, host, _ = origin(endpoint)
        if not self._policy.is_allowed(endpoint) or (scheme == "http" and not is_loopback(host)):
            problem = f"{host} is not the S3 endpoint; allow it with GEODES_TASKS_ALLOWED_HOSTS"
            raise SourceUnavailableError("s3", redact(href), problem)
