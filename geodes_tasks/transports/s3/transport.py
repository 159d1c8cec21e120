"""Transport that opens objects of the S3 datalake, or of another S3 endpoint, and lists folders."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from urllib3 import BaseHTTPResponse

from geodes_tasks.errors import (
    FolderError,
    NoObjectError,
    NoRangesError,
    SourceRefusedError,
    SourceUnavailableError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.urls import is_loopback
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http import messages
from geodes_tasks.transports.http.addresses import AddressPolicy, origin, redact
from geodes_tasks.transports.http.responses import resumed_total, strong_etag
from geodes_tasks.transports.s3.address import Address
from geodes_tasks.transports.s3.signed_requests import ConditionError, S3Request, SignedRequests

logger = logging.getLogger(__name__)

MOST_MEMBERS = 20_000
"""Number of objects in a folder, at most; a larger one is no product."""
MOST_PAGES = 100
"""Number of pages of the list of one folder, at most: a server may give empty ones without end."""
MOST_SIZE_BYTES = 1 << 62
"""Size in bytes of an object, at most: S3 has objects of 50 TB, files have less than 8 EiB."""
PAGE_MEMBERS = 1_000
"""Number of objects in one page of a list, at most (ListObjectsV2 gives no more)."""
MAX_PAGE_BYTES = 16 << 20
"""Bytes of one page of a list, at most: a key has up to 1,024 bytes, thrice that when encoded."""

_RESTARTED = {"action": "download_restarted"}
# Hosts that items of GEODES name. They are the datalake, which the settings may reach by another
# host: a tunnel, a mirror, a server of the tests.
_DATALAKE = re.compile(r"s3\.datalake\.([a-z0-9-]+\.)*cnes\.fr\Z", re.IGNORECASE)


class S3Transport:
    """Opens S3 hrefs; its connections and credentials are shared by the threads of a process."""

    source = "s3"

    def __init__(self, settings: Config) -> None:
        self._settings, self._policy = settings, AddressPolicy(settings)
        self._calls = Calls(settings.rate)
        self._shared, self._pid = SignedRequests(settings, self._calls), os.getpid()

    @contextmanager
    def open(
        self,
        href: str,
        *,
        offset: int = 0,
        etag: str | None = None,
        asset: Asset | None = None,
    ) -> Iterator[Body]:
        """Open an object, at ``offset`` where the server proves that it resumes."""
        with self._request(href) as (address, wanted):
            if address.key.endswith("/"):
                raise FolderError("s3", wanted.shown, "it is a folder there")
            try:
                response, start, total = self._response(wanted, offset, strong_etag(etag))
            except NoObjectError as error:
                is_folder = False
                with suppress(SourceRefusedError):  # many may read objects, and list none
                    is_folder = bool(self._listed(wanted, address, 1))
                if not is_folder:
                    raise
                raise FolderError("s3", wanted.shown, "it is a folder there") from error
            # Closed, a response whose body was not read to its end ends its connection.
            with closing(response):
                reader = BodyReader(response, wanted.shown, wanted.call, offset=start)
                first = b"" if start else _first(response, reader, wanted, asset)
                yield Body(start, total, _etag(response), reader.pieces(first))

    def _response(
        self, wanted: S3Request, offset: int, etag: str | None
    ) -> tuple[BaseHTTPResponse, int, int | None]:
        """Return a response, the byte it starts at, and the size of the whole object."""
        if offset:
            try:
                response = self._requests().get(wanted.part(f"{offset}-", etag))
            except ConditionError:
                pass
            else:
                length = response.length_remaining
                total = resumed_total(response.headers, length, offset, etag)
                # Some servers (rclone's) give a range with the status of the whole object.
                if total is not None:
                    return response, offset, total
                if response.status == 200 and "Content-Range" not in response.headers:
                    return response, 0, length
                response.close()
            logger.info("%s: does not resume, starting from byte 0", wanted.shown, extra=_RESTARTED)
        response = self._requests().get(wanted)
        return response, 0, response.length_remaining

    def serves_ranges(self, href: str) -> bool:  # noqa: ARG002 - S3 has no server without ranges
        """Return True: ranges are part of the S3 interface."""
        return True

    @contextmanager
    def open_range(
        self, href: str, first: int, length: int, *, etag: str | None, asset: Asset
    ) -> Iterator[Body]:
        """Open exactly ``length`` bytes from ``first``, in one request."""
        etag, last = strong_etag(etag), first + length - 1
        with self._request(href) as (_, wanted):
            try:
                response = self._requests().get(wanted.part(f"{first}-{last}", etag))
            except ConditionError as error:
                raise NoRangesError(asset.title) from error
            with closing(response):
                bytes_left = response.length_remaining
                total = resumed_total(response.headers, bytes_left, first, etag, length)
                if total is None:
                    raise NoRangesError(asset.title)
                reader = BodyReader(response, wanted.shown, wanted.call, offset=first)
                yield Body(first, total, _etag(response), reader.pieces())

    def members(self, href: str) -> Sequence[Member]:
        """List the objects below a folder; a folder of none or of too many is an error."""
        with self._request(href) as (address, wanted):
            found = self._listed(wanted, address, MOST_MEMBERS + 1)
        members = [
            Member(key.removeprefix(address.prefix), address.below(key), size)
            for key, size in found
            if not key.endswith("/")
        ]
        if not members or len(found) > MOST_MEMBERS:
            raise SourceRefusedError("s3", wanted.shown, f"a folder of {len(members)} objects")
        return members

    @contextmanager
    def _request(self, href: str) -> Iterator[tuple[Address, S3Request]]:
        """Yield the address of an object and the request for it, which ``abort`` interrupts."""
        address, shown = Address.parse(href), redact(href)
        endpoint = self._endpoint(address, shown)
        with self._calls.begin() as call:
            yield address, S3Request(endpoint, f"/{address.bucket}/{address.key}", shown, call)

    def _listed(self, wanted: S3Request, address: Address, most: int) -> list[tuple[str, int]]:
        """Return key and size of the first objects of a folder."""
        query = {"list-type": "2", "prefix": address.prefix, "encoding-type": "url"}
        query["max-keys"] = str(min(most, PAGE_MEMBERS))
        found: list[tuple[str, int]] = []
        for _ in range(MOST_PAGES):
            page_request = replace(wanted, path=f"/{address.bucket}/", query=query)
            with self._requests().get(page_request) as response:
                reader = BodyReader(response, wanted.shown, wanted.call, offset=0)
                body = reader.whole(MAX_PAGE_BYTES)
            try:
                page = ElementTree.fromstring(body)  # noqa: S314 - expat limits entities
                # XML has no way to write some characters of keys, so they come encoded.
                decode = unquote_plus if page.findtext("{*}EncodingType") == "url" else str
                found += [
                    (decode(one.findtext("{*}Key", "")), _size(one.findtext("{*}Size", "0")))
                    for one in page.iterfind("{*}Contents")
                ]
            except (ElementTree.ParseError, ValueError) as error:
                raise SourceUnavailableError(
                    "s3", wanted.shown, "its list cannot be read"
                ) from error
            token = page.findtext("{*}NextContinuationToken")
            is_cut = page.findtext("{*}IsTruncated", "").strip() == "true"
            if len(found) >= most or not (token or is_cut):
                return found[:most]
            if not token or token == query.get("continuation-token"):
                raise SourceUnavailableError("s3", wanted.shown, "its list ends before its end")
            query["continuation-token"] = token
        raise SourceUnavailableError("s3", wanted.shown, f"its list has over {MOST_PAGES} pages")

    def check_access(self) -> None:
        """Check that the datalake accepts the credentials; raise the reason where it does not."""
        endpoint = self._settings.s3_endpoint_url
        # A server checks the signature first, so a refusal of the request proves the credentials.
        # Most users may read objects of given buckets and not list all buckets.
        with suppress(SourceRefusedError), self._calls.begin() as call:
            self._requests().get(S3Request(endpoint, "/", endpoint, call)).close()

    def abort(self, thread: int) -> None:
        """Interrupt the network wait of a thread."""
        self._calls.abort(thread)

    def _requests(self) -> SignedRequests:
        if self._pid != os.getpid():
            # A forked child must not write to the connections of its parent.
            self._shared, self._pid = SignedRequests(self._settings, self._calls), os.getpid()
        return self._shared

    def _endpoint(self, address: Address, shown: str) -> str:
        """Return the endpoint that serves an address; refuse a host that is not allowed."""
        own = self._settings.s3_endpoint_url
        if address.endpoint is None:
            return own
        scheme, host, port = origin(address.endpoint)
        if (host, port) == origin(own)[1:] or _DATALAKE.match(host):
            return own
        plain = scheme == "http" and not is_loopback(host)
        if plain or not self._policy.is_allowed(address.endpoint):
            problem = f"{host} is not the S3 endpoint; allow it with GEODES_TASKS_ALLOWED_HOSTS"
            raise SourceUnavailableError("s3", shown, problem)
        return address.endpoint


def _size(text: str) -> int:
    """Parse the size of an object.

    Raises:
        ValueError: no size that a file can have.
    """
    if not 0 <= (size := int(text)) <= MOST_SIZE_BYTES:
        raise ValueError("no size")
    return size


def _etag(response: BaseHTTPResponse) -> str | None:
    return strong_etag(response.headers.get("ETag"))


def _first(
    response: BaseHTTPResponse, reader: BodyReader, wanted: S3Request, asset: Asset | None
) -> bytes:
    """Return the first bytes of an object.

    Raises:
        SourceUnavailableError: a part of it, a page or a message is in its place.
    """
    headers, problem = response.headers, "HTTP 206, a part in place of the object"
    if response.status == 206 and resumed_total(headers, reader.length, 0, None) is None:
        raise SourceUnavailableError("s3", wanted.shown, problem)
    # Every object has an ETag (GetObject), a page or a message none; a file may be any text.
    if "ETag" in headers:
        return b""
    first, is_message = messages.begin(reader, headers, asset, of_portal=False)
    if is_message:
        # Not quoted: it may echo the signature.
        problem = "a message in place of the object, check GEODES_TASKS_S3_ENDPOINT_URL"
        raise SourceUnavailableError("s3", wanted.shown, f"HTTP {response.status}, {problem}")
    return first
