"""HTTP client: sends one request and follows its redirects; only this module calls requests.

requests drops only ``Authorization`` at a redirect and would send ``X-API-Key`` to any host, so
each hop is checked here, and only the portal receives the key. No retries, no cookies.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ConnectTimeout,
    InvalidSchema,
    InvalidURL,
    MissingSchema,
    ProxyError,
    ReadTimeout,
    RequestException,
    SSLError,
)
from urllib3.exceptions import HTTPError

from geodes_tasks.errors import (
    AuthError,
    GeodesTasksError,
    HrefRefusedError,
    StalledError,
    TransferError,
    UnreachableError,
    UntrustedServerError,
)
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.config import Settings
from geodes_tasks.settings.urls import is_loopback
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.body_reader import BodyReader, cause_name, root_cause
from geodes_tasks.transports.http.addresses import AddressPolicy, Origin, origin, redact
from geodes_tasks.transports.http.api_key import ApiKey
from geodes_tasks.transports.http.connections import Watch, hide_queries, watched

MAX_HOPS = 5
"""Number of redirects followed for one request, at most."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Bytes of an error response that are read, at most."""
MESSAGE_SECONDS = 10.0
"""Seconds after which reading an error response ends: a slow server must not block the worker."""


class _WatchedAdapter(HTTPAdapter):
    def __init__(self, watch: Watch) -> None:
        super().__init__(max_retries=0)
        self._watch = watch

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = watched(str(pool.scheme), self._watch)  # type: ignore[attr-defined]  # not in the stubs
        return pool


def _new_session(watch: Watch) -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = f"geodes-tasks/{__version__}"
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("https://", "http://"):
        session.mount(scheme, _WatchedAdapter(watch))
    return session


@dataclass(slots=True)
class Exchange:
    """Response to a request, after its redirects."""

    response: requests.Response
    call: Call
    href: str
    """Address of the first request, before any redirect."""
    redirected: bool
    """True when the response came after a redirect."""

    @property
    def shown(self) -> str:
        """Return the href for messages, without its query."""
        return redact(self.href)

    def reader(self, offset: int = 0) -> BodyReader:
        """Return a reader of the body, which starts at byte ``offset`` of the object."""
        return BodyReader(self.response.raw, self.shown, self.call, offset=offset)

    def message(self, most: int = MAX_MESSAGE_BYTES) -> bytes:
        """Read the first bytes of the body, at most ``most``; fewer when it breaks or is slow."""
        reader, start, deadline = self.reader(), bytearray(), time.monotonic() + MESSAGE_SECONDS
        with suppress(GeodesTasksError):
            while len(start) < most and time.monotonic() < deadline:
                piece = reader.read()
                if not piece:
                    break
                start += piece
        return bytes(start[:most])


class Caller:
    """Sends requests, with the key to the portal only. Safe to use from many threads."""

    def __init__(
        self, settings: Settings, policy: AddressPolicy, key: ApiKey, calls: Calls
    ) -> None:
        self._settings, self._policy, self._key = settings, policy, key
        self._watch = Watch(policy, settings.stall_seconds, calls)
        self._local = threading.local()
        self._routes: dict[Origin, dict[str, Any]] = {}

    def request(
        self, href: str, headers: Mapping[str, str], call: Call, body: bytes | None = None
    ) -> Exchange:
        """Send a request, follow its redirects, and return the last response.

        Args:
            href: Address of the request.
            headers: Extra request headers.
            call: The call of this thread, which ``abort`` can interrupt.
            body: Body of a POST; None for a GET.

        Raises:
            AuthError: the portal redirects without end, as GEODES does for a wrong key.
            HrefRefusedError: the address, or one that a redirect names, is not opened.
            KeyMissingError: the portal needs a key and none is set; no request was sent.
            UntrustedServerError: the portal's certificate cannot be verified.
            UnreachableError: no connection could be made, so no request was sent.
            StalledError: no response arrived in time.
            TransferError: the connection broke, or the target of a redirect cannot be reached.
        """
        url, came_from, seen = href, "", set[str]()
        while url not in seen and len(seen) <= MAX_HOPS:
            seen.add(url)
            try:
                response = self._send(self._prepared(url, came_from, headers, body), href)
            except TransferError as error:
                # After a redirect the portal has responded, and may have counted the download in
                # the quota: that request is not one that was never sent.
                untrusted = isinstance(error.__cause__, ssl.SSLCertVerificationError)
                if call.connected or came_from or untrusted:
                    raise
                raise UnreachableError(error.href, error.problem) from error.__cause__
            target = self._redirect(response)
            if target is None:
                return Exchange(response, call, href, redirected=len(seen) > 1)
            response.close()
            url, came_from = target, str(response.url)
        problem = "redirects without end"
        if self._policy.is_portal(href):
            raise AuthError(redact(href), self._key.name(), problem)
        raise TransferError(redact(href), problem)

    def _redirect(self, response: requests.Response) -> str | None:
        """Return the absolute address that a redirect names; None for any other response."""
        try:
            target = self._session().get_redirect_target(response)
            # Location may be relative to the address of the request (RFC 9110 section 10.2.2).
            return None if target is None else urljoin(str(response.url), target)
        except ValueError as error:
            response.close()
            raise HrefRefusedError(
                redact(str(response.url)), "it redirects to an invalid address"
            ) from error

    def _prepared(
        self, url: str, came_from: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.PreparedRequest:
        """Build the request, check its address, and add the key for the portal."""
        if "\\" in url:
            # WHATWG URL parsers read it as a slash, RFC 3986 parsers as a part of the user name.
            raise HrefRefusedError(redact(url), "this is no web address (a backslash)")
        try:
            request = self._made(url, headers, body)
        except (RequestException, ValueError) as error:
            raise HrefRefusedError(redact(url), "this is no web address") from root_cause(error)
        # The address is checked as it will be sent: two parsers may find two hosts (CWE-918).
        sent_to = str(request.url)
        if came_from:
            self._policy.check_redirect(came_from, sent_to)
        else:
            self._policy.check_href(sent_to)
        if self._policy.takes_key(sent_to):
            request.headers.update(self._key.header(sent_to))
        return request

    def _made(
        self, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.PreparedRequest:
        """Build the request from its parts."""
        # ``Session.prepare_request`` would also add cookies, and a login from ~/.netrc.
        request = requests.PreparedRequest()
        request.prepare_method("GET" if body is None else "POST")
        request.prepare_url(url, None)
        request.prepare_headers({**self._session().headers, **headers})
        if body is not None:
            request.prepare_body(body, None)
        return request

    def _send(self, request: requests.PreparedRequest, href: str) -> requests.Response:
        """Send one request by its adapter, without redirects."""
        # ``Session.send`` would keep cookies, and read the body of a response to its end
        # before it follows a redirect.
        session, url = self._session(), str(request.url)
        settings = self._settings
        try:
            return session.get_adapter(url).send(
                request,
                stream=True,
                timeout=(settings.connect_seconds, settings.first_byte_seconds),
                **self._route(session, url),
            )
        except (RequestException, HTTPError) as error:
            raise self._named(error, url, href) from root_cause(error)
        except OSError as error:
            # requests raises a bare OSError when the certificate file does not exist.
            raise self._untrusted(url, str(error)) from error

    def _route(self, session: requests.Session, url: str) -> dict[str, Any]:
        """Return proxies and certificates for an address; loopback uses no proxy."""
        where = origin(url)
        if where not in self._routes:
            bundle = self._settings.ca_bundle
            verify = str(bundle.expanduser()) if bundle else True
            # This call reads the whole environment for proxies: once for each server is enough.
            route = session.merge_environment_settings(url, {}, True, verify, None)
            # Loopback may use plain http, and a proxy would then see the key.
            proxies = {} if is_loopback(where[1]) else route["proxies"]
            self._routes[where] = {"verify": route["verify"], "proxies": proxies}
        return self._routes[where]

    def _session(self) -> requests.Session:
        """Return the session of this thread and process."""
        # A forked child inherits the sockets of its parent and must not write to them.
        if getattr(self._local, "pid", None) != os.getpid():
            hide_queries()
            self._local.session, self._local.pid = _new_session(self._watch), os.getpid()
        session: requests.Session = self._local.session
        return session

    def _named(self, error: Exception, url: str, href: str) -> GeodesTasksError:
        """Return the error of this package for one of requests."""
        # The texts of requests quote whole addresses, so only the inner cause is used.
        shown, cause, name = redact(href), root_cause(error), cause_name(error)
        match error:
            case SSLError() if isinstance(cause, ssl.SSLCertVerificationError):
                return self._untrusted(url, cause.verify_message)
            case InvalidURL() | InvalidSchema() | MissingSchema():
                return HrefRefusedError(redact(url), "this is no web address")
            case ReadTimeout():
                waited = self._settings.first_byte_seconds
                return StalledError(shown, f"no answer within {waited:g} s")
            case ConnectTimeout():
                waited = self._settings.connect_seconds
                return TransferError(shown, f"no connection within {waited:g} s")
            case ProxyError():
                return TransferError(shown, f"the proxy does not lead there ({name})")
        return TransferError(shown, f"the connection failed ({name})")

    def _untrusted(self, url: str, problem: str) -> GeodesTasksError:
        """Return the error for a bad certificate; only that of the portal pauses the account."""
        error = UntrustedServerError(redact(url), problem)
        return error if self._policy.is_portal(url) else TransferError(error.href, str(error))
