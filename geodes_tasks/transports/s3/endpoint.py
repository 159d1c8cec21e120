"""One S3 endpoint: its connections, and one signed GET request over them.

obstore and boto3 were measured for this work. obstore is as fast, but follows a redirect to any
host with the session token in its headers, hides Retry-After, hangs in a forked process, and loses
the bytes of a piece that breaks off; boto3 needs several times the processor time for a request.
A GET of S3 is one of HTTP with a signature, so its connections are those of ``transports/http``.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager, Timeout
from urllib3.exceptions import HTTPError, ProtocolError

from geodes_tasks.errors import (
    ConfigError,
    GeodesTasksError,
    SourceUnavailableError,
    SourceUnreachableError,
    TransferError,
)
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.config import Settings
from geodes_tasks.settings.trust import tls_context
from geodes_tasks.settings.urls import masked
from geodes_tasks.transports.abort import Call, Calls
from geodes_tasks.transports.body_reader import root_cause
from geodes_tasks.transports.http.connections import Watch, hide_paths, watched
from geodes_tasks.transports.s3.credentials import Credentials
from geodes_tasks.transports.s3.refusals import UNREACHED, connection_failure
from geodes_tasks.transports.s3.signature import encoded, encoded_query, signed_headers

CONNECT_SECONDS = 2.0
"""Seconds for a connection: outside CNES the datalake is out of reach and the portal is not."""
UNREACHABLE_SECONDS = 10.0
"""Seconds, at most, for which a process does not connect to an endpoint that was out of reach; the
ledger tells the fleet."""
CONNECTIONS = 64
"""Number of connections to one endpoint that are kept open."""
ATTEMPTS = 2
"""Number of attempts for one request; the retry rules of the program do the rest."""

_AGENT = {"User-Agent": f"geodes-tasks/{__version__}"}


@dataclass(frozen=True, slots=True)
class S3Request:
    """A GET request to an S3 endpoint, without its signature."""

    endpoint: str
    """Scheme and host."""
    bucket: str
    """Name of the bucket; empty for the list of all buckets."""
    key: str
    """Key of the object; empty for the bucket itself."""
    shown: str
    """Address for messages."""
    call: Call
    """The call of the thread, which ``abort`` can interrupt."""
    condition: Mapping[str, str] = field(default_factory=dict)
    """Headers that select a part or a version."""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Return the path, percent-encoded as it is signed; the bucket is a part of it."""
        return f"/{encoded(self.bucket)}/{encoded(self.key, safe='/~')}" if self.bucket else "/"


class Endpoint:
    """The connections of this process to one endpoint. Safe to use from many threads."""

    def __init__(self, url: str, settings: Settings, calls: Calls) -> None:
        """Prepare; no connection is opened.

        Raises:
            ConfigError: the certificates or the proxy of the environment cannot be used.
        """
        hide_paths()
        self._url, self._host = url, urlsplit(url).netloc
        self._timeout = Timeout(CONNECT_SECONDS, settings.stall_seconds)
        self._memory_s = min(UNREACHABLE_SECONDS, settings.s3_again_seconds)
        self._unreachable = ""
        self._unreachable_until = 0.0
        self._pool = _new_pool(url, settings)
        watch = Watch(None, settings.stall_seconds, calls)
        self._pool.ConnectionCls = watched(self._pool.ConnectionCls, watch)  # type: ignore[assignment]  # a callable too

    def send(self, request: S3Request, credentials: Credentials, region: str) -> BaseHTTPResponse:
        """Send a request and return its response, whatever the status; follow no redirect.

        Raises:
            SourceUnreachableError: the endpoint is out of reach, now or not long ago.
            GeodesTasksError: there was no response; one class for each reaction.
        """
        if self._unreachable and time.monotonic() < self._unreachable_until:
            raise SourceUnreachableError("s3", request.shown, self._unreachable, True)
        question, attempts = encoded_query(request.query), 0
        target = f"{request.path}?{question}" if question else request.path
        # A proxy that forwards without a tunnel needs the whole address (RFC 9112 section 3.2.2).
        if self._pool.proxy is not None and self._pool.scheme == "http":
            target = self._url + target
        while True:
            attempts += 1
            signature = signed_headers(
                credentials, region, self._host, request.path, question, datetime.now(UTC)
            )
            try:
                return self._pool.urlopen(
                    "GET",
                    target,
                    headers={**_AGENT, **signature, **request.condition},
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=self._timeout,
                    preload_content=False,
                    decode_content=False,
                    enforce_content_length=False,  # the reader of the body counts
                )
            except HTTPError as error:
                if request.call.broken_off:
                    raise TransferError(request.shown, "broken off before the answer") from None
                # The server may have closed a connection that was kept open (RFC 9112 9.5).
                if attempts == ATTEMPTS or not isinstance(error, ProtocolError):
                    raise self._named(error, request.shown) from root_cause(error)
            except ValueError as error:
                # Not chained: the text of http.client quotes a header that it refuses.
                problem = f"the request cannot be sent ({type(error).__name__})"
                raise SourceUnavailableError("s3", request.shown, problem, True) from None

    def _named(self, error: HTTPError, shown: str) -> GeodesTasksError:
        named = connection_failure(error, shown)
        if isinstance(error, UNREACHED) and isinstance(named, SourceUnreachableError):
            # Packets that are lost without an answer cost each new connection the whole timeout.
            self._unreachable = named.problem
            self._unreachable_until = time.monotonic() + self._memory_s
        return named


def _new_pool(url: str, settings: Settings) -> HTTPConnectionPool:
    options: dict[str, Any] = {"ssl_context": _tls(settings)} if url.startswith("https:") else {}
    proxy = select_proxy(url, get_environ_proxies(url, None))
    if not proxy:
        return PoolManager(maxsize=CONNECTIONS, **options).connection_from_url(url)
    # Variables may lack the scheme, as in `proxy.example.org:3128`.
    address = proxy if "://" in proxy else f"http://{proxy}"
    adapter = HTTPAdapter(pool_maxsize=CONNECTIONS)
    try:
        manager = adapter.proxy_manager_for(address, **options)
    except ValueError as error:
        # Not chained: the text quotes the address with its password.
        lacks_socks = "SOCKS" in str(error)
        needed = "needs PySocks: pip install 'geodes-tasks[socks]'"
        problem = needed if lacks_socks else "is no valid address"
        raise ConfigError("https_proxy", f"the proxy {masked(proxy)} {problem}") from None
    pool: HTTPConnectionPool = manager.connection_from_url(url)
    return pool


def _tls(settings: Settings) -> ssl.SSLContext:
    """Return the context for TLS, with the certificates of our settings or of the AWS tools'."""
    bundle = settings.ca_bundle
    named: str | None = os.environ.get("AWS_CA_BUNDLE")
    config = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    if not bundle and not named and config.expanduser().is_file():
        from geodes_tasks.transports.s3.aws_session import aws_session

        named = aws_session().get_config_variable("ca_bundle")
    bundle = bundle or (Path(named) if named else None)
    try:
        return tls_context(bundle)
    except OSError as error:
        problem = f"{bundle}: {error.strerror or type(error).__name__}"
        raise ConfigError("GEODES_TASKS_CA_BUNDLE", problem) from error
