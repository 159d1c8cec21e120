"""Transport that opens hrefs of the portal, and of allowed hosts, over HTTP.

It checks that a response is the file, or the rest of it. Only a range that the server cannot serve
is requested again, as a whole; every other failure goes to the retry rules of the program.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from geodes_tasks.errors import GeodesTasksError, HrefRefusedError, UnexpectedAnswerError
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http import responses
from geodes_tasks.transports.http.addresses import Origin, origin, redact
from geodes_tasks.transports.http.exchange import Exchange
from geodes_tasks.transports.http.http_client import HttpClient

logger = logging.getLogger(__name__)

NO_RANGES_SECONDS = 3600.0
"""Seconds without range requests to a host that failed at one: in GEODES each GET costs quota."""

_SNIFFED_BYTES = 16
"""Bytes at the start of a body that are checked for a page or a message, at least."""
# Statuses that may concern the Range header only: GEODES responds 500 to every range.
_RANGE_REFUSED = {400, 405, 416, 500, 501}


class HttpTransport:
    """Opens https hrefs, with the API key on the portal and without it on allowed hosts."""

    source = "geodes"

    def __init__(self, settings: Settings) -> None:
        self._client = HttpClient(settings)
        self._no_ranges: dict[Origin, float] = {}

    @contextmanager
    def open(self, href: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Body]:
        """Open an object, at ``offset`` where the server proves that it resumes.

        Args:
            href: Address of the object.
            offset: First byte wanted.
            etag: Validator of the bytes that the caller has; a weak one counts as none.

        Raises:
            GeodesTasksError: one subclass for each reaction; no other error is raised.
        """
        etag = responses.strong_etag(etag)
        with self._client.calls.begin() as call:
            exchange, body = (
                self._from(href, call, offset, etag) if offset else self._whole(href, call)
            )
            with exchange.response:
                yield body

    def members(self, href: str) -> Sequence[Member]:
        """Raise: an HTTP address is never a folder.

        Raises:
            HrefRefusedError: always.
        """
        raise HrefRefusedError(redact(href), "is no folder")

    def abort(self, thread: int) -> None:
        """Interrupt the wait of a thread; a connection that is being made is completed first."""
        self._client.calls.abort(thread)

    def _from(self, href: str, call: Call, offset: int, etag: str | None) -> tuple[Exchange, Body]:
        """Request the rest of the file, and the whole file when the response is not the rest."""
        if self._shuns_ranges(href):
            return self._whole(href, call)
        # With If-Range a changed file comes whole, with 200 (RFC 9110 section 13.1.5).
        validator = {"If-Range": etag} if etag else {}
        exchange = self._client.request(href, {"Range": f"bytes={offset}-", **validator}, call)
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
        # The whole file came, so the range was the cause and not the server. A 416 is no reason:
        # the part file is as long as the file, or longer (RFC 9110 section 15.5.17).
        now_etag = exchange.response.headers.get("ETag", etag)
        if status != 416 and (etag is None or now_etag == etag):
            self._no_ranges[origin(href)] = time.monotonic() + NO_RANGES_SECONDS
        return whole

    def _shuns_ranges(self, href: str) -> bool:
        """Return whether the host failed at a range within ``NO_RANGES_SECONDS``."""
        try:
            return self._no_ranges.get(origin(href), 0.0) > time.monotonic()
        except ValueError:
            return False  # ``_whole`` refuses this href and names the reason

    def _whole(self, href: str, call: Call) -> tuple[Exchange, Body]:
        exchange = self._client.request(href, {}, call)
        return exchange, self._body_or_close(exchange)

    def _body_or_close(self, exchange: Exchange) -> Body:
        try:
            return self._body(exchange)
        except BaseException:
            exchange.response.close()
            raise

    def _body(self, exchange: Exchange) -> Body:
        """Return the body of a response that is the whole file.

        Raises:
            GeodesTasksError: the response is not the file; each meaning has its class.
        """
        headers = exchange.response.headers
        if exchange.response.status_code != 200:
            raise self._failure(exchange, b"")
        # Decoded bytes would have another size and checksum than the catalogue announces
        # (RFC 9110 section 8.4).
        if not _is_identity(headers):
            problem = f"Content-Encoding {headers['Content-Encoding'][:40]!r} was not requested"
            raise UnexpectedAnswerError(exchange.shown, 200, problem)
        reader = exchange.reader()
        first = _first(reader)
        if responses.is_message(
            headers, first, of_portal=self._client.policy.is_portal(exchange.href)
        ):
            raise self._failure(exchange, first)
        etag = responses.strong_etag(headers.get("ETag"))
        return Body(0, reader.length, etag, reader.pieces(first), reader.lengthen)

    def _failure(self, exchange: Exchange, first: bytes) -> GeodesTasksError:
        """Read the message of the server after its ``first`` bytes; return the error for it."""
        response = exchange.response
        answer = responses.Answer(
            href=exchange.shown,
            status=response.status_code,
            headers=response.headers,
            body=self._client.key.scrubbed((first + exchange.message()).decode("utf-8", "replace")),
            key_name=self._client.key.name(),
            of_portal=self._client.policy.is_portal(exchange.href),
            by_portal=self._client.policy.is_portal(response.url),
            redirected=exchange.redirected,
        )
        return responses.failure(answer, now=datetime.now(UTC))


def _rest(exchange: Exchange, offset: int, etag: str | None) -> Body | None:
    """Return the body of a 206 from ``offset``; None without proof that it starts there."""
    headers, reader = exchange.response.headers, exchange.reader(offset)
    total = responses.resumed_total(headers, reader.length, offset, etag)
    if total is None or not _is_identity(headers):
        return None
    return Body(offset, total, responses.strong_etag(headers.get("ETag")), reader.pieces())


def _is_identity(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "").strip().lower() in {"", "identity"}


def _first(reader: BodyReader) -> bytes:
    """Read at least ``_SNIFFED_BYTES``; fewer bytes are the whole body."""
    first = piece = reader.read()
    while piece and len(first) < _SNIFFED_BYTES:
        piece = reader.read()
        first += piece
    return first
