"""One request, redirects followed by hand, to one answer; the only place that calls requests.

requests would take ``X-API-Key`` along to any host, so each hop is judged here and gets the key
only when it is the portal itself. Nothing is retried and no cookie is kept.
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
MAX_MESSAGE_BYTES = 64 * 1024
MESSAGE_SECONDS = 10.0


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
    """One answer, and how it was come by."""

    response: requests.Response
    call: Call
    href: str
    """What was asked for, before any redirect."""
    redirected: bool
    """Whether a redirect led to this answer."""

    @property
    def shown(self) -> str:
        """The href, fit for messages."""
        return redact(self.href)

    def reader(self, offset: int = 0) -> BodyReader:
        """Give what reads the body, which starts at ``offset`` of the object."""
        return BodyReader(self.response.raw, self.shown, self.call, offset=offset)

    def message(self, most: int = MAX_MESSAGE_BYTES) -> bytes:
        """Read the start of the body, for what it says; a broken body says less."""
        reader, start, deadline = self.reader(), bytearray(), time.monotonic() + MESSAGE_SECONDS
        with suppress(GeodesTasksError):
            while len(start) < most and time.monotonic() < deadline:
                piece = reader.read()
                if not piece:
                    break
                start += piece
        return bytes(start[:most])


class Caller:
    """Asks for hrefs; the portal's with the key, others without. Safe to use from many threads."""

    def __init__(
        self, settings: Settings, policy: AddressPolicy, key: ApiKey, calls: Calls
    ) -> None:
        self._settings, self._policy, self._key = settings, policy, key
        self._watch = Watch(policy, settings.stall_seconds, calls)
        self._local = threading.local()
        self._routes: dict[Origin, dict[str, Any]] = {}

    def ask(
        self, href: str, headers: Mapping[str, str], call: Call, question: bytes | None = None
    ) -> Exchange:
        """Send the request, and follow redirects to where the answer is.

        Args:
            href: Where to.
            headers: Sent along.
            call: Of this thread.
            question: A body, for a POST; None for a GET.

        Raises:
            AuthError: the portal sends in circles, which is how GEODES answers a wrong key.
            HrefRefusedError: the address, or one that a redirect names, is not opened.
            KeyMissingError: the portal wants a key and there is none; nothing was sent.
            UntrustedServerError: the portal's certificate cannot be verified.
            UnreachableError: no connection: nothing was sent.
            StalledError: no answer in time.
            TransferError: a connection that broke, or none to where a redirect led.
        """
        url, came_from, seen = href, "", set[str]()
        while url not in seen and len(seen) <= MAX_HOPS:
            seen.add(url)
            try:
                response = self._send(self._prepared(url, came_from, headers, question), href)
            except TransferError as error:
                # The one that redirects has answered, and may have counted.
                untrusted = isinstance(error.__cause__, ssl.SSLCertVerificationError)
                if call.connected or came_from or untrusted:
                    raise
                raise UnreachableError(error.href, error.problem) from error.__cause__
            target = self._redirect(response)
            if target is None:
                return Exchange(response, call, href, redirected=len(seen) > 1)
            response.close()
            url, came_from = target, str(response.url)
        raise self._lost(href)

    def _redirect(self, response: requests.Response) -> str | None:
        """Give the whole address that a redirect names; None for any other answer."""
        try:
            target = self._session().get_redirect_target(response)
            return None if target is None else urljoin(str(response.url), target)
        except ValueError as error:
            response.close()
            raise HrefRefusedError(
                redact(str(response.url)), "it redirects to no address at all"
            ) from error

    def _lost(self, href: str) -> GeodesTasksError:
        problem = "redirects without end"
        if self._policy.is_portal(href):
            return AuthError(redact(href), self._key.name(), problem)
        return TransferError(redact(href), problem)

    def _prepared(
        self, url: str, came_from: str, headers: Mapping[str, str], question: bytes | None
    ) -> requests.PreparedRequest:
        """Make the request, judge its address, and add the key where it belongs."""
        if "\\" in url:
            # Some parsers take it for a slash, some for a part of the user's name.
            raise HrefRefusedError(redact(url), "this is no web address (a backslash)")
        try:
            request = self._made(url, headers, question)
        except (RequestException, ValueError) as error:
            raise HrefRefusedError(redact(url), "this is no web address") from root_cause(error)
        # Judged is what will be sent, not what was given: parsers differ (CWE-918).
        sent_to = str(request.url)
        if came_from:
            self._policy.check_redirect(came_from, sent_to)
        else:
            self._policy.check_href(sent_to)
        if self._policy.takes_key(sent_to):
            request.headers.update(self._key.header(sent_to))
        return request

    def _made(
        self, url: str, headers: Mapping[str, str], question: bytes | None
    ) -> requests.PreparedRequest:
        """Make the request of its parts; a session would look for cookies and logins as well."""
        request = requests.PreparedRequest()
        request.prepare_method("GET" if question is None else "POST")
        request.prepare_url(url, None)
        request.prepare_headers({**self._session().headers, **headers})
        if question is not None:
            request.prepare_body(question, None)
        return request

    def _send(self, request: requests.PreparedRequest, href: str) -> requests.Response:
        """Send one request by its adapter.

        A Session would keep cookies, and read the bodies of redirects to their end.
        """
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
            # requests raises a bare OSError for a certificate file that is not there.
            raise self._untrusted(url, str(error)) from error

    def _route(self, session: requests.Session, url: str) -> dict[str, Any]:
        """Give proxies and certificates; loopback needs no proxy, which would see the key."""
        where = origin(url)
        if where not in self._routes:
            bundle = self._settings.ca_bundle
            verify = str(bundle.expanduser()) if bundle else True
            # It walks through the whole environment: once for each server is enough.
            route = session.merge_environment_settings(url, {}, True, verify, None)
            proxies = {} if is_loopback(where[1]) else route["proxies"]
            self._routes[where] = {"verify": route["verify"], "proxies": proxies}
        return self._routes[where]

    def _session(self) -> requests.Session:
        """Give this thread's session; a forked child must not write to its parent's sockets."""
        if getattr(self._local, "pid", None) != os.getpid():
            hide_queries()
            self._local.session, self._local.pid = _new_session(self._watch), os.getpid()
        session: requests.Session = self._local.session
        return session

    def _named(self, error: Exception, url: str, href: str) -> GeodesTasksError:
        """Give our error for one of requests, whose texts quote whole addresses."""
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
        """Pause the account for the portal's certificate, and blame the href for another's."""
        error = UntrustedServerError(redact(url), problem)
        return error if self._policy.is_portal(url) else TransferError(error.href, str(error))
