"""The web server of the exporter: its connections end, and there are not many at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from geodes_tasks.settings.urls import is_loopback

MOST_CONNECTIONS = 50
"""Number of connections at once; each has a thread. Further ones are closed unread."""
CONNECTION_SECONDS = 30.0
"""Seconds after which a connection is closed, whatever it does: Prometheus waits for 10."""


class _SilentHandler(WSGIRequestHandler):
    """Handler of one connection that logs nothing."""

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves the metrics of a registry, on every path."""

    # The server of prometheus_client waits for ever for a request that comes letter by letter,
    # with a thread for each, until it has no descriptors left.
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        """Listen; nothing is served before ``serve_forever``.

        Raises:
            OSError: the address cannot be used.
        """
        self._since: dict[Any, float] = {}
        """Connections that are open, with the time at which each began."""
        self._is_local, self._metrics = is_loopback(address), make_wsgi_app(registry)
        (self.address_family, *_), *_ = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        super().__init__((address, port), _SilentHandler)
        self.set_app(self._answer)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Return the metrics; on loopback only for a name of this machine."""
        host = ""
        with suppress(ValueError):
            host = urlsplit(f"//{environ.get('HTTP_HOST', 'localhost')}").hostname or ""
        # A page of another site can have its name resolved to this machine (DNS rebinding).
        if self._is_local and not is_loopback(host):
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"This exporter answers to the names of this machine only.\n"]
        metrics: Iterable[bytes] = self._metrics(environ, start)
        return metrics

    def verify_request(self, *_: Any) -> bool:
        """Return whether one more connection may be served."""
        return len(self._since) < MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections that are open for too long; called twice a second."""
        super().service_actions()
        latest = time.monotonic() - CONNECTION_SECONDS
        for request, since in list(self._since.items()):
            if since < latest:
                # Its thread waits in recv, which a close from here would not wake (close(2)).
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)
