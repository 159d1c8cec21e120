"""Requests over connections that are kept: those of requests, with our limits and our errors."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3 import exceptions as wire

from geodes_tasks.errors import (
    GeodesTasksError,
    HrefRefusedError,
    ProxyFailedError,
    StalledError,
    TransferError,
    UnreachableError,
    UntrustedServerError,
)
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.trust import tls_context
from geodes_tasks.settings.urls import is_loopback, masked
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.body_reader import cause_name, root_cause
from geodes_tasks.transports.http.addresses import origin, site
from geodes_tasks.transports.http.connections import Watch, hide_paths, watched

AGENT = {"User-Agent": f"geodes-tasks/{__version__}"}
"""Header of every request."""
SERVERS = 10
"""Number of servers to which connections are kept open."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it is sent; the cookies of requests read its address and its headers."""

    url: str
    target: str
    """Path and query."""
    headers: dict[str, str]
    body: bytes | None = None
    """Body of a POST; None for a GET."""


class Pools(HTTPAdapter):
    """The connections of requests, watched and with one TLS context. Build it after a fork."""

    def __init__(
        self, bundle: Path | None, watch: Watch, kept: int = 10, *, proxies_loopback: bool = False
    ) -> None:
        """Prepare; opens no connection.

        Args:
            bundle: File with certificates of authorities; None for those of the system.
            watch: Limits of each connection.
            kept: Number of connections to one server that are kept open.
            proxies_loopback: Whether the proxy of the environment leads to loopback too.
        """
        super().__init__(SERVERS, kept, max_retries=0)
        self._bundle, self._watch, self._proxies_loopback = bundle, watch, proxies_loopback
        self._lock = threading.Lock()
        self._proxies: dict[str, dict[str, str]] = {}
        self._pools: dict[tuple[str, ssl.SSLContext | None], HTTPConnectionPool] = {}
        hide_paths()

    def open(
        self, request: WireRequest, shown: str, call: Call, timeout: Timeout
    ) -> BaseHTTPResponse:
        """Send a request, once and without redirects; return its response, its body not read.

        Args:
            request: What to send.
            shown: Its address for messages.
            call: The call of this thread.
            timeout: Of the connection, and of the head of the response.

        Raises:
            HrefRefusedError: the address, or a header, cannot be sent.
            ProxyFailedError: the proxy of the environment cannot be used.
            UntrustedServerError: the certificate of the server cannot be verified.
            UnreachableError: no connection could be made, so no request was sent.
            StalledError: no response arrived in time.
            TransferError: the connection broke.
        """
        try:
            pool = self._pool(request)
            # A proxy without a tunnel needs the whole address (RFC 9112 section 3.2.2).
            is_forwarded = pool.proxy is not None and pool.scheme == "http"
            return pool.urlopen(
                "GET" if request.body is None else "POST",
                request.url.partition("#")[0] if is_forwarded else request.target,
                body=request.body,
                headers=request.headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
                enforce_content_length=False,  # the reader of the body counts
            )
        except (RequestException, wire.HTTPError, OSError, ValueError) as error:
            named = self._named(error, request.url, shown, call, timeout)
            # A ValueError is about an address, and quotes it whole: of a proxy with its password.
            raise named from None if isinstance(error, ValueError) else root_cause(error)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Return what pools differ by, with our TLS context: a hook of requests."""
        host, tls = super().build_connection_pool_key_attributes(*args, **kwargs)
        if host["scheme"] == "https":
            tls["ssl_context"] = tls_context(self._bundle)
        return host, tls

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the connections of a proxy, with our context where it speaks TLS: a hook too."""
        if proxy.lower().startswith("https://"):
            kwargs["proxy_ssl_context"] = tls_context(self._bundle)
        return super().proxy_manager_for(proxy, **kwargs)

    def _pool(self, request: Any) -> HTTPConnectionPool:
        """Return the connections for a request, which has its address as ``url``."""
        place = site(request.url)
        # A bundle that was replaced makes a new context, and so new connections.
        key = place, None if place.startswith("http://") else tls_context(self._bundle)
        if found := self._pools.get(key):
            return found
        with self._lock:
            if len(self._pools) >= SERVERS:
                # requests keeps those used last; the connections of the others close.
                self._pools.clear()
            if place not in self._proxies:
                # This call reads the whole environment: once for each server is enough. Loopback
                # may use plain http, and a proxy would then see the key.
                is_direct = not self._proxies_loopback and is_loopback(origin(request.url)[1])
                self._proxies[place] = {} if is_direct else get_environ_proxies(place)
            proxies = self._proxies[place]
            pool: Any = self.get_connection_with_tls_context(request, True, proxies=proxies)
            if isinstance(pool.ConnectionCls, type):
                pool.ConnectionCls = watched(pool.ConnectionCls, self._watch)
            self._pools[key] = pool
        watched_pool: HTTPConnectionPool = pool
        return watched_pool

    def _named(
        self, error: Exception, url: str, shown: str, call: Call, timeout: Timeout
    ) -> GeodesTasksError:
        """Return the error of this package for one of a connection."""
        # The texts of urllib3 quote whole addresses, so only the inner cause is used.
        cause, name = root_cause(error), cause_name(error)
        proxy = select_proxy(url, self._proxies.get(site(url)))
        via = f"the proxy {masked(proxy)}" if proxy else ""
        over = f" over {via}" if proxy else ""
        broken = TransferError if call.connected else UnreachableError
        untrusted = "its TLS certificate is not trusted: "
        match error:
            case wire.SSLError() if isinstance(cause, ssl.SSLCertVerificationError):
                return UntrustedServerError(shown, untrusted + cause.verify_message)
            case wire.ReadTimeoutError():
                if call.connected:
                    return StalledError(shown, f"no answer within {timeout.read_timeout:g} s")
                # The TLS handshake, or the proxy.
                problem = f"no answer{over} within {timeout.connect_timeout:g} s"
                return UnreachableError(shown, problem)
            case wire.ConnectTimeoutError() if not isinstance(error, wire.NewConnectionError):
                return broken(shown, f"no connection{over} within {timeout.connect_timeout:g} s")
            case wire.ProxyError():
                # http.client: "Tunnel connection failed: 407 Proxy Authentication Required".
                words = "".join(c if c.isprintable() else " " for c in str(cause)[:200])
                return ProxyFailedError(shown, f"{via}: {words if 'Tunnel' in words else name}")
            case ValueError() if proxy:
                # The address of the request was parsed before: this is about the proxy's.
                problem = "is no valid address, correct the variable"
                if "SOCKS" in str(error):
                    problem = "needs PySocks: pip install 'geodes-tasks[socks]'"
                return ProxyFailedError(shown, f"{via} {problem}")
            case ValueError():
                return HrefRefusedError(shown, "this is no web address")
            case OSError() if not isinstance(error, RequestException):
                return UntrustedServerError(shown, f"{untrusted}{self._bundle}: {name}")
        return broken(shown, f"the connection{over} failed ({name})")
