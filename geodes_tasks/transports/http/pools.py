"""Connections to servers, over the proxy that leads there: those of requests, with our limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool

from geodes_tasks.settings.config import Config
from geodes_tasks.settings.trust import tls_context
from geodes_tasks.settings.urls import masked
from geodes_tasks.transports.http.connections import Watch, watched


class Pools(HTTPAdapter):
    """The connections of requests, watched and with one TLS context."""

    def __init__(self, settings: Config, watch: Watch, connections: int = 10) -> None:
        """Prepare; opens no connection.

        Args:
            settings: Certificates of authorities.
            watch: Limits of each connection.
            connections: Number of connections to one server that are kept open.
        """
        super().__init__(max_retries=0, pool_maxsize=connections)
        self._settings, self._watch = settings, watch

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Return what pools differ by, with our TLS context: a hook of requests."""
        host, tls = super().build_connection_pool_key_attributes(*args, **kwargs)
        if host["scheme"] == "https":
            tls["ssl_context"] = tls_context(self._settings.ca_bundle)
        return host, tls

    def pool(self, request: Any, proxies: Mapping[str, str]) -> HTTPConnectionPool:
        """Return the connections for a request.

        Args:
            request: An object with its address as ``url``.
            proxies: Proxies by scheme, as requests has them.

        Raises:
            ValueError: the address, or that of the proxy, cannot be used.
            OSError: the certificates cannot be read.
        """
        pool: Any = self.get_connection_with_tls_context(request, True, proxies=dict(proxies))
        if isinstance(pool.ConnectionCls, type):
            pool.ConnectionCls = watched(pool.ConnectionCls, self._watch)
        watched_connections: HTTPConnectionPool = pool
        return watched_connections


def proxy_problem(error: ValueError, proxy: str) -> str:
    """Return what is wrong with a proxy of the environment; its password is not in the text."""
    problem = "is no valid address, correct the variable"
    if "SOCKS" in str(error):
        problem = "needs PySocks: pip install 'geodes-tasks[socks]'"
    return f"the proxy {masked(proxy)} {problem}"
