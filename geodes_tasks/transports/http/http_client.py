"""The HTTP client: every request but those of S3 begins here, for a file or for a small question.

requests prepares addresses, and `pools` sends. A session of requests would send ``X-API-Key`` to
any host that a redirect names: each hop is checked here, and only the portal receives the key. No
retries; cookies only within the redirects of one request.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import requests
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
from requests.exceptions import RequestException
from urllib3 import BaseHTTPResponse, Timeout

from geodes_tasks.errors import (
    AuthError,
    HrefRefusedError,
    RedirectUnreachableError,
    TransferError,
    UnexpectedAnswerError,
    UnreachableError,
)
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.body_reader import root_cause
from geodes_tasks.transports.http.addresses import AddressPolicy, redact, site
from geodes_tasks.transports.http.api_key import ApiKey
from geodes_tasks.transports.http.connections import Watch
from geodes_tasks.transports.http.exchange import Exchange, Reply
from geodes_tasks.transports.http.pools import AGENT, Pools, WireRequest

MAX_HOPS = 5
"""Number of redirects followed for one request, at most."""
MAX_REPLY_BYTES = 16 << 20
"""Bytes of the reply to a small question, at most: a page of 80 items has some 400 kB. The worst
JSON of this size, empty lists, takes 0.4 GB of memory; one of 64 MiB took 1.5 GB."""
GZIP = 16 + zlib.MAX_WBITS
"""Window bits with which zlib reads the header of gzip (zlib.decompressobj)."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_HEADERS = {"Accept": "*/*", **AGENT, "Accept-Encoding": "identity"}
# Pairs, unreserved and reserved characters (RFC 3986 section 3.4): what needs no encoding.
_VALID_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})+")


class HttpClient:
    """Sends requests, with the key to the portal only. Safe to use from many threads."""

    def __init__(self, settings: Config, *, with_key: bool = True, trusted: str = "") -> None:
        """Prepare; no connection is opened.

        Args:
            settings: Addresses, key, timeouts and certificates.
            with_key: Whether the portal receives the key.
            trusted: One more host that may be opened, inside the network too.
        """
        self.policy, self.key = AddressPolicy(settings, trusted), ApiKey(settings)
        self.calls = Calls(settings.rate)
        self._settings, self._with_key = settings, with_key
        self._watch = Watch(self.policy, settings.stall_seconds, self.calls)
        self._local = threading.local()

    def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """Return the whole reply to a small question, whatever its status; follow no redirect.

        Args:
            url: Address of the request.
            headers: Extra request headers.
            body: Body of a POST; None for a GET.
            seconds: Timeout of the connection, of the head and of the body; None for the settings'.

        Raises:
            UnexpectedAnswerError: the reply has more than ``MAX_REPLY_BYTES``.
            GeodesTasksError: as :meth:`request`, and as :meth:`BodyReader.read`.
        """
        start = bytearray()
        asked = {"Accept-Encoding": "gzip"} | dict(headers or {})
        with self.calls.begin() as call:
            exchange = self.request(url, asked, call, body, follows=False, seconds=seconds)
            response = exchange.response
            with closing(response):
                limit_s = seconds or self._settings.first_byte_seconds
                exchange.read_into(start, MAX_REPLY_BYTES + 1, limit_s)
        content, found = bytes(start), response.headers
        if found.get("Content-Encoding", "").strip().lower() == "gzip":
            with suppress(zlib.error):
                content = zlib.decompressobj(GZIP).decompress(content, MAX_REPLY_BYTES + 1)
        if len(content) > MAX_REPLY_BYTES:
            raise UnexpectedAnswerError(redact(url), response.status, "the answer has no end")
        return Reply(response.status, found, content)

    def request(
        self,
        href: str,
        headers: Mapping[str, str],
        call: Call,
        body: bytes | None = None,
        *,
        follows: bool = True,
        seconds: float | None = None,
    ) -> Exchange:
        """Send a request, follow its redirects, and return the last response.

        Args:
            href: Address of the request; plain http to the portal's host is sent by https.
            headers: Extra request headers.
            call: The call of this thread, which ``abort`` can interrupt.
            body: Body of a POST; None for a GET.
            follows: Whether redirects are followed.
            seconds: Timeout of the connection and of the head; None for those of the settings.

        Raises:
            AuthError: the portal redirects without end, as GEODES does for a wrong key.
            HrefRefusedError: the address, or one that a redirect names, is not opened.
            KeyMissingError: the portal needs a key and none is set; no request was sent.
            UntrustedServerError: the certificate of the server cannot be verified.
            UnreachableError: no connection could be made, so no request was sent.
            RedirectUnreachableError: the same of the host that a redirect names.
            StalledError: no response arrived in time.
            TransferError: the connection broke.
        """
        settings = self._settings
        timeout = Timeout(
            connect=seconds or settings.connect_seconds, read=seconds or settings.first_byte_seconds
        )
        url, came_from, cookies = self.policy.secured(href), "", RequestsCookieJar()
        seen: set[tuple[str, str]] = set()
        while len(seen) <= MAX_HOPS:
            try:
                request = self._prepared(url, came_from, headers, body)
            except HrefRefusedError as error:
                if not came_from:
                    raise
                found = f"{redact(href)} redirects to {error.href}"
                raise replace(error, href=found) from error.__cause__
            # Load balancers redirect to the same address until their cookie comes back.
            if came_from and (found := get_cookie_header(cookies, request)):  # type: ignore[no-untyped-call]
                request.headers["Cookie"] = found
            step = url, request.headers.get("Cookie", "")
            if step in seen:
                break
            seen.add(step)
            # urllib3 writes %2f as %2F, and some servers sign the letters of the query.
            query = url.partition("#")[0].partition("?")[2]
            call.query = query if _VALID_QUERY.fullmatch(query) else None
            response = self._send(request, href, call, timeout, is_hop=bool(came_from))
            target = _redirect(response, request.url) if follows else None
            if target is None:
                return Exchange(response, call, href, request.url, redirected=len(seen) > 1)
            response.close()
            extract_cookies_to_jar(cookies, request, response)  # type: ignore[no-untyped-call]
            url, came_from = self.policy.secured(target), request.url
        problem = f"redirects without end, last to {redact(url)}"
        if self.policy.is_portal(href):
            raise AuthError(redact(href), self.key.name(), problem)
        raise TransferError(redact(href), problem)

    def _prepared(
        self, url: str, came_from: str, headers: Mapping[str, str], body: bytes | None
    ) -> WireRequest:
        """Build the request, check its address, and add the key for the portal."""
        if "\\" in url:
            # WHATWG URL parsers read it as a slash, RFC 3986 parsers as a part of the user name.
            raise HrefRefusedError(redact(url), "this is no web address (a backslash)")
        if self.policy.is_plain(url):
            sent_to, target = url, url[len(site(url)) :]
        else:
            # ``Session.prepare_request`` would also add a login from ~/.netrc.
            prepared = requests.PreparedRequest()
            try:
                prepared.prepare_url(url, None)
                sent_to, target = str(prepared.url), prepared.path_url
            except (RequestException, ValueError) as error:
                raise HrefRefusedError(redact(url), "this is no web address") from root_cause(error)
        # The address is checked as it will be sent: two parsers may find two hosts (CWE-918).
        if came_from:
            self.policy.check_redirect(came_from, sent_to)
        else:
            self.policy.check_href(sent_to)
        sent = _HEADERS | dict(headers)
        if self._with_key and self.policy.takes_key(sent_to):
            sent |= self.key.header(sent_to)
        return WireRequest(sent_to, target, sent, body)

    def _send(
        self,
        request: WireRequest,
        href: str,
        call: Call,
        timeout: Timeout,
        *,
        is_hop: bool,
    ) -> BaseHTTPResponse:
        """Send one request, without redirects."""
        try:
            return self._connections().open(request, redact(href), call, timeout)
        except UnreachableError as error:
            if not is_hop:
                raise
            host = urlsplit(request.url).netloc
            raise RedirectUnreachableError(error.href, error.problem, host) from error.__cause__

    def _connections(self) -> Pools:
        """Return the connections of this thread and process."""
        # A forked child inherits the sockets of its parent and must not write to them.
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.pools = Pools(self._settings.ca_bundle, self._watch)
            self._local.pid = os.getpid()
        pools: Pools = self._local.pools
        return pools


def _redirect(response: BaseHTTPResponse, url: str) -> str | None:
    """Return the absolute address that a redirect of an address names; None for any other one."""
    if response.status not in _REDIRECTS or "Location" not in response.headers:
        return None
    try:
        # Header fields are read as ISO 8859-1, and servers write UTF-8. Location may be relative
        # to the address of the request (RFC 9110 section 10.2.2).
        return urljoin(url, response.headers["Location"].encode("latin-1").decode("utf-8"))
    except ValueError as error:
        response.close()
        raise HrefRefusedError(redact(url), "it redirects to an invalid address") from error
