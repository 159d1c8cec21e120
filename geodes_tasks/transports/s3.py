"""Opens objects of the S3 datalake, or of another S3 endpoint.

Every way in which the datalake cannot give a file while the portal may (no credentials, expired
ones, denied, no such key, out of reach) is SourceUnavailableError, so that the caller goes on
with the next source.

Each object is asked for from the wanted byte to the end of the first range. What is small comes
whole that way; the rest of what is large follows in ranges side by side, each on the condition
that the object is still the one of which the beginning came.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
)

from geodes_tasks.config import is_loopback
from geodes_tasks.errors import (
    ConfigError,
    FolderError,
    GeodesTasksError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.transports.addresses import AddressPolicy, origin, redact
from geodes_tasks.transports.answers import strong_etag
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.calls import Calls
from geodes_tasks.transports.s3_address import Address
from geodes_tasks.transports.s3_client import ATTEMPTS, Clients, has_credentials
from geodes_tasks.transports.s3_errors import EXPIRED, NO_OBJECT, boto_failure, client_failure
from geodes_tasks.transports.s3_ranges import RANGE_BYTES, Ranges
from geodes_tasks.transports.s3_reach import REMEMBERED_SECONDS, Reach
from geodes_tasks.transports.stream import BodyReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from mypy_boto3_s3 import S3Client
    from urllib3 import HTTPResponse

    from geodes_tasks.config import Settings
    from geodes_tasks.transports.calls import Call
    from geodes_tasks.transports.s3_client import Lease

__all__ = ["ATTEMPTS", "Address", "S3Transport", "has_credentials"]

logger = logging.getLogger(__name__)

Given = TypeVar("Given")

MOST_MEMBERS = 20_000
"""Objects of a folder; more are no product."""
PATIENCE_SECONDS = 3.0
"""How long SlowDown is waited out before the caller hears of it."""
FAST_BYTES_PER_SECOND = 400e6
"""A connection as fast as that keeps hashing and disk busy alone: more of them only cost."""
SLOW_DOWN_SECONDS = 0.5
"""Wait after a SlowDown that names no time; doubled each time."""

_NOT_THE_REST = {412: "If-Match", 416: "Range"}
"""Statuses that say so, with the condition that they answer: another version, fewer bytes."""
_ELSEWHERE, _OTHER_REGION = {301, 307, 308}, "AuthorizationHeaderMalformed"
"""What AWS says of a bucket in another region: a status, or a code."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")


@dataclass(frozen=True, slots=True)
class _Answer:
    """The beginning of an object, or of its rest."""

    response: HTTPResponse
    start: int
    end: int | None
    """The byte after the last of this answer."""
    total: int | None
    etag: str | None

    @property
    def is_all(self) -> bool:
        """Whether nothing follows."""
        return self.end is None or self.end == self.total


class S3Transport:
    """Opens S3 hrefs with one client per process and endpoint."""

    source = "s3"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = AddressPolicy(settings)
        self._calls = Calls()
        self._clients = Clients(settings)
        self._reach = Reach(min(REMEMBERED_SECONDS, settings.s3_again_seconds))

    def client(self, endpoint: str | None = None) -> S3Client:
        """Give this process's client of an endpoint; without one, of the datalake.

        Raises:
            BotoCoreError, ConfigError: the AWS settings or credentials cannot be had.
        """
        return self._clients.lease(endpoint).client

    @contextmanager
    def open(self, href: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Body]:
        """Open an object, from ``offset`` on when it is still the one that ``etag`` names.

        Raises:
            GeodesTasksError: as the contract says; the class names the reaction.
        """
        address = Address.parse(href)
        self._check(address, href)
        with self._calls.begin() as call:
            asked = _Asked(self, address, redact(href), call)
            answer = _patiently(
                lambda: self._begin(asked, offset, strong_etag(etag)), asked.href, call
            )
            with closing(answer.response) as response, closing(asked.pieces(answer)) as pieces:
                call.waits_on(response.shutdown)
                yield Body(answer.start, answer.total, answer.etag, pieces)

    def _begin(self, asked: _Asked, offset: int, etag: str | None) -> _Answer:
        """Get the beginning of an object; where there is none, see whether a folder is there."""
        if not asked.address.key.endswith("/"):
            try:
                return asked.begin(offset, etag)
            except SourceUnavailableError as error:
                if error.problem != NO_OBJECT or not self._listed(asked.address, asked.href, 1):
                    raise
        raise FolderError("s3", asked.href, "it is a folder there")

    def members(self, href: str) -> Sequence[Member]:
        """List the objects below a folder.

        Raises:
            SourceUnavailableError: there are none, or too many, or they cannot be listed.
        """
        address, shown = Address.parse(href), redact(href)
        self._check(address, href)
        with self._calls.begin() as call:
            found = _patiently(lambda: self._listed(address, shown, MOST_MEMBERS + 1), shown, call)
        members = [
            Member(key.removeprefix(address.prefix), address.below(key), size)
            for key, size in found
            if not key.endswith("/")
        ]
        if not members or len(found) > MOST_MEMBERS:
            raise SourceUnavailableError("s3", shown, f"a folder of {len(members)} objects")
        return members

    def _listed(self, address: Address, shown: str, most: int) -> list[tuple[str, int]]:
        """Give key and size of the first objects of a folder."""
        try:
            client = self._clients.lease(self._endpoint(address)).client
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=address.bucket,
                Prefix=address.prefix,
                PaginationConfig={"MaxItems": most, "PageSize": min(most, 1000)},
            )
            return [(one["Key"], one["Size"]) for page in pages for one in page.get("Contents", [])]
        except ClientError as error:
            raise client_failure(error, shown) from error
        except (BotoCoreError, ConfigError, ValueError) as error:
            raise _before_answer(error, shown) from error

    def abort(self, thread: int) -> None:
        """Break off whatever a thread waits for."""
        self._calls.abort(thread)

    def _check(self, address: Address, href: str) -> None:
        """Let pass the configured endpoint and hosts that the settings allow."""
        own = urlsplit(self._settings.s3_endpoint_url).netloc
        if address.endpoint is None or urlsplit(address.endpoint).netloc == own:
            return
        scheme, host, _ = origin(address.endpoint)
        if not self._policy.is_allowed(address.endpoint) or (
            scheme == "http" and not is_loopback(host)
        ):
            problem = f"{host} is not the S3 endpoint; allow it with GEODES_TASKS_ALLOWED_HOSTS"
            raise SourceUnavailableError("s3", redact(href), problem)

    def get(
        self, address: Address, shown: str, condition: dict[str, str], again: bool = True
    ) -> HTTPResponse:
        """Ask once for an object; once more with fresh credentials when they have ended.

        Args:
            address: Where it is.
            shown: The same, fit for messages.
            condition: Headers, which choose a part or a version.
            again: Whether it may be asked for with fresh credentials.

        Raises:
            GeodesTasksError: the class names the reaction.
        """
        endpoint = self._endpoint(address)
        try:
            lease = self._clients.lease(endpoint)
        except (BotoCoreError, ConfigError, ValueError) as error:
            raise _before_answer(error, shown) from error
        self._reach.check(endpoint)
        try:
            return _given(lease, address, condition)
        except ClientError as error:
            if _NOT_THE_REST.get(_status(error)) in condition:
                raise _NotTheRestError from error
            if again and _code(error) in EXPIRED and self._clients.renewed(lease.generation):
                return self.get(address, shown, condition, again=False)
            raise client_failure(error, shown) from error
        except (BotoCoreError, ValueError) as error:
            if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
                self._reach.lost(endpoint)
            raise boto_failure(error, shown) from error

    def _endpoint(self, address: Address) -> str:
        own = self._settings.s3_endpoint_url
        if address.endpoint is None or urlsplit(address.endpoint).netloc == urlsplit(own).netloc:
            return own
        return address.endpoint


class _Asked:
    """One object that somebody has asked for."""

    def __init__(self, transport: S3Transport, address: Address, href: str, call: Call) -> None:
        self._transport, self.address, self._call = transport, address, call
        self.href = href

    def begin(self, offset: int, etag: str | None) -> _Answer:
        """Get the first range from ``offset`` on, or from 0 where the rest cannot be had."""
        try:
            return self._first(offset, etag)
        except _NotTheRestError:
            if offset:
                logger.info(
                    "%s: does not resume, starting from byte 0",
                    self.href,
                    extra={"action": "download_restarted"},
                )
                return self.begin(0, None)
        return self._whole()  # it is empty: no range fits

    def _first(self, offset: int, etag: str | None) -> _Answer:
        answer = self._ask(offset, offset + RANGE_BYTES, etag)
        if answer.start != offset or (etag and answer.etag != etag):
            if answer.start == 0 and answer.is_all:
                return answer  # a server without ranges: the whole object, from byte 0
            answer.response.close()
            raise _NotTheRestError
        if answer.is_all or answer.etag:
            return answer
        # Nothing could prove that further ranges are of the same version.
        answer.response.close()
        return self._ask(offset, None, None) if offset else self._whole()

    def _whole(self) -> _Answer:
        return self._read(self._get({}), None)

    def _ask(self, start: int, end: int | None, etag: str | None) -> _Answer:
        condition = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        return self._read(self._get(condition | ({"If-Match": etag} if etag else {})), start)

    def _read(self, response: HTTPResponse, start: int | None) -> _Answer:
        """Take an answer for what it proves to be.

        Raises:
            _NotTheRestError: a part, and not the one that was asked for.
        """
        etag, length = strong_etag(response.headers.get("ETag")), response.length_remaining
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        # Some servers (rclone's) give a range with the status of the whole.
        if match is None and response.status != 206:
            return _Answer(response, 0, None, length, etag)
        if match is None or int(match[1]) != start or int(match[2]) + 1 - start != length:
            response.close()
            raise _NotTheRestError
        return _Answer(response, start, int(match[2]) + 1, int(match[3]), etag)

    def _get(self, condition: dict[str, str]) -> HTTPResponse:
        """Ask, and wait out a server that wants it slower, for a while."""
        patience, wait = time.monotonic() + PATIENCE_SECONDS, SLOW_DOWN_SECONDS
        while True:
            try:
                return self._transport.get(self.address, self.href, condition)
            except ThrottledError as error:
                wait_s = wait if error.retry_after_s is None else error.retry_after_s
                if self._call.broken_off or time.monotonic() + wait_s > patience:
                    raise
            time.sleep(wait_s)
            wait *= 2

    def pieces(self, answer: _Answer) -> Generator[bytes]:
        """Yield the bytes of an answer and of the ranges that follow it."""
        reader = BodyReader(answer.response, self.href, self._call, offset=answer.start)
        if answer.is_all:
            return reader.pieces()
        return self._pieces(answer, reader)

    def _pieces(self, answer: _Answer, reader: BodyReader) -> Generator[bytes]:
        assert answer.total is not None  # noqa: S101 - else it is all
        speed = _Speed()
        try:
            yield from speed.timed(reader.pieces())
            if speed.bytes_per_second >= FAST_BYTES_PER_SECOND:
                yield from self._in_one(answer)
            else:
                yield from self._side_by_side(answer)
        except TruncatedBodyError as error:
            raise TruncatedBodyError(self.href, answer.total, error.received) from error

    def _in_one(self, answer: _Answer) -> Iterator[bytes]:
        """Yield what follows an answer over one connection, which is fast enough."""
        start, end, etag = answer.end or 0, answer.total or 0, answer.etag or ""
        rest = _patiently(lambda: self._range(start, end, etag), self.href, self._call)
        with closing(rest.response) as response:
            self._call.waits_on(response.shutdown)
            yield from BodyReader(response, self.href, self._call, offset=start).pieces()

    def _side_by_side(self, answer: _Answer) -> Iterator[bytes]:
        """Yield what follows an answer over several connections."""
        start, end, etag = answer.end or 0, answer.total or 0, answer.etag or ""
        ranges = Ranges(
            lambda begin, last: self._range(begin, last, etag).response,
            start, end, self.href, self._call,
        )  # fmt: skip
        with closing(ranges):
            self._call.waits_on(ranges.close)
            ranges.start()
            yield from ranges.pieces()

    def _range(self, start: int, end: int, etag: str) -> _Answer:
        """Open one range of the version that was begun.

        Raises:
            TransferError: there is another version now, or the server gave something else.
        """
        try:
            answer = self._ask(start, end, etag)
        except _NotTheRestError as error:
            problem = f"the object changed while it was fetched, or ends before byte {end}"
            raise TransferError(self.href, problem) from error
        if (answer.start, answer.end, answer.etag) != (start, end, etag):
            answer.response.close()
            raise TransferError(self.href, f"the server did not give the range at byte {start}")
        return answer


class _Speed:
    """How fast bytes come, without the time that their reader takes."""

    def __init__(self) -> None:
        self._seconds, self._bytes = 0.0, 0

    def timed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield pieces, timing each."""
        while True:
            began = time.perf_counter()
            piece = next(pieces, b"")
            self._seconds += time.perf_counter() - began
            self._bytes += len(piece)
            if not piece:
                return
            yield piece

    @property
    def bytes_per_second(self) -> float:
        return self._bytes / max(self._seconds, 1e-6)


def _given(lease: Lease, address: Address, condition: dict[str, str]) -> HTTPResponse:
    """Give the answer that has the object, or what was asked for of it.

    Raises:
        BotoCoreError, ClientError: there is none; the second says what there is.
    """
    try:
        return lease.getter.get(address.bucket, address.key, condition)
    except ClientError as error:
        if _status(error) not in _ELSEWHERE and _code(error) != _OTHER_REGION:
            raise
    # Only the client finds the region that a bucket of AWS is in.
    named: dict[str, Any] = {name.replace("-", ""): text for name, text in condition.items()}
    given = lease.client.get_object(Bucket=address.bucket, Key=address.key, **named)
    # Entered, the stream gives urllib3's response, which is read as the bytes come; its own read
    # waits until a piece is full. The stubs do not know.
    return cast("HTTPResponse", given["Body"].__enter__())


class _NotTheRestError(Exception):
    """The object is not the one of which the caller has the beginning."""


def _before_answer(error: Exception, shown: str) -> GeodesTasksError:
    """Give our error for what went wrong before there was an answer."""
    if isinstance(error, ConfigError):
        return SourceUnavailableError("s3", shown, str(error), True)
    assert isinstance(error, BotoCoreError | ValueError)  # noqa: S101 - as it was caught
    return boto_failure(error, shown)


def _patiently(act: Callable[[], Given], href: str, call: Call) -> Given:
    """Do something in a thread of its own, so that the wait for it can be broken off.

    botocore's sockets are out of reach until an answer has begun, and a silent server may take
    minutes.

    Raises:
        GeodesTasksError: what ``act`` raises, or that it was broken off.
    """
    done: SimpleQueue[Given | BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            answer = act()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.put(error)
            return
        done.put(answer)
        if call.broken_off and isinstance(answer, _Answer):
            with suppress(OSError, ValueError):
                answer.response.close()

    threading.Thread(target=run, name="s3-get", daemon=True).start()
    call.waits_on(lambda: done.put(None))
    answer = done.get()
    if answer is None or (call.broken_off and isinstance(answer, GeodesTasksError)):
        raise TransferError(href, "broken off before the answer")
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
