"""One object of an S3 endpoint, read from any byte on: whole, or in parts of one version.

It is asked for from the wanted byte to the end of the first range. What is small comes whole that
way; the rest of what is large follows over the same connection where that is fast, else in ranges
side by side, each on the condition that the object is still the one of which the beginning came.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodes_tasks.errors import (
    GeodesTasksError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http.responses import strong_etag
from geodes_tasks.transports.s3.endpoint import NotTheRestError
from geodes_tasks.transports.s3.ranges import RANGE_BYTES, Ranges

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from urllib3 import BaseHTTPResponse

    from geodes_tasks.transports.s3.address import Address
    from geodes_tasks.transports.s3.endpoint import Endpoints

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
"""Seconds for which SlowDown is waited out before it is raised."""
FAST_BYTES_PER_SECOND = 400e6
"""A connection as fast as that keeps hashing and disk busy alone: more of them only cost."""
SLOW_DOWN_SECONDS = 0.5
"""Wait after a SlowDown that names no time; doubled each time."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")


@dataclass(frozen=True, slots=True)
class ObjectAnswer:
    """The beginning of an object, or of its rest."""

    response: BaseHTTPResponse
    start: int
    end: int | None
    """The byte after the last of this answer."""
    total: int | None
    etag: str | None

    @property
    def is_all(self) -> bool:
        """True where no byte follows."""
        return self.end is None or self.end == self.total


class S3Object:
    """One object that a download has requested."""

    def __init__(self, endpoints: Endpoints, address: Address, href: str, call: Call) -> None:
        """Ask for nothing yet.

        Args:
            endpoints: Who is asked.
            address: Where it is.
            href: The same, fit to be shown.
            call: Of the thread that reads.
        """
        self._endpoints, self.address, self._call = endpoints, address, call
        self.href = href

    def begin(self, offset: int, etag: str | None) -> ObjectAnswer:
        """Get the first range from ``offset`` on, or from 0 where the rest cannot be had."""
        try:
            return self._first(offset, etag)
        except NotTheRestError:
            if offset:
                logger.info(
                    "%s: does not resume, starting from byte 0",
                    self.href,
                    extra={"action": "download_restarted"},
                )
                return self.begin(0, None)
        return self._whole()  # it is empty: no range fits

    def _first(self, offset: int, etag: str | None) -> ObjectAnswer:
        answer = self._ask(offset, offset + RANGE_BYTES, etag)
        if answer.start != offset or (etag and answer.etag != etag):
            if answer.start == 0 and answer.is_all:
                return answer  # a server without ranges: the whole object, from byte 0
            answer.response.close()
            raise NotTheRestError
        if answer.is_all or answer.etag:
            return answer
        # Nothing could prove that further ranges are of the same version.
        answer.response.close()
        return self._ask(offset, None, None) if offset else self._whole()

    def _whole(self) -> ObjectAnswer:
        return self._read(self._get({}, self._call), None)

    def _ask(
        self, start: int, end: int | None, etag: str | None, call: Call | None = None
    ) -> ObjectAnswer:
        condition = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        condition |= {"If-Match": etag} if etag else {}
        return self._read(self._get(condition, call or self._call), start)

    def _read(self, response: BaseHTTPResponse, start: int | None) -> ObjectAnswer:
        """Take an answer for what it proves to be.

        Raises:
            NotTheRestError: a part, and not the one that was asked for.
        """
        etag, length = strong_etag(response.headers.get("ETag")), response.length_remaining
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        # Some servers (rclone's) give a range with the status of the whole.
        if match is None and response.status != 206:
            return ObjectAnswer(response, 0, None, length, etag)
        if match is None or int(match[1]) != start or int(match[2]) + 1 - start != length:
            response.close()
            raise NotTheRestError
        return ObjectAnswer(response, start, int(match[2]) + 1, int(match[3]), etag)

    def _get(self, condition: dict[str, str], call: Call) -> BaseHTTPResponse:
        """Ask, and wait out a server that wants it slower, for a while."""
        patience, wait = time.monotonic() + PATIENCE_SECONDS, SLOW_DOWN_SECONDS
        while not self._call.broken_off:
            try:
                return self._endpoints.get(self.address, self.href, condition, call)
            except GeodesTasksError as error:
                wait_s = _wait_s(error, wait)
                too_long = wait_s is None or time.monotonic() + wait_s > patience
                if too_long and not self._call.broken_off:
                    raise
            call.sleep(wait_s or 0.0)
            wait *= 2
        raise TransferError(self.href, "broken off before the answer")

    def pieces(self, answer: ObjectAnswer) -> Generator[bytes]:
        """Yield the bytes of an answer and of the ranges that follow it."""
        reader = BodyReader(answer.response, self.href, self._call, offset=answer.start)
        if answer.is_all:
            return reader.pieces()
        return self._pieces(answer, reader)

    def _pieces(self, answer: ObjectAnswer, reader: BodyReader) -> Generator[bytes]:
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

    def _in_one(self, answer: ObjectAnswer) -> Iterator[bytes]:
        """Yield what follows an answer over one connection, which is fast enough."""
        start, end, etag = answer.end or 0, answer.total or 0, answer.etag or ""
        rest = self._range(start, end, etag, self._call)
        with closing(rest.response) as response:
            self._call.waits_on(response.shutdown)
            yield from BodyReader(response, self.href, self._call, offset=start).pieces()

    def _side_by_side(self, answer: ObjectAnswer) -> Iterator[bytes]:
        """Yield what follows an answer over several connections."""
        start, end, etag = answer.end or 0, answer.total or 0, answer.etag or ""
        ranges = Ranges(
            # A call of its own: that of the reader wakes the reader, who waits for the ranges.
            lambda begin, last: self._range(begin, last, etag, Call()).response,
            start, end, self.href, self._call,
        )  # fmt: skip
        with closing(ranges):
            self._call.waits_on(ranges.close)
            ranges.start()
            yield from ranges.pieces()

    def _range(self, start: int, end: int, etag: str, call: Call) -> ObjectAnswer:
        """Open one range of the version that was begun.

        Raises:
            TransferError: there is another version now, or the server gave something else.
        """
        try:
            answer = self._ask(start, end, etag, call)
        except NotTheRestError as error:
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


def _wait_s(error: GeodesTasksError, usual_s: float) -> float | None:
    """Return the seconds that a server wants to be left alone; None for another error."""
    if not isinstance(error, ThrottledError):
        return None
    return usual_s if error.retry_after_s is None else error.retry_after_s
