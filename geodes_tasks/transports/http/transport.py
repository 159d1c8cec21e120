"""Opens hrefs of the portal, and of hosts that the settings allow, over HTTP.

Knows what proves that an answer is the file, or the rest of it. Nothing is retried but a range
that the server cannot serve: the retry rules of the program see every other failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from geodes_tasks.errors import GeodesTasksError, HrefRefusedError, UnexpectedAnswerError
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http import responses
from geodes_tasks.transports.http.addresses import AddressPolicy, Origin, origin, redact
from geodes_tasks.transports.http.api_key import ApiKey
from geodes_tasks.transports.http.request import Caller, Exchange

logger = logging.getLogger(__name__)

NO_RANGES_SECONDS = 3600.0
"""How long a host that failed at a range is not asked for one: in GEODES each GET costs quota."""

_SNIFFED_BYTES = 16
# Answers that may mean no more than "not with a Range": GEODES says 500 to every range.
_RANGE_REFUSED = {400, 405, 416, 500, 501}


class HttpTransport:
    """Opens https hrefs: the portal's with the API key, allowed hosts' without."""

    source = "geodes"

    def __init__(self, settings: Settings) -> None:
        self._policy = AddressPolicy(settings)
        self._key = ApiKey(settings)
        self._calls = Calls()
        self._caller = Caller(settings, self._policy, self._key, self._calls)
        self._no_ranges: dict[Origin, float] = {}

    @contextmanager
    def open(self, href: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Body]:
        """Open an object, from ``offset`` on where the server proves that it can.

        Args:
            href: Where the object is.
            offset: First byte wanted.
            etag: Validator of the bytes that the caller has; a weak one counts as none.

        Raises:
            GeodesTasksError: a subclass that names the reaction; nothing else leaves here.
        """
        etag = responses.strong_etag(etag)
        with self._calls.begin() as call:
            exchange, body = (
                self._from(href, call, offset, etag) if offset else self._whole(href, call)
            )
            with exchange.response:
                yield body

    def members(self, href: str) -> Sequence[Member]:
        """Know of no folders.

        Raises:
            HrefRefusedError: always.
        """
        raise HrefRefusedError(redact(href), "is no folder")

    def abort(self, thread: int) -> None:
        """Break off what a thread waits for; a connection being made is let finish first."""
        self._calls.abort(thread)

    def _from(self, href: str, call: Call, offset: int, etag: str | None) -> tuple[Exchange, Body]:
        """Ask for the rest; what does not prove to be the rest is asked for whole."""
        if self._shuns_ranges(href):
            return self._whole(href, call)
        validator = {"If-Range": etag} if etag else {}
        exchange = self._caller.ask(href, {"Range": f"bytes={offset}-", **validator}, call)
        status = exchange.response.status_code
        if status == 206 and (body := _rest(exchange, offset, etag)):
            return exchange, body
        if status != 206 and status not in _RANGE_REFUSED:
            return exchange, self._body_or_close(exchange)
        exchange.response.close()
        logger.info(
            "%s: HTTP %d does not resume, starting from byte 0",
            exchange.shown,
            status,
            extra={"action": "download_restarted"},
        )
        whole = self._whole(href, call)
        # Only now is it sure that it was the range which failed, and not the server.
        if status != 416 and not _is_other_version(exchange, etag):
            self._no_ranges[origin(href)] = time.monotonic() + NO_RANGES_SECONDS
        return whole

    def _shuns_ranges(self, href: str) -> bool:
        """Tell whether the host failed at a range not long ago."""
        try:
            return self._no_ranges.get(origin(href), 0.0) > time.monotonic()
        except ValueError:
            return False  # refused with its reason when it is asked for

    def _whole(self, href: str, call: Call) -> tuple[Exchange, Body]:
        exchange = self._caller.ask(href, {}, call)
        return exchange, self._body_or_close(exchange)

    def _body_or_close(self, exchange: Exchange) -> Body:
        try:
            return self._body(exchange)
        except BaseException:
            exchange.response.close()
            raise

    def _body(self, exchange: Exchange) -> Body:
        """Take an answer for the whole file, if it is it.

        Raises:
            GeodesTasksError: it is not; the class says what it means.
        """
        headers = exchange.response.headers
        if exchange.response.status_code != 200:
            raise self._failure(exchange, b"")
        if not _is_identity(headers):
            problem = f"Content-Encoding {headers['Content-Encoding'][:40]!r} was not asked for"
            raise UnexpectedAnswerError(exchange.shown, 200, problem)
        reader = exchange.reader()
        first = _first(reader)
        if responses.is_message(headers, first, of_portal=self._policy.is_portal(exchange.href)):
            raise self._failure(exchange, first)
        etag = responses.strong_etag(headers.get("ETag"))
        return Body(0, reader.length, etag, reader.pieces(first), reader.lengthen)

    def _failure(self, exchange: Exchange, first: bytes) -> GeodesTasksError:
        """Read what the server has to say, after its ``first`` words, and name it."""
        response = exchange.response
        answer = responses.Answer(
            href=exchange.shown,
            status=response.status_code,
            headers=response.headers,
            body=self._key.scrubbed((first + exchange.message()).decode("utf-8", "replace")),
            key_name=self._key.name(),
            of_portal=self._policy.is_portal(exchange.href),
            by_portal=self._policy.is_portal(response.url),
            redirected=exchange.redirected,
        )
        return responses.failure(answer, now=datetime.now(UTC))


def _rest(exchange: Exchange, offset: int, etag: str | None) -> Body | None:
    """Take a 206 for the bytes from ``offset`` on; None when it does not prove to be."""
    headers, reader = exchange.response.headers, exchange.reader(offset)
    total = responses.resumed_total(headers, reader.length, offset, etag)
    if total is None or not _is_identity(headers):
        return None
    return Body(offset, total, responses.strong_etag(headers.get("ETag")), reader.pieces())


def _is_other_version(exchange: Exchange, etag: str | None) -> bool:
    """Tell whether an answer names another version than the one that the caller has."""
    return etag is not None and exchange.response.headers.get("ETag", etag) != etag


def _is_identity(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "").strip().lower() in {"", "identity"}


def _first(reader: BodyReader) -> bytes:
    """Read enough to tell a page from a file; fewer bytes are the whole body."""
    first = piece = reader.read()
    while piece and len(first) < _SNIFFED_BYTES:
        piece = reader.read()
        first += piece
    return first
