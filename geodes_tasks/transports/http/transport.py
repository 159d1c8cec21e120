"""Transport that opens hrefs of the portal, and of allowed hosts, over HTTP.

It checks that a response is the file, or the rest of it. Only a range that the server cannot serve
is requested again, as a whole; every other failure goes to the retry rules of the program.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from geodes_tasks.errors import (
    GeodesTasksError,
    HrefRefusedError,
    NoRangesError,
    UnexpectedAnswerError,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.base import Body, Member
from geodes_tasks.transports.http import messages, responses
from geodes_tasks.transports.http.addresses import (
    Origin,
    origin,
    query_secrets,
    redact,
    scrubbed,
)
from geodes_tasks.transports.http.exchange import Exchange
from geodes_tasks.transports.http.http_client import HttpClient

logger = logging.getLogger(__name__)

NO_RANGES_SECONDS = 3600.0
"""Seconds without range requests to a host that failed at one: in GEODES each GET costs quota."""

# Statuses that may concern the Range header only: GEODES responds 500 to every range.
_RANGE_REFUSED = {400, 405, 416, 500, 501}
_WHOLE = re.compile(r"bytes 0-\d+/\*")


class Wanted(NamedTuple):
    """Arguments of one call of ``open``."""

    href: str
    call: Call
    asset: Asset | None


class HttpTransport:
    """Opens https hrefs, with the API key on the portal and without it on allowed hosts."""

    source = "geodes"

    def __init__(self, settings: Config) -> None:
        self._client = HttpClient(settings)
        self._no_ranges: dict[Origin, float] = {}

    @contextmanager
    def open(
        self,
        href: str,
        *,
        offset: int = 0,
        etag: str | None = None,
        asset: Asset | None = None,
    ) -> Iterator[Body]:
        """Open an object, at ``offset`` where the server proves that it resumes.

        Args:
            href: Address of the object.
            offset: First byte wanted.
            etag: Validator of the bytes that the caller has; a weak one counts as none.
            asset: What the catalogue says of the file; its checksum decides, where there is one.

        Raises:
            GeodesTasksError: one subclass for each reaction; no other error is raised.
        """
        etag = responses.strong_etag(etag)
        with self._client.calls.begin() as call:
            wanted = Wanted(href, call, asset)
            exchange, body = self._from(wanted, offset, etag) if offset else self._whole(wanted)
            with closing(exchange.response):
                yield body

    def serves_ranges(self, href: str) -> bool:
        """Return False when the host failed at a range within ``NO_RANGES_SECONDS``."""
        return not self._shuns_ranges(href)

    @contextmanager
    def open_range(
        self, href: str, first: int, length: int, *, etag: str | None, asset: Asset
    ) -> Iterator[Body]:
        """Open exactly ``length`` bytes from ``first``, in one request.

        Raises:
            NoRangesError: the response does not prove that it is this range of this object.
            GeodesTasksError: as ``open``.
        """
        etag = responses.strong_etag(etag)
        headers = {"Range": f"bytes={first}-{first + length - 1}"}
        headers |= {"If-Range": etag} if etag else {}
        with self._client.calls.begin() as call:
            exchange = self._client.request(href, headers, call)
            with closing(exchange.response):
                reader, answer = exchange.reader(first), exchange.response
                total = responses.resumed_total(answer.headers, reader.length, first, etag, length)
                if answer.status == 206 and total is not None and _is_identity(answer.headers):
                    now_etag = responses.strong_etag(answer.headers.get("ETag"))
                    yield Body(first, total, now_etag, reader.pieces())
                    return
                if answer.status not in {206, *_RANGE_REFUSED}:
                    # A message in place of the file has its own error, also with status 200.
                    self._body(exchange, asset)
                if etag is None:
                    self._no_ranges[origin(href)] = time.monotonic() + NO_RANGES_SECONDS
                raise NoRangesError(asset.title)

    def members(self, href: str) -> Sequence[Member]:
        """Raise: an HTTP address is never a folder.

        Raises:
            HrefRefusedError: always.
        """
        raise HrefRefusedError(redact(href), "is no folder")

    def abort(self, thread: int) -> None:
        """Interrupt the wait of a thread; a connection that is being made is completed first."""
        self._client.calls.abort(thread)

    def _from(self, wanted: Wanted, offset: int, etag: str | None) -> tuple[Exchange, Body]:
        """Request the rest of the file, and the whole file when the response is not the rest."""
        href = wanted.href
        if self._shuns_ranges(href):
            return self._whole(wanted)
        # With If-Range a changed file comes whole, with 200 (RFC 9110 section 13.1.5).
        validator = {"If-Range": etag} if etag else {}
        headers = {"Range": f"bytes={offset}-", **validator}
        exchange = self._client.request(href, headers, wanted.call)
        status = exchange.response.status
        if status == 206 and (body := _rest(exchange, offset, etag, wanted.asset)):
            return exchange, body
        if status != 206 and status not in _RANGE_REFUSED:
            return exchange, self._body_or_close(exchange, wanted.asset)
        exchange.response.close()
        logger.info(
            "%s: HTTP %d does not resume, starting from byte 0",
            exchange.shown,
            status,
            extra={"action": "download_restarted"},
        )
        whole = self._whole(wanted)
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

    def _whole(self, wanted: Wanted) -> tuple[Exchange, Body]:
        exchange = self._client.request(wanted.href, {}, wanted.call)
        return exchange, self._body_or_close(exchange, wanted.asset)

    def _body_or_close(self, exchange: Exchange, asset: Asset | None) -> Body:
        try:
            return self._body(exchange, asset)
        except BaseException:
            exchange.response.close()
            raise

    def _body(self, exchange: Exchange, asset: Asset | None) -> Body:
        """Return the body of a response that is the whole file.

        Raises:
            GeodesTasksError: the response is not the file; each meaning has its class.
        """
        headers, status = exchange.response.headers, exchange.response.status
        checksum, reader = asset.checksum if asset else None, exchange.reader()
        # Some servers answer 206 with all bytes to a request without a range. Of a file with a
        # checksum their size need not be named (`bytes 0-9/*`).
        is_whole = responses.resumed_total(headers, reader.length, 0, None) is not None
        is_whole |= bool(checksum and _WHOLE.fullmatch(headers.get("Content-Range", "").strip()))
        if status != 200 and not (status == 206 and is_whole):
            raise self._failure(exchange, b"")
        # Decoded bytes would have another size and checksum than the catalogue announces
        # (RFC 9110 section 8.4); what a checksum proves needs no decoding.
        if checksum is None and not _is_identity(headers):
            problem = f"Content-Encoding {headers['Content-Encoding'][:40]!r} was not requested"
            raise UnexpectedAnswerError(exchange.shown, status, problem)
        is_portal = self._client.policy.is_portal(exchange.href)
        first, is_message = messages.begin(reader, headers, asset, of_portal=is_portal)
        if is_message:
            raise self._failure(exchange, first)
        etag = responses.strong_etag(headers.get("ETag"))
        return Body(0, reader.length, etag, reader.pieces(first), reader.lengthen)

    def _failure(self, exchange: Exchange, first: bytes) -> GeodesTasksError:
        """Read the message of the server after its ``first`` bytes; return the error for it."""
        response = exchange.response
        secrets = query_secrets(exchange.href) | query_secrets(exchange.url)
        secrets |= self._client.key.secrets()
        body = scrubbed(messages.text_of(first + exchange.message()), secrets)
        answer = responses.Answer(
            href=exchange.shown,
            status=response.status,
            headers=response.headers,
            body=body,
            key_name=self._client.key.name(),
            of_portal=self._client.policy.is_portal(exchange.href),
            by_portal=self._client.policy.is_portal(exchange.url),
            redirected=exchange.redirected,
            landed=redact(exchange.url) if exchange.redirected else "",
        )
        return responses.failure(answer, now=datetime.now(UTC))


def _rest(exchange: Exchange, offset: int, etag: str | None, asset: Asset | None) -> Body | None:
    """Return the body of a 206 from ``offset``; None without proof that it starts there."""
    headers, reader = exchange.response.headers, exchange.reader(offset)
    total = responses.resumed_total(headers, reader.length, offset, etag)
    is_proven = asset is not None and asset.checksum is not None
    if total is None or not (is_proven or _is_identity(headers)):
        return None
    return Body(offset, total, responses.strong_etag(headers.get("ETag")), reader.pieces())


def _is_identity(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "").strip().lower() in {"", "identity"}
